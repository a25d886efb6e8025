import { requestsUnderWay } from './disk.ts'

interface Timer {
  readonly at: number
  readonly run: () => void
}

/** What setTimeout returns where somebody else's clock runs it. */
class VirtualTimeout {
  readonly #timers: Map<VirtualTimeout, Timer>

  constructor(timers: Map<VirtualTimeout, Timer>) {
    this.#timers = timers
  }

  cancel(): void {
    this.#timers.delete(this)
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  hasRef(): boolean {
    return false
  }

  [Symbol.toPrimitive](): number {
    return 0
  }
}

// Turns of the event loop between two steps of the clock: enough for whatever is under way in memory.
const TURNS = 12
const STEP_MS = 500
const STOPPED_AT_MS = 1_000_000

/**
 * Time that passes only when a test says so, for setTimeout and performance.now(); I/O and setImmediate stay real. So a
 * back-off of minutes takes no time, and no deadline ends a request because the machine was busy.
 */
class Clock {
  readonly #timers = new Map<VirtualTimeout, Timer>()
  readonly #realNow: () => number
  #ahead = 0
  #stoppedAt: number | undefined

  constructor() {
    this.#realNow = performance.now.bind(performance)
    performance.now = () => (this.#stoppedAt ?? this.#realNow()) + this.#ahead
    const set = (run: (...args: unknown[]) => void, delay = 0, ...args: unknown[]): VirtualTimeout => {
      const timeout = new VirtualTimeout(this.#timers)
      this.#timers.set(timeout, { at: this.#ahead + Math.max(1, delay), run: () => run(...args) })
      return timeout
    }
    const clear = (timeout: unknown): void => {
      if (timeout instanceof VirtualTimeout) timeout.cancel()
      else realClear(timeout as NodeJS.Timeout | undefined)
    }
    const realClear = globalThis.clearTimeout
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear })
  }

  /** From now on (or no longer) no real time passes at all: a run is a function of its seed. */
  stopReal(stopped: boolean): void {
    // Always from the same time on: sums of fractions round by how large they are, and a timer comes a step earlier or later.
    if (stopped) this.#ahead = 0
    this.#stoppedAt = stopped ? STOPPED_AT_MS : undefined
  }

  /** Nothing of what earlier runs left behind comes due in the next one. */
  forgetTimers(): void {
    this.#timers.clear()
  }

  /** Milliseconds until the next timer is due. */
  get next(): number | undefined {
    let first: number | undefined
    for (const { at } of this.#timers.values()) first = Math.min(first ?? at, at)
    return first === undefined ? undefined : Math.max(0, first - this.#ahead)
  }

  /** Lets time pass and runs what is due, in order. */
  advance(milliseconds: number): void {
    const end = this.#ahead + milliseconds
    for (;;) {
      let first: [VirtualTimeout, Timer] | undefined
      for (const entry of this.#timers) {
        if (entry[1].at <= end && (!first || entry[1].at < first[1].at)) first = entry
      }
      if (!first) break
      this.#timers.delete(first[0])
      this.#ahead = Math.max(this.#ahead, first[1].at)
      first[1].run()
    }
    this.#ahead = end
  }

  /**
   * Lets time pass until the promise settles, and returns what it gives.
   * @throws Error after `limit` steps: it waits for something that no passing of time brings
   */
  async until<T>(promise: Promise<T>, limit = 20_000): Promise<T> {
    let settled = false
    const note = (): void => {
      settled = true
    }
    promise.then(note, note)
    for (let step = 0; step < limit; step += 1) {
      await turns(TURNS)
      while (requestsUnderWay() > 0) await turns(1)
      if (settled) return promise
      this.advance(STEP_MS)
    }
    throw new Error(`still waiting after ${(limit * STEP_MS) / 1000} virtual seconds`)
  }

  /** The same for a condition. */
  async untilTrue(condition: () => boolean, limit?: number): Promise<void> {
    await this.until(
      (async () => {
        while (!condition()) await turns(1)
      })(),
      limit,
    )
  }
}

/** Resolves after so many turns of the event loop. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** One for the process: it replaces the process's own timers. */
export const clock = new Clock()
