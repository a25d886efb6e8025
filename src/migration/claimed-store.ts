import type {
  KeySpace,
  KeyValueStore,
  ObjectToStore,
  ObjectVersion,
  PutOptions,
  RequestOptions,
} from '../store/contract.ts'
import { StoreWrapper } from '../store/wrapper.ts'

/**
 * A store in which nothing is written before the namespace has been taken: for a mount that came up while the store did
 * not answer. Whoever writes first takes it; until that succeeds writing fails as it does in a store that is away.
 */
export class ClaimedStore extends StoreWrapper {
  readonly #claim: () => Promise<void>
  #claimed = false
  #claiming: Promise<void> | undefined

  /** `claim` takes the namespace, or rejects with a StoreError. */
  constructor(store: KeyValueStore, claim: () => Promise<void>) {
    super(store)
    this.#claim = claim
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options?: PutOptions): Promise<void> {
    if (!this.#claimed) await this.#take()
    return this.store.put(space, key, object, options)
  }

  async delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options?: RequestOptions,
  ): Promise<void> {
    if (!this.#claimed) await this.#take()
    return this.store.delete(space, key, version, options)
  }

  /** Takes the namespace now, if it is not taken yet. @throws StoreError */
  async claim(): Promise<void> {
    if (!this.#claimed) await this.#take()
  }

  #take(): Promise<void> {
    this.#claiming ??= this.#claim()
      .then(() => {
        this.#claimed = true
      })
      .finally(() => {
        this.#claiming = undefined
      })
    return this.#claiming
  }
}
