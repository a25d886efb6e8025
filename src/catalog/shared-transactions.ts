/** What a commit needs of the catalog. */
interface Committer {
  /** Runs the body in a transaction. */
  commit<T>(body: () => T): T
  /** As `ready` of the catalog. */
  ready(): Promise<void> | undefined
  /** Runs what waits for the commit. */
  follow(): void
}

interface Waiting {
  body(): unknown
  resolve(value: unknown): void
  reject(reason: unknown): void
}

/** Transactions that all share who ask in the same turn of the event loop: a commit costs more than what most bodies do. */
export class SharedTransactions {
  readonly #committer: Committer
  readonly #waiting: Waiting[] = []

  constructor(committer: Committer) {
    this.#committer = committer
  }

  /** Committed when it resolves; the body runs at the end of the turn, and once more if another one failed. */
  run<T>(body: () => T): Promise<T> {
    if (this.#waiting.length === 0) void this.#runWhenReady()
    return new Promise((resolve, reject) => this.#waiting.push({ body, resolve, reject } as Waiting))
  }

  /** In a later turn of the event loop, once the disk takes writes. */
  async #runWhenReady(): Promise<void> {
    const asked = this.#committer.ready()
    if (asked) await asked
    setImmediate(() => this.#runAll())
  }

  #runAll(): void {
    const waiting = this.#waiting.splice(0)
    let results: unknown[]
    try {
      results = this.#committer.commit(() => waiting.map(({ body }) => body()))
    } catch (error) {
      // Nothing of it took place. Each by itself, so that the one that fails is the only one.
      if (waiting.length > 1) for (const one of waiting) this.#runAlone(one)
      else waiting[0]?.reject(error)
      return
    }
    try {
      this.#committer.follow()
      for (const [index, { resolve }] of waiting.entries()) resolve(results[index])
    } catch (error) {
      // Committed, so not to be run again.
      for (const { reject } of waiting) reject(error)
    }
  }

  #runAlone({ body, resolve, reject }: Waiting): void {
    try {
      const result = this.#committer.commit(body)
      this.#committer.follow()
      resolve(result)
    } catch (error) {
      reject(error)
    }
  }
}
