import type { Counter, Histogram } from 'prom-client'
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
} from './contract.ts'
import { StoreCorrupt, StoreRejected, StoreSuperseded, StoreTimeout, StoreUnavailable } from './errors.ts'

/** Metrics that the caller has registered under names of its own. */
export interface StoreMetrics {
  /** One for every request. `outcome` is ok, absent, or the kind of failure. */
  readonly operations: Counter<'operation' | 'space' | 'outcome'>
  /** Time of every request, failed ones included. */
  readonly seconds: Histogram<'operation' | 'space'>
  /** Bytes of values; `direction` is read or written. */
  readonly bytes: Counter<'direction'>
}

type Operation = 'get' | 'put' | 'delete' | 'keys' | 'ping'

const FAILURES = [
  [StoreUnavailable, 'unavailable'],
  [StoreTimeout, 'timeout'],
  [StoreRejected, 'rejected'],
  [StoreCorrupt, 'corrupt'],
  [StoreSuperseded, 'superseded'],
] as const

function outcomeOf(error: unknown): string {
  return FAILURES.find(([kind]) => error instanceof kind)?.[1] ?? 'error'
}

/** A store that counts and times what is asked of it, and changes nothing. */
export class InstrumentedStore implements KeyValueStore {
  readonly #store: KeyValueStore
  readonly #metrics: StoreMetrics

  constructor(store: KeyValueStore, metrics: StoreMetrics) {
    this.#store = store
    this.#metrics = metrics
  }

  get url(): string {
    return this.#store.url
  }

  get capabilities(): StoreCapabilities {
    return this.#store.capabilities
  }

  async get(space: KeySpace, key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    const found = await this.#measure('get', space, () => this.#store.get(space, key, options), outcomeOfGet)
    if (found) this.#metrics.bytes.inc({ direction: 'read' }, found.value.length)
    return found
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options?: PutOptions): Promise<void> {
    await this.#measure('put', space, () => this.#store.put(space, key, object, options))
    this.#metrics.bytes.inc({ direction: 'written' }, object.value.length)
  }

  delete(space: KeySpace, key: string, version: ObjectVersion, options?: RequestOptions): Promise<void> {
    return this.#measure('delete', space, () => this.#store.delete(space, key, version, options))
  }

  /** One operation for a whole listing, from its start to its end, the caller's part included. */
  async *keys(space: KeySpace, options?: RequestOptions): AsyncIterable<string> {
    const stop = this.#metrics.seconds.startTimer({ operation: 'keys', space })
    let outcome = 'ok'
    try {
      yield* this.#store.keys(space, options)
    } catch (error) {
      outcome = outcomeOf(error)
      throw error
    } finally {
      stop()
      this.#metrics.operations.inc({ operation: 'keys', space, outcome })
    }
  }

  ping(options?: RequestOptions): Promise<void> {
    return this.#measure('ping', '', () => this.#store.ping(options))
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  async #measure<T>(
    operation: Operation,
    space: KeySpace | '',
    request: () => Promise<T>,
    outcomeOfResult: (result: T) => string = () => 'ok',
  ): Promise<T> {
    const stop = this.#metrics.seconds.startTimer({ operation, space })
    try {
      const result = await request()
      this.#metrics.operations.inc({ operation, space, outcome: outcomeOfResult(result) })
      return result
    } catch (error) {
      this.#metrics.operations.inc({ operation, space, outcome: outcomeOf(error) })
      throw error
    } finally {
      stop()
    }
  }
}

function outcomeOfGet(found: StoredObject | undefined): string {
  return found ? 'ok' : 'absent'
}
