// What was postponed and is not any more is forgotten by and by.
const SWEPT_AT_ONCE = 8
const FORGOTTEN_AFTER_MS = 60_000

interface Wait {
  /** In milliseconds of performance.now(). */
  readonly until: number
  readonly waitMs: number
  /** When it was postponed first. */
  readonly since: number
}

/** Store work that is not to be tried again before its time, by the name of its task. */
export class Postponed {
  readonly #waits = new Map<string, Wait>()
  #sweeping = this.#waits.entries()
  /** Nothing comes up before: so long all that was looked at and was not ready need not be looked at again. */
  soonest = 0

  has(name: string): boolean {
    return this.#waits.has(name)
  }

  /** Since when it waits; undefined if it does not. */
  since(name: string): number | undefined {
    return this.#waits.get(name)?.since
  }

  isReady(name: string): boolean {
    const wait = this.#waits.get(name)
    if (!wait || wait.until <= performance.now()) return true
    this.soonest = Math.min(this.soonest, wait.until)
    return false
  }

  /** Twice as long as the last time, at most `longestMs`. */
  longer(name: string, firstMs: number, longestMs: number): void {
    const now = performance.now()
    const before = this.#waits.get(name)
    const waitMs = Math.min(longestMs, before ? before.waitMs * 2 : firstMs)
    this.wait(name, waitMs, before?.since ?? now)
  }

  wait(name: string, waitMs: number, since = performance.now()): void {
    const until = performance.now() + waitMs
    this.#waits.set(name, { until, waitMs, since })
    this.soonest = Math.min(this.soonest, until)
  }

  forget(name: string): void {
    this.#waits.delete(name)
  }

  /** All of it may be tried at once. */
  clear(): void {
    this.#waits.clear()
    this.soonest = 0
  }

  /** Forgets some of what has been ready for long. */
  sweep(): void {
    const old = performance.now() - FORGOTTEN_AFTER_MS
    for (let swept = 0; swept < SWEPT_AT_ONCE; swept += 1) {
      const { value, done } = this.#sweeping.next()
      if (done) {
        this.#sweeping = this.#waits.entries()
        return
      }
      if (value[1].until <= old) this.#waits.delete(value[0])
    }
  }
}
