import { reasonOf } from '../../base/errors.ts'
import { StoreUnavailable } from '../errors.ts'

/** A request that waits for the store. */
export interface Waiting {
  /** The circuit has opened: stop waiting. */
  outage(cause: Error): void
  /** The store is being closed: stop waiting. */
  closed(): void
}

/** Hears of what happens to a circuit. */
export interface CircuitObserver {
  /** What the getters say may have changed; `failure` if an attempt or a ping has failed. */
  changed(failure?: Error): void
  /** The circuit has opened after a time in which requests succeeded. */
  opened(): void
}

// So many failures in a row, with no success between them, are no chance any more.
const FAILURES_TO_WORRY = 3

/**
 * Cuts off requests of one kind (reads, or writes: a full disk or a lost write quorum must not stop reads) while the
 * store does not serve them.
 *
 * It opens once nothing has succeeded for a whole `patienceMs`, and then ends all who wait. So an outage costs every
 * caller together one patience: whoever comes later is told at once. A library's breaker counts failures and tests
 * recovery with a caller's request; this one counts the time and is closed by a ping.
 *
 * A ping that answers while requests go on failing (no quorum) closes the circuit on trial: until a request succeeds,
 * the first failure opens it again.
 */
export class Circuit {
  readonly #patienceMs: number
  readonly #now: () => number
  readonly #observer: CircuitObserver
  readonly #waiting = new Set<Waiting>()
  #open = false
  #onTrial = false
  #failures = 0
  #lastSuccess = Number.NEGATIVE_INFINITY
  /** Start of the first request that failed with no success since; in the milliseconds of `now`. */
  #failingSince: number | undefined
  #onlyPingsFailed = true
  #pingFailed = false
  #lastError: Error | undefined

  /** `now` in milliseconds, monotonic. */
  constructor(patienceMs: number, now: () => number, observer: CircuitObserver) {
    this.#patienceMs = patienceMs
    this.#now = now
    this.#observer = observer
  }

  get isOpen(): boolean {
    return this.#open
  }

  /** Requests fail, and not by chance. */
  get isTroubled(): boolean {
    return this.#open || this.#failures >= FAILURES_TO_WORRY
  }

  /** Nothing has failed since the last success. */
  get isCalm(): boolean {
    return this.#failingSince === undefined
  }

  /** @throws StoreUnavailable at once while the circuit is open */
  admit(what: string, request: Waiting): void {
    if (this.#open) {
      const why = this.#lastError ? reasonOf(this.#lastError) : 'no answer'
      throw new StoreUnavailable(`${what}: the store is down (${why}); it is tried again in the background`, {
        cause: this.#lastError,
      })
    }
    this.#waiting.add(request)
  }

  leave(request: Waiting): void {
    this.#waiting.delete(request)
  }

  /** Ends all who wait. */
  close(): void {
    for (const request of this.#waiting) request.closed()
  }

  /** A request was answered, be it by a refusal. */
  succeeded(): void {
    this.#lastSuccess = this.#now()
    if (this.#failingSince === undefined) return
    this.#failingSince = undefined
    this.#failures = 0
    this.#onlyPingsFailed = true
    this.#pingFailed = false
    this.#onTrial = false
    this.#observer.changed()
  }

  /** An attempt of a request that began at `startedAt` failed. */
  failed(startedAt: number, error: Error, ping = false): void {
    this.#lastError = error
    this.#failures += 1
    this.#failingSince ??= Math.max(startedAt, this.#lastSuccess)
    if (ping) this.#pingFailed = true
    else this.#onlyPingsFailed = false
    if (this.#now() - this.#failingSince >= this.#patienceMs) this.trip(error)
    else this.#observer.changed(error)
  }

  /** A request that began at `startedAt` has waited in vain for the whole patience. */
  exhausted(startedAt: number, error: Error): void {
    this.failed(startedAt, error)
    if (this.#lastSuccess < startedAt) this.trip(error)
  }

  trip(error: Error): void {
    if (this.#open) return
    this.#open = true
    this.#lastError = error
    this.#failingSince ??= this.#now()
    for (const request of this.#waiting) request.outage(error)
    this.#observer.changed(error)
    if (!this.#onTrial) this.#observer.opened()
  }

  /** A ping was answered. */
  pinged(): void {
    // Where pings were answered all along, one more is no news: only a request can show that requests are served.
    if (this.#pingFailed) this.#failures = 0
    this.#pingFailed = false
    if (this.#open) {
      // `failingSince` stays, so that the first failure is one too many.
      this.#onTrial = true
      this.#open = false
    } else if (this.#onlyPingsFailed) {
      this.#failingSince = undefined
    }
    this.#observer.changed()
  }
}
