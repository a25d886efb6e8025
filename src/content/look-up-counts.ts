const FIRST_SLOTS = 1024
/** A count is one byte: whoever has a higher one is kept elsewhere. */
export const MOST_COUNTED = 255

/**
 * How often the kernel has looked up each of very many files that nobody does anything with: nine bytes for a slot, and not more than
 * two thirds of the slots in use. (A Map takes ten times that.) 0 counts as not there.
 */
export class LookUpCounts {
  // Open addressing with linear probing; what goes is closed up, so there are no tombstones.
  #inos = new BigUint64Array(FIRST_SLOTS)
  #counts = new Uint8Array(FIRST_SLOTS)
  #size = 0

  get size(): number {
    return this.#size
  }

  /** `count`: from 1 to `MOST_COUNTED`. */
  set(ino: bigint, count: number): void {
    if ((this.#size + 1) * 3 > this.#counts.length * 2) this.#resize(this.#counts.length * 2)
    const slot = this.#slotOf(ino)
    if (this.#counts[slot] === 0) this.#size += 1
    this.#inos[slot] = ino
    this.#counts[slot] = count
  }

  has(ino: bigint): boolean {
    return this.#counts[this.#slotOf(ino)] !== 0
  }

  /** Gives the count out, and forgets it. */
  take(ino: bigint): number {
    const slot = this.#slotOf(ino)
    const count = this.#counts[slot] ?? 0
    if (count === 0) return 0
    this.#closeUp(slot)
    this.#size -= 1
    if (this.#counts.length > FIRST_SLOTS && this.#size * 8 < this.#counts.length)
      this.#resize(this.#counts.length / 2)
    return count
  }

  /** Where it is, or would be. */
  #slotOf(ino: bigint): number {
    const mask = this.#counts.length - 1
    let slot = this.#homeOf(ino)
    while (this.#counts[slot] !== 0 && this.#inos[slot] !== ino) slot = (slot + 1) & mask
    return slot
  }

  #homeOf(ino: bigint): number {
    const low = Number(ino & 0xffff_ffffn)
    const high = Number((ino >> 32n) & 0xffff_ffffn)
    // Numbers that follow one another come far apart (a factor by the golden ratio).
    const mixed = Math.imul(low ^ Math.imul(high, 0x85eb_ca6b), 0x9e37_79b1)
    return (mixed ^ (mixed >>> 15)) & (this.#counts.length - 1)
  }

  /** Those behind an empty slot that could not be found any more move up. */
  #closeUp(from: number): void {
    const mask = this.#counts.length - 1
    let hole = from
    for (let slot = (from + 1) & mask; this.#counts[slot] !== 0; slot = (slot + 1) & mask) {
      const ino = this.#inos[slot] ?? 0n
      if (((slot - this.#homeOf(ino)) & mask) < ((slot - hole) & mask)) continue
      this.#inos[hole] = ino
      this.#counts[hole] = this.#counts[slot] ?? 0
      hole = slot
    }
    this.#counts[hole] = 0
  }

  #resize(slots: number): void {
    const [inos, counts] = [this.#inos, this.#counts]
    this.#inos = new BigUint64Array(slots)
    this.#counts = new Uint8Array(slots)
    for (let slot = 0; slot < counts.length; slot += 1) {
      const [ino, count] = [inos[slot], counts[slot]]
      if (ino === undefined || count === undefined || count === 0) continue
      const to = this.#slotOf(ino)
      this.#inos[to] = ino
      this.#counts[to] = count
    }
  }
}
