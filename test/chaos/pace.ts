/** How much of a phase's work is done, for what is to happen in the middle of it. */
export class Pace {
  #done = 0
  #isOver = false
  #progress = Promise.withResolvers<void>()

  get done(): number {
    return this.#done
  }

  /** The work begins: there is more to come. */
  begins(): void {
    this.#isOver = false
  }

  stepDone(): void {
    this.#done += 1
    this.#tell()
  }

  /** Nobody does any more of it, though there may have been more to do. */
  ends(): void {
    this.#isOver = true
    this.#tell()
  }

  /** Resolves when so many steps are done in all, or none will follow. */
  async reached(steps: number): Promise<void> {
    while (this.#done < steps && !this.#isOver) await this.#progress.promise
  }

  #tell(): void {
    this.#progress.resolve()
    this.#progress = Promise.withResolvers()
  }
}
