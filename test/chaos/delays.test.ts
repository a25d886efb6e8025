import { expect, test } from 'vitest'
import { Delays } from './delays.ts'

test('P6: one wait of everybody passes, a wait of every call does not', () => {
  const delays = new Delays(5000)
  delays.before()
  delays.took(200)
  delays.during()
  for (let caller = 0; caller < 4; caller += 1) delays.took(5200)
  for (let call = 0; call < 40; call += 1) delays.took(300)
  expect(delays.end()).toBeCloseTo(4 * 5000 + 40 * 100)
  expect(() => delays.check()).not.toThrow()
  delays.before()
  delays.during()
  for (let call = 0; call < 20; call += 1) delays.took(5200)
  // What comes after the fault is not its doing.
  delays.end()
  delays.took(60_000)
  expect(() => delays.check()).toThrow('P6: 20 calls')
})
