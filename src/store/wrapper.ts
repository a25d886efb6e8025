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

/** A store around another one, which answers everything but writes: what becomes of those is the wrapper's affair. */
export abstract class StoreWrapper implements KeyValueStore {
  protected readonly store: KeyValueStore

  constructor(store: KeyValueStore) {
    this.store = store
  }

  get url(): string {
    return this.store.url
  }

  get capabilities(): StoreCapabilities {
    return this.store.capabilities
  }

  get(space: KeySpace, key: string, options?: GetOptions): Promise<StoredObject | undefined> {
    return this.store.get(space, key, options)
  }

  abstract put(space: KeySpace, key: string, object: ObjectToStore, options?: PutOptions): Promise<void>

  abstract delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options?: RequestOptions,
  ): Promise<void>

  keys(space: KeySpace, options?: RequestOptions): AsyncIterable<string> {
    return this.store.keys(space, options)
  }

  ping(options?: RequestOptions): Promise<void> {
    return this.store.ping(options)
  }

  close(): Promise<void> {
    return this.store.close()
  }
}
