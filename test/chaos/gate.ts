/** Turns of clients pass here one by one; it is closed while nothing is mounted. */
export class Gate {
  /** How often it was closed or opened: what it says before and after a turn tells whether the mount went meanwhile. */
  changes = 0
  #closed: PromiseWithResolvers<void> | undefined

  close(): void {
    this.changes += 1
    this.#closed = Promise.withResolvers()
  }

  open(): void {
    this.changes += 1
    this.#closed?.resolve()
    this.#closed = undefined
  }

  /** Runs `begin` as soon as the gate is open, and in the same step: it cannot be closed in between. */
  async pass<T>(begin: () => T): Promise<T> {
    while (this.#closed) await this.#closed.promise
    return begin()
  }
}
