import { crc32 } from 'node:zlib'

/**
 * Vector clocks as in vclock.erl of riak_core: actor → counter. The timestamps of the original serve pruning only,
 * which begins at 50 actors and is left out.
 */
export type VClock = ReadonlyMap<string, number>

/** One event: the put that an actor counted as its n-th. */
export interface Dot {
  readonly actor: string
  readonly counter: number
}

export const freshClock: VClock = new Map()

/** vclock:descends/2: a clock is its own descendant. */
export function descends(a: VClock, b: VClock): boolean {
  for (const [actor, counter] of b) {
    if ((a.get(actor) ?? 0) < counter) return false
  }
  return true
}

/** vclock:dominates/2 */
export function dominates(a: VClock, b: VClock): boolean {
  return descends(a, b) && !descends(b, a)
}

/** vclock:descends_dot/2 */
export function descendsDot(clock: VClock, dot: Dot): boolean {
  return (clock.get(dot.actor) ?? 0) >= dot.counter
}

/** vclock:merge/1 */
export function mergeClocks(a: VClock, b: VClock): VClock {
  const result = new Map(a)
  for (const [actor, counter] of b) result.set(actor, Math.max(counter, result.get(actor) ?? 0))
  return result
}

/** vclock:increment/2 */
export function increment(clock: VClock, actor: string): VClock {
  return new Map(clock).set(actor, (clock.get(actor) ?? 0) + 1)
}

export function sameClock(a: VClock, b: VClock): boolean {
  return descends(a, b) && descends(b, a)
}

/** riak_object:encode_vclock/1 in a form of its own; like Riak's it begins with `k` and clients treat it as opaque. */
export function encodeClock(clock: VClock): Buffer {
  const text = Buffer.from(JSON.stringify([...clock].sort()))
  const sum = Buffer.alloc(4)
  sum.writeUInt32BE(crc32(text))
  return Buffer.concat([Buffer.from('k'), sum, text])
}

/** @throws Error for bytes that are no clock; the connection's process dies of it, as in riak_object:decode_vclock/1. */
export function decodeClock(bytes: Buffer | undefined): VClock {
  if (bytes === undefined || bytes.length === 0) return freshClock
  const text = bytes.subarray(5)
  if (bytes[0] !== 0x6b || bytes.length < 5 || crc32(text) !== bytes.readUInt32BE(1))
    throw new Error('badarg')
  const entries: unknown = JSON.parse(text.toString())
  const result = new Map<string, number>()
  if (!Array.isArray(entries)) throw new Error('badarg')
  for (const entry of entries) {
    const [actor, counter]: unknown[] = Array.isArray(entry) ? entry : []
    if (typeof actor !== 'string' || typeof counter !== 'number') throw new Error('badarg')
    result.set(actor, counter)
  }
  return result
}
