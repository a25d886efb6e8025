// Files whose last reads are remembered.
const FILES = 1024
// Requests of one reader that are under way side by side arrive in any order, and the kernel reads ahead of it.
const NEAR_BYTES = 2 * 1024 * 1024

interface Place {
  readonly end: number
  readonly goesOn: boolean
}

/** Whether a file is read from front to back or here and there, so far as its last two reads tell. */
export class ReadPlaces {
  readonly #last = new Map<bigint, Place>()

  /** Bytes [from, to) of the file are being read. */
  note(ino: bigint, from: number, to: number): void {
    const last = this.#last.get(ino)
    const goesOn = Math.abs(from - (last?.end ?? 0)) <= NEAR_BYTES
    this.#last.delete(ino)
    this.#last.set(ino, { end: to, goesOn })
    if (this.#last.size <= FILES) return
    for (const oldest of this.#last.keys()) {
      this.#last.delete(oldest)
      break
    }
  }

  /** What follows the last read will be wanted next. */
  goesOn(ino: bigint): boolean {
    return this.#last.get(ino)?.goesOn ?? true
  }
}
