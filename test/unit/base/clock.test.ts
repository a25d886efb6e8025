import { afterEach, expect, test, vi } from 'vitest'
import { nowNs, untilNextTick } from '../../../src/base/clock.ts'

const HOUR_MS = 3_600_000
const real = Date.now

afterEach(() => vi.restoreAllMocks())

/** Sets the clock of the day, as `date -s` or a time server does. */
function step(milliseconds: number): void {
  vi.spyOn(Date, 'now').mockImplementation(() => real() + milliseconds)
}

const secondsFrom = (milliseconds: number): number =>
  Math.abs(Number(nowNs() / 1_000_000n) - milliseconds) / 1000

test('P1: the time that a change gets follows when the clock is set, in both directions', () => {
  expect(secondsFrom(real())).toBeLessThan(1)
  step(-HOUR_MS)
  expect(secondsFrom(real() - HOUR_MS)).toBeLessThan(1)
  step(24 * HOUR_MS)
  expect(secondsFrom(real() + 24 * HOUR_MS)).toBeLessThan(1)
  step(0)
  expect(secondsFrom(real())).toBeLessThan(1)
})

test('P1: two changes within a millisecond have two times', () => {
  for (;;) {
    const millisecond = Date.now()
    const first = nowNs()
    const next = performance.now() + 0.01
    while (performance.now() < next);
    const second = nowNs()
    if (Date.now() !== millisecond) continue
    expect(second).toBeGreaterThan(first)
    return
  }
})

test('P1: a copy waits out the tick of the ctime of its file, also when that lies a little ahead', () => {
  const now = 1_000_000
  const ctime = (milliseconds: number): bigint => BigInt(Math.round((now + milliseconds) * 1_000_000))
  expect(untilNextTick(ctime(-100), now)).toBe(0)
  expect(untilNextTick(ctime(-5), now)).toBeGreaterThanOrEqual(15)
  // Date.now() is cut to the millisecond, so the ctime of a change just now may lie ahead of it.
  expect(untilNextTick(ctime(0.9), now)).toBeGreaterThanOrEqual(20)
  // Whole seconds: the next second is waited for, and the one behind it where the volume may have even ones alone.
  expect(untilNextTick(1_001_000_000_000n, 1_001_300)).toBeGreaterThanOrEqual(700)
  expect(untilNextTick(1_001_000_000_000n, 1_002_100)).toBe(0)
  expect(untilNextTick(1_002_000_000_000n, 1_003_100)).toBeGreaterThanOrEqual(900)
  // The clock was set back by an hour: a change from now on has a ctime from before that of the file.
  expect(untilNextTick(ctime(HOUR_MS), now)).toBe(0)
})
