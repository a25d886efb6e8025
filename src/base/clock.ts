// Longer than the tick of any kernel that is built (HZ=100), with some room.
const TICK_NS = 20_000_000n
// Date.now() is cut to the millisecond; what is further from it was not the passing of time.
const APART_MS = 2

let originMs = performance.timeOrigin

/**
 * The time of day in nanoseconds since the epoch, as a local file system would take it: it follows when the clock is set.
 * In between it is fine enough to tell two changes apart.
 */
export function nowNs(): bigint {
  const wall = Date.now()
  let fine = originMs + performance.now()
  if (Math.abs(fine - wall) > APART_MS) {
    originMs += wall - fine
    fine = wall
  }
  return BigInt(Math.round(fine * 1000)) * 1000n
}

/** Milliseconds since the epoch by a clock that nobody sets while this process lives: for ages and for what is due. */
export function steadyMs(): number {
  return Math.round(performance.timeOrigin + performance.now())
}

/**
 * How many milliseconds to wait until a change of a file gets another ctime than this, where the kernel's clock for files
 * ticks. None where the ctime is of another time, be it ahead because the clock was set back.
 */
export function untilNextTick(ctimeNs: bigint, nowMs: number): number {
  const age = BigInt(nowMs) * 1_000_000n - ctimeNs
  if (age >= TICK_NS || age <= -TICK_NS) return 0
  return Number((TICK_NS - age) / 1_000_000n) + 1
}
