// Longer than the tick of any kernel that is built (HZ=100), with some room.
const TICK_NS = 20_000_000n
const SECOND_NS = 1_000_000_000n
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
 * How many milliseconds to wait until a change of a file gets another ctime than this, where the clock of the volume's files
 * ticks. None where the ctime is of another time, be it ahead because the clock was set back.
 */
export function untilNextTick(ctimeNs: bigint, nowMs: number): number {
  const age = BigInt(nowMs) * 1_000_000n - ctimeNs
  const tick = tickOf(ctimeNs)
  if (age >= tick || age <= -TICK_NS) return 0
  return Number((tick - age) / 1_000_000n) + 1
}

/**
 * Whether the volume keeps this file's times in whole seconds, as ext2, ext3 and ext4 with 128-byte inodes do: a time says so
 * itself, file by file, whatever the volume is and whoever made the file.
 */
export function isWholeSeconds(ctimeNs: bigint): boolean {
  return ctimeNs % SECOND_NS === 0n
}

/** How long changes of a file may get this one ctime. An even second may be one of two: FAT has no others. */
function tickOf(ctimeNs: bigint): bigint {
  if (!isWholeSeconds(ctimeNs)) return TICK_NS
  return (ctimeNs % (2n * SECOND_NS) === 0n ? 2n : 1n) * SECOND_NS + TICK_NS
}
