import type {
  GetOptions,
  KeySpace,
  KeyValueStore,
  RequestOptions,
  StoreCapabilities,
  StoredObject,
} from './contract.ts'
import { StoreRejected } from './errors.ts'

/** A store that nothing is written to, whoever tries. */
export class ReadOnlyStore implements KeyValueStore {
  readonly #store: KeyValueStore

  constructor(store: KeyValueStore) {
    this.#store = store
  }

  get url(): string {
    return this.#store.url
  }

  get capabilities(): StoreCapabilities {
    return this.#store.capabilities
  }

  get(space: KeySpace, key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    return this.#store.get(space, key, options)
  }

  async put(space: KeySpace, key: string): Promise<void> {
    throw new StoreRejected(`${space} ${key}: the store is only read`)
  }

  async delete(space: KeySpace, key: string): Promise<void> {
    throw new StoreRejected(`${space} ${key}: the store is only read`)
  }

  keys(space: KeySpace, options?: RequestOptions): AsyncIterable<string> {
    return this.#store.keys(space, options)
  }

  ping(options?: RequestOptions): Promise<void> {
    return this.#store.ping(options)
  }

  close(): Promise<void> {
    return this.#store.close()
  }
}
