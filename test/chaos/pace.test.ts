import { expect, test } from 'vitest'
import { Pace } from './pace.ts'

test('a fault that acts in the middle of the work waits for it', async () => {
  const pace = new Pace()
  const happened: string[] = []
  const fault = pace.reached(2).then(() => happened.push('fault'))
  for (const step of ['first', 'second']) {
    await Promise.resolve()
    happened.push(step)
    pace.stepDone()
  }
  await fault
  expect(happened).toEqual(['first', 'second', 'fault'])
})

// With a flapping store and a volume that failed clients stopped early, and the run hung for ever.
test('a fault does not wait for work that clients have given up', async () => {
  const pace = new Pace()
  pace.begins()
  const fault = pace.reached(10)
  pace.stepDone()
  pace.ends()
  await fault
  expect(pace.done).toBe(1)
})
