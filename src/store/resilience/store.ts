import {
  BulkheadRejectedError,
  bulkhead,
  ExponentialBackoff,
  handleWhen,
  retry,
  TaskCancelledError,
  TimeoutStrategy,
  timeout,
} from 'cockatiel'
import { reasonOf } from '../../base/errors.ts'
import type { Log } from '../../observe/log.ts'
import type {
  GetOptions,
  KeySpace,
  KeyValueStore,
  ObjectToStore,
  ObjectVersion,
  PutOptions,
  RequestOptions,
  StoreCapabilities,
  StoredObject,
} from '../contract.ts'
import { StoreError, StoreRejected, StoreTimeout, StoreUnavailable } from '../errors.ts'
import { describeKey } from '../validate.ts'
import { Circuit, type CircuitObserver } from './circuit.ts'
import { Operation } from './operation.ts'
import { Prober } from './prober.ts'

export interface ResilienceOptions {
  /** Longest time for one request in milliseconds, waiting and repetitions included. */
  readonly deadlineMs: number
  /** Longest time for one attempt in milliseconds; a third of the deadline unless given. */
  readonly attemptMs?: number
  /** Requests at the store at once. */
  readonly concurrency: number
  /** Requests that may wait for their turn; one more is refused. */
  readonly queue: number
  /** How often the store is asked, in milliseconds, while nothing else is heard of it; 5 seconds unless given. */
  readonly probeEveryMs?: number
  readonly log: Pick<Log, 'info' | 'warn'>
}

/** What is known of the store without asking it. */
export interface StoreHealth {
  readonly healthy: boolean
  /** The latest failure, also after it has passed. */
  readonly lastError: string | undefined
  /** When `healthy` became what it is. */
  readonly since: Date
}

const now = () => performance.now()

const PROBE_EVERY_MS = 5000

// Between the attempts of one request: soon enough to hide a blip, rare enough not to add to a store's trouble.
const BACKOFF = { initialDelay: 50, maxDelay: 2000 }

/**
 * Any store with bounds: a deadline for every request, repetition of what is worth repeating (a write whose outcome is
 * unknown too, for the contract makes it harmless), a limit on requests at once, and circuits that fail requests at
 * once while the store is down. All times are taken from the monotonic clock.
 */
export class ResilientStore implements KeyValueStore {
  readonly #store: KeyValueStore
  readonly #options: ResilienceOptions
  readonly #reads: Circuit
  readonly #writes: Circuit
  readonly #prober: Prober
  readonly #retries
  readonly #slots
  readonly #attempts
  readonly #attemptMs: number
  readonly #listeners = new Set<(health: StoreHealth) => void>()
  #healthy = true
  #since = new Date()
  #lastError: Error | undefined
  #heardAt = now()
  #closed = false

  constructor(store: KeyValueStore, options: ResilienceOptions) {
    this.#store = store
    this.#options = options
    const observer: CircuitObserver = {
      changed: (failure) => this.#changed(failure),
      opened: () => this.#prober.restart(),
    }
    this.#reads = new Circuit(options.deadlineMs, now, observer)
    this.#writes = new Circuit(options.deadlineMs, now, observer)
    this.#retries = retry(
      handleWhen((error) => error instanceof StoreError && error.retryable),
      { maxAttempts: Number.POSITIVE_INFINITY, backoff: new ExponentialBackoff(BACKOFF) },
    ).dangerouslyUnref()
    this.#slots = bulkhead(options.concurrency, options.queue)
    this.#attemptMs = options.attemptMs ?? Math.ceil(options.deadlineMs / 3)
    // An abort after a success would reach nobody, and its exception is half the cost of a request here.
    this.#attempts = timeout(this.#attemptMs, { strategy: TimeoutStrategy.Aggressive, abortOnReturn: false })
    this.#prober = new Prober(
      {
        wantsProbe: () => !this.#reads.isCalm || !this.#writes.isCalm,
        silence: () => now() - this.#heardAt,
        probe: () => this.#probe().catch(() => undefined),
      },
      options.probeEveryMs ?? PROBE_EVERY_MS,
    )
  }

  get url(): string {
    return this.#store.url
  }

  get capabilities(): StoreCapabilities {
    return this.#store.capabilities
  }

  get health(): StoreHealth {
    const lastError = this.#lastError && reasonOf(this.#lastError)
    return { healthy: this.#healthy, lastError, since: this.#since }
  }

  /** Calls `listener` whenever `healthy` changes, until the returned function is called. */
  onHealthChange(listener: (health: StoreHealth) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  get(space: KeySpace, key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    return this.#run(this.#reads, `get ${describeKey(space, key)}`, options, (signal) =>
      this.#store.get(space, key, { ...options, signal }),
    )
  }

  put(space: KeySpace, key: string, object: ObjectToStore, options: PutOptions = {}): Promise<void> {
    return this.#run(this.#writes, `put ${describeKey(space, key)}`, options, (signal) =>
      this.#store.put(space, key, object, { ...options, signal }),
    )
  }

  delete(space: KeySpace, key: string, version: ObjectVersion, options: RequestOptions = {}): Promise<void> {
    return this.#run(this.#writes, `delete ${describeKey(space, key)}`, options, (signal) =>
      this.#store.delete(space, key, version, { signal }),
    )
  }

  /** As in the contract; the deadline is for each step, and a listing that fails is not repeated from the middle. */
  async *keys(space: KeySpace, options: RequestOptions = {}): AsyncIterable<string> {
    const operation = this.#begin(this.#reads, `list ${space}`, options)
    const keys = this.#store.keys(space, { signal: operation.signal })[Symbol.asyncIterator]()
    try {
      for (;;) {
        operation.restartDeadline()
        operation.attemptBegins()
        const step = await operation.until(keys.next())
        operation.attemptEnds()
        this.#answered(this.#reads)
        if (step.done) return
        operation.pauseDeadline()
        yield step.value
      }
    } catch (error) {
      if (!operation.isEnded) this.#judge(this.#reads, operation, error)
      throw error
    } finally {
      operation.finish()
      // Not awaited: a listing that hangs would hang here too.
      keys.return?.()?.catch(() => undefined)
    }
  }

  async ping(options: RequestOptions = {}): Promise<void> {
    if (this.#closed) throw new StoreUnavailable('ping: the store is closed')
    await this.#probe(options.signal)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#prober.stop()
    this.#reads.close()
    this.#writes.close()
    await this.#store.close()
  }

  async #run<T>(
    circuit: Circuit,
    what: string,
    options: RequestOptions,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const operation = this.#begin(circuit, what, options)
    try {
      return await operation.until(
        this.#retries.execute(
          () => this.#slots.execute(() => this.#attempt(circuit, operation, call), operation.signal),
          operation.signal,
        ),
      )
    } catch (error) {
      if (error instanceof StoreError) throw operation.failure(error)
      if (!(error instanceof BulkheadRejectedError)) throw error
      throw operation.failure(
        new StoreUnavailable(`${what}: ${this.#options.queue} requests wait already; the store is too slow`),
      )
    } finally {
      operation.finish()
    }
  }

  #begin(circuit: Circuit, what: string, options: RequestOptions): Operation {
    if (this.#closed) throw new StoreUnavailable(`${what}: the store is closed`)
    const { deadlineMs } = this.#options
    return new Operation(what, { circuit, startedAt: now(), deadlineMs, callerSignal: options.signal })
  }

  async #attempt<T>(
    circuit: Circuit,
    operation: Operation,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    operation.attemptBegins()
    try {
      const result = await this.#attempts.execute(({ signal }) => call(signal), operation.signal)
      operation.attemptEnds()
      this.#answered(circuit)
      return result
    } catch (raw) {
      const error = raw instanceof TaskCancelledError ? this.#timedOut(operation.what) : raw
      operation.attemptEnds(error instanceof StoreError ? error : undefined)
      // What ended the operation has been judged; this attempt was only called off, and none may follow.
      if (operation.isEnded) throw new TaskCancelledError()
      this.#judge(circuit, operation, error)
      throw error
    }
  }

  #timedOut(what: string): StoreTimeout {
    return new StoreTimeout(`${what}: no answer within ${this.#attemptMs} ms`)
  }

  #answered(circuit: Circuit): void {
    this.#heardAt = now()
    circuit.succeeded()
  }

  #judge(circuit: Circuit, operation: Operation, error: unknown): void {
    if (!(error instanceof StoreError)) return
    if (error.retryable) {
      circuit.failed(operation.startedAt, error)
    } else if (!(error instanceof StoreRejected)) {
      // A refusal may come from the adapter's own checks and says nothing about the store.
      this.#answered(circuit)
    }
  }

  async #probe(callerSignal?: AbortSignal): Promise<void> {
    const startedAt = now()
    try {
      await this.#attempts.execute(({ signal }) => this.#store.ping({ signal }), callerSignal)
      this.#heardAt = now()
      this.#reads.pinged()
      this.#writes.pinged()
    } catch (raw) {
      const error = raw instanceof TaskCancelledError ? this.#timedOut('ping') : raw
      if (error instanceof StoreError && !callerSignal?.aborted && !this.#closed) {
        this.#unanswered(startedAt, error)
      }
      throw error
    }
  }

  #unanswered(startedAt: number, error: StoreError): void {
    const circuits = [this.#reads, this.#writes]
    for (const circuit of circuits) circuit.failed(startedAt, error, true)
    // One patience is spent, and now nothing answers at all: the other kind of request need not spend its own.
    if (circuits.some((circuit) => circuit.isOpen)) for (const circuit of circuits) circuit.trip(error)
  }

  #changed(failure?: Error): void {
    if (failure) this.#lastError = failure
    if (!this.#reads.isCalm || !this.#writes.isCalm) this.#prober.hurry()
    const healthy = !this.#reads.isTroubled && !this.#writes.isTroubled
    if (healthy === this.#healthy) return
    this.#healthy = healthy
    this.#since = new Date()
    const fields = { store: this.url, ...(healthy ? {} : { err: this.#lastError }) }
    if (healthy) this.#options.log.info(fields, 'the store answers again')
    else this.#options.log.warn(fields, 'the store does not serve requests')
    for (const listener of this.#listeners) listener(this.health)
  }
}
