/** Turns of clients pass here one by one; it is closed while nothing is mounted. */
export class Gate {
  /** How often it was closed or opened: what it says before and after a turn tells whether the mount went meanwhile. */
  changes = 0
  #closed: PromiseWithResolvers<void> | undefined
  #isInspected = false

  close(): void {
    this.changes += 1
    this.#closed = Promise.withResolvers()
  }

  open(): void {
    this.changes += 1
    this.#closed?.resolve()
    this.#closed = undefined
    this.#isInspected = false
  }

  /** While everybody waits, whoever comes from now on until it is open is the one that looks at what is there. */
  inspect(): void {
    this.#isInspected = true
  }

  get isInspected(): boolean {
    return this.#isInspected
  }

  /** Runs `begin` as soon as the gate is open, and in the same step: it cannot be closed in between. */
  async pass<T>(begin: () => T): Promise<T> {
    while (this.#closed && !this.#isInspected) await this.#closed.promise
    return begin()
  }
}
