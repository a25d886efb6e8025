import type {
  KeySpace,
  KeyValueStore,
  ObjectToStore,
  ObjectVersion,
  PutOptions,
  RequestOptions,
} from '../../../src/store/contract.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { StoreWrapper } from '../../../src/store/wrapper.ts'

export type StoreChange =
  | { readonly kind: 'put'; readonly space: KeySpace; readonly key: string; readonly object: ObjectToStore }
  | {
      readonly kind: 'delete'
      readonly space: KeySpace
      readonly key: string
      readonly version: ObjectVersion
    }

/** A store whose changes are noted, each when the store has acknowledged it. */
export class NotedStore extends StoreWrapper {
  readonly #onChange: (change: StoreChange) => void

  constructor(store: KeyValueStore, onChange: (change: StoreChange) => void) {
    super(store)
    this.#onChange = onChange
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options?: PutOptions): Promise<void> {
    const copy = { ...object, value: Buffer.from(object.value) }
    await this.store.put(space, key, object, options)
    this.#onChange({ kind: 'put', space, key, object: copy })
  }

  async delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options?: RequestOptions,
  ): Promise<void> {
    await this.store.delete(space, key, version, options)
    this.#onChange({ kind: 'delete', space, key, version })
  }
}

/** A store on other machines, which keep their power: what it has acknowledged is there for good. */
export class DistantStore implements KeyValueStore {
  readonly url = 'distant:'
  readonly #memory: MemoryStore
  readonly #onChange: (change: StoreChange) => void
  readonly #turns: () => Promise<void>

  /** `onChange` is called as a change takes effect; `turns` passes the time that a request is on its way. */
  constructor(memory: MemoryStore, onChange: (change: StoreChange) => void, turns: () => Promise<void>) {
    this.#memory = memory
    this.#onChange = onChange
    this.#turns = turns
  }

  get capabilities(): KeyValueStore['capabilities'] {
    return this.#memory.capabilities
  }

  get: KeyValueStore['get'] = async (space, key, options) => {
    await this.#turns()
    return this.#memory.get(space, key, options)
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options?: PutOptions): Promise<void> {
    const copy = { ...object, value: Buffer.from(object.value) }
    await this.#turns()
    await this.#memory.put(space, key, copy, options)
    this.#onChange({ kind: 'put', space, key, object: copy })
    await this.#turns()
  }

  async delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options?: RequestOptions,
  ): Promise<void> {
    await this.#turns()
    await this.#memory.delete(space, key, version, options)
    this.#onChange({ kind: 'delete', space, key, version })
    await this.#turns()
  }

  keys: KeyValueStore['keys'] = (space, options) => this.#memory.keys(space, options)

  ping(options?: RequestOptions): Promise<void> {
    return this.#memory.ping(options)
  }

  /** The machines go on. */
  close(): Promise<void> {
    return Promise.resolve()
  }
}

/** What the store has after these changes. */
export async function replay(changes: readonly StoreChange[]): Promise<MemoryStore> {
  const memory = new MemoryStore()
  for (const change of changes) {
    if (change.kind === 'put') await memory.put(change.space, change.key, change.object)
    else await memory.delete(change.space, change.key, change.version)
  }
  return memory
}
