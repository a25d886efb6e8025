/** Where numbers are written down. */
export interface CounterStore {
  get(name: string): string | undefined
  set(name: string, value: string): void
}

// Numbers set aside by one write. A kill wastes at most this many.
const BLOCK = 1000n

/** Hands out numbers that are never handed out again, whatever dies in between. Ask inside a transaction. */
export class Counter {
  readonly #meta: CounterStore
  readonly #name: string
  #next: bigint
  #limit: bigint

  constructor(meta: CounterStore, name: string, first: bigint) {
    this.#meta = meta
    this.#name = name
    this.#next = BigInt(meta.get(name) ?? first)
    this.#limit = this.#next
  }

  next(): bigint {
    if (this.#next >= this.#limit) {
      this.#limit = this.#next + BLOCK
      this.#meta.set(this.#name, this.#limit.toString())
    }
    return this.#next++
  }

  /** The same where nothing can be written. What is to stay of whatever got the number needs `write` first. */
  nextUnwritten(): bigint {
    const number = this.#next++
    if (this.#limit < this.#next) this.#limit = this.#next
    return number
  }

  /** A predecessor has handed this number out unwritten. */
  skip(number: bigint): void {
    if (this.#next > number) return
    this.#next = number + 1n
    if (this.#limit < this.#next) this.#limit = this.#next
  }

  /** Numbers that were handed out unwritten are written down. */
  write(): void {
    if (this.#next < this.#limit) return
    this.#limit = this.#next + BLOCK
    this.#meta.set(this.#name, this.#limit.toString())
  }

  /** A transaction failed: the block it set aside is not written down, so the next number sets one aside again. */
  rolledBack(): void {
    this.#limit = this.#next
  }

  /** Every number handed out by an earlier process is lower, every one from now on is not. Nothing is written. */
  get upcoming(): bigint {
    return this.#next
  }

  raise(least: bigint): void {
    if (this.#next >= least) return
    this.#next = least
    this.#limit = least
    this.#meta.set(this.#name, least.toString())
  }
}
