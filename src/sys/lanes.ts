/** Runs at most so many bodies at once, in the order in which they came; each is told which of the lanes it has. */
export class Lanes {
  readonly #free: number[]
  readonly #waiting: Array<(lane: number) => void> = []

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, nth) => nth)
  }

  async run<T>(body: (lane: number) => Promise<T>): Promise<T> {
    const free = this.#free.shift()
    const lane = free ?? (await new Promise<number>((resolve) => this.#waiting.push(resolve)))
    try {
      return await body(lane)
    } finally {
      const next = this.#waiting.shift()
      if (next) next(lane)
      else this.#free.unshift(lane)
    }
  }
}
