// More than so many would help nobody who reads them, and a list of a million would be a burden for whoever sends it.
const MOST = 10_000
const MOST_CHARACTERS = 1024 * 1024

/** What was found, of which there may be any amount: the first of it is kept, all of it is counted (P6). */
export class BoundedList<T> {
  readonly #items: T[] = []
  readonly #lengthOf: (item: T) => number
  #room = MOST_CHARACTERS
  #count = 0

  /** `lengthOf`: characters of an item. */
  constructor(lengthOf: (item: T) => number) {
    this.#lengthOf = lengthOf
  }

  add(item: T): void {
    this.#count += 1
    if (!this.hasRoom) return
    this.#room -= this.#lengthOf(item)
    this.#items.push(item)
  }

  /** Whether the next one will be kept. */
  get hasRoom(): boolean {
    return this.#items.length < MOST && this.#room > 0
  }

  get items(): readonly T[] {
    return this.#items
  }

  get count(): number {
    return this.#count
  }
}
