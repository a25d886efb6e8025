/** Lets at most `limit` holders in at once, in the order in which they came. */
export class Semaphore {
  #free: number
  readonly #waiting: Array<() => void> = []

  constructor(limit: number) {
    this.#free = limit
  }

  async acquire(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1
      return
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  release(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#free += 1
  }

  async run<T>(body: () => Promise<T>): Promise<T> {
    await this.acquire()
    try {
      return await body()
    } finally {
      this.release()
    }
  }
}

/** One body at a time for each key, in the order in which they came. */
export class KeyedMutex<K> {
  readonly #tails = new Map<K, Promise<void>>()

  isLocked(key: K): boolean {
    return this.#tails.has(key)
  }

  async run<T>(key: K, body: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key)
    let release: () => void = () => undefined
    const tail = new Promise<void>((resolve) => {
      release = resolve
    })
    this.#tails.set(key, tail)
    try {
      if (before) await before
      return await body()
    } finally {
      release()
      if (this.#tails.get(key) === tail) this.#tails.delete(key)
    }
  }
}

/** Runs one job for all who ask while it waits its turn. Whoever asks while it runs gets the next run. */
export class SharedJob {
  readonly #job: () => Promise<void>
  #running: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(job: () => Promise<void>) {
    this.#job = job
  }

  get isBusy(): boolean {
    return this.#running !== undefined
  }

  run(): Promise<void> {
    if (!this.#running) {
      this.#running = this.#job().finally(() => {
        this.#running = undefined
      })
      return this.#running
    }
    // The job under way may have begun before the caller's change.
    const after = () => {
      this.#next = undefined
      return this.run()
    }
    this.#next ??= this.#running.then(after, after)
    return this.#next
  }
}

/**
 * The promise's outcome, or what `reasonOf` makes of the signal (its own reason, unless given) if that is aborted first;
 * what the promise stands for goes on.
 */
export async function untilAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  reasonOf: (signal: AbortSignal) => unknown = ({ reason }) => reason,
): Promise<T> {
  if (!signal) return promise
  if (signal.aborted) {
    promise.catch(() => undefined)
    throw reasonOf(signal)
  }
  let stop: () => void = () => undefined
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(reasonOf(signal))
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Resolves after so many milliseconds, by the clock of `setTimeout`, which tests may set. */
export const delay = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))
