import { reasonOf } from '../../base/errors.ts'
import { type StoreError, StoreTimeout, StoreUnavailable } from '../errors.ts'
import type { Circuit, Waiting } from './circuit.ts'

/** One request of a caller, from its start to its answer or its end: deadline, outage, abort or close. */
export class Operation implements Waiting {
  readonly what: string
  readonly startedAt: number
  /** Aborted when the request has ended: nothing may begin any more. */
  readonly signal: AbortSignal
  readonly #circuit: Circuit
  readonly #deadlineMs: number
  readonly #controller = new AbortController()
  readonly #callerSignal: AbortSignal | undefined
  readonly #onAbort = () => this.#end(this.#givenUp())
  #timer: NodeJS.Timeout | undefined
  #ended: StoreError | undefined
  #reject: ((error: StoreError) => void) | undefined
  #attempts = 0
  #outcomeUnknown = false
  #lastError: StoreError | undefined

  /** @throws StoreUnavailable if the circuit is open or the caller has given up already */
  constructor(
    what: string,
    options: {
      readonly circuit: Circuit
      readonly startedAt: number
      readonly deadlineMs: number
      readonly callerSignal: AbortSignal | undefined
    },
  ) {
    this.what = what
    this.startedAt = options.startedAt
    this.signal = this.#controller.signal
    this.#circuit = options.circuit
    this.#deadlineMs = options.deadlineMs
    this.#callerSignal = options.callerSignal
    if (this.#callerSignal?.aborted) throw this.#givenUp()
    this.#circuit.admit(what, this)
    this.#callerSignal?.addEventListener('abort', this.#onAbort, { once: true })
    this.restartDeadline()
  }

  get isEnded(): boolean {
    return this.#ended !== undefined
  }

  /** The deadline counts from now. */
  restartDeadline(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#deadline(), this.#deadlineMs)
  }

  /** No deadline while it is the caller who takes the time. */
  pauseDeadline(): void {
    clearTimeout(this.#timer)
  }

  /** The result of `work`, or the error that ended the operation first. One at a time. */
  until<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#ended) reject(this.#ended)
      this.#reject = reject
      work.then(resolve, reject)
    })
  }

  attemptBegins(): void {
    this.#attempts += 1
  }

  attemptEnds(error?: StoreError): void {
    this.#attempts -= 1
    if (!error) return
    this.#lastError = error
    // Once unknown it stays so: a later attempt that was refused says nothing about an earlier one.
    this.#outcomeUnknown ||= error.outcomeUnknown
  }

  /** The final error, with what earlier attempts may have done. */
  failure(error: StoreError): StoreError {
    if (!this.#outcomeUnknown || error.outcomeUnknown || !error.retryable) return error
    return new StoreUnavailable(error.message, { cause: error, outcomeUnknown: true })
  }

  outage(cause: Error): void {
    this.#end(
      new StoreUnavailable(`${this.what}: the store is down (${reasonOf(cause)})`, {
        cause,
        outcomeUnknown: this.#mayHaveHappened,
      }),
    )
  }

  closed(): void {
    this.#end(
      new StoreUnavailable(`${this.what}: the store is closed`, { outcomeUnknown: this.#mayHaveHappened }),
    )
  }

  /** Releases the timer and the listener. */
  finish(): void {
    clearTimeout(this.#timer)
    this.#callerSignal?.removeEventListener('abort', this.#onAbort)
    this.#circuit.leave(this)
  }

  get #mayHaveHappened(): boolean {
    return this.#outcomeUnknown || this.#attempts > 0
  }

  #deadline(): void {
    const failed = this.#lastError !== undefined || this.#attempts > 0
    const why = this.#lastError ? `; last: ${reasonOf(this.#lastError)}` : ''
    const text = `${this.what}: no answer within ${this.#deadlineMs} ms${why}`
    const error = this.#mayHaveHappened
      ? new StoreTimeout(text, { cause: this.#lastError })
      : new StoreUnavailable(failed ? text : `${text}: all connections are in use`, {
          cause: this.#lastError,
        })
    this.#end(error)
    // Who only queued for a slot has not tried the store.
    if (failed) this.#circuit.exhausted(this.startedAt, error)
  }

  #givenUp(): StoreError {
    const cause: unknown = this.#callerSignal?.reason
    return this.#mayHaveHappened
      ? new StoreTimeout(`${this.what}: given up before the store answered`, { cause })
      : new StoreUnavailable(`${this.what}: given up before it began`, { cause })
  }

  #end(error: StoreError): void {
    if (this.#ended) return
    this.#ended = error
    this.#controller.abort(error)
    this.#reject?.(error)
  }
}
