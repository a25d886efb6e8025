import { setMaxListeners } from 'node:events'
import type {
  KeySpace,
  KeyValueStore,
  ObjectToStore,
  ObjectVersion,
  PutOptions,
  RequestOptions,
} from './contract.ts'
import { untilAborted } from '../base/concurrency.ts'
import { StoreRejected, StoreSuperseded } from './errors.ts'
import { StoreWrapper } from './wrapper.ts'

/**
 * A store that nothing is written to any more once `fence` was called, by whoever is in the middle of something either. What is on the
 * way to the store then is not waited for, and not sent again: it may still arrive.
 */
export class FencedStore extends StoreWrapper {
  readonly #fence = new AbortController()
  readonly #ready: () => Promise<void> | undefined

  /** @param ready to be waited for behind each write: whoever made it is about to commit that it is made */
  constructor(store: KeyValueStore, ready: () => Promise<void> | undefined = () => undefined) {
    super(store)
    this.#ready = ready
    // As many as there are requests.
    setMaxListeners(0, this.#fence.signal)
  }

  fence(reason: Error): void {
    this.#fence.abort(reason)
  }

  /** @throws StoreRejected once it is fenced */
  put(space: KeySpace, key: string, object: ObjectToStore, options: PutOptions = {}): Promise<void> {
    return this.#write(options, (signal) => this.store.put(space, key, object, { ...options, signal }))
  }

  /** @throws StoreRejected once it is fenced */
  delete(space: KeySpace, key: string, version: ObjectVersion, options: RequestOptions = {}): Promise<void> {
    return this.#write(options, (signal) => this.store.delete(space, key, version, { ...options, signal }))
  }

  async #write({ signal }: RequestOptions, write: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const fence = this.#fence.signal
    if (fence.aborted) throw this.#refusal()
    try {
      await write(signal ? AbortSignal.any([signal, fence]) : fence)
    } catch (error) {
      // Not to be taken for a store that does not answer.
      if (fence.aborted && !(error instanceof StoreSuperseded)) throw this.#refusal()
      throw error
    }
    const asked = this.#ready()
    if (asked) await untilAborted(asked, signal)
  }

  #refusal(): StoreRejected {
    const { reason } = this.#fence.signal
    return new StoreRejected(reason instanceof Error ? reason.message : 'nothing is written any more', {
      cause: reason,
    })
  }
}
