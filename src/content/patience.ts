// Reads that the store answered, of which the usual time is taken, and as many of all reads.
const REMEMBERED = 128
// Before so many were answered nobody knows what is usual.
const LEAST_KNOWN = 16
const LONGEST_MS = 250
const SHORTEST_MS = 5

/**
 * How long a read waits for the store where the volume has the bytes as well: about twice what all but one in a hundred take, and
 * never longer than `LONGEST_MS`. One slow node of several does not make that longer, as what is not waited for is no answer; a
 * store that has become slower as a whole does, because then most reads are not.
 */
export class Patience {
  readonly #answers: number[] = []
  /** Of the last reads, whether the store answered in time. */
  readonly #inTime: boolean[] = []
  #ms = LONGEST_MS

  get milliseconds(): number {
    return this.#ms
  }

  /** The store answered after so long. */
  answered(milliseconds: number): void {
    remember(this.#answers, milliseconds)
    remember(this.#inTime, true)
    if (this.#answers.length < LEAST_KNOWN) return
    const sorted = this.#answers.toSorted((a, b) => a - b)
    const usual = sorted[Math.floor(sorted.length * 0.99)] ?? LONGEST_MS
    this.#ms = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, 2 * usual))
  }

  /** Nobody waited any longer. */
  spent(): void {
    remember(this.#inTime, false)
    const late = this.#inTime.filter((inTime) => !inTime).length
    if (late <= this.#inTime.length / 2) return
    this.#ms = Math.min(LONGEST_MS, 2 * this.#ms)
    this.#answers.length = 0
    this.#inTime.length = 0
  }
}

function remember<T>(list: T[], value: T): void {
  list.push(value)
  if (list.length > REMEMBERED) list.shift()
}
