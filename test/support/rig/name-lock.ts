/** Many that share, or one alone; who wants to be alone comes before those that come after it. */
export class NameLock {
  #sharing = 0
  #alone = false
  readonly #waiting: Array<{ readonly alone: boolean; readonly go: () => void }> = []

  async shared<T>(body: () => Promise<T>): Promise<T> {
    await this.#enter(false)
    try {
      return await body()
    } finally {
      this.#sharing -= 1
      this.#next()
    }
  }

  async alone<T>(body: () => Promise<T>): Promise<T> {
    await this.#enter(true)
    try {
      return await body()
    } finally {
      this.#alone = false
      this.#next()
    }
  }

  #enter(alone: boolean): Promise<void> {
    return new Promise((go) => {
      this.#waiting.push({ alone, go })
      this.#next()
    })
  }

  #next(): void {
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      if (this.#alone || (first.alone && this.#sharing > 0)) return
      this.#waiting.shift()
      if (first.alone) this.#alone = true
      else this.#sharing += 1
      first.go()
    }
  }
}
