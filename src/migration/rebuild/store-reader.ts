import { reasonOf } from '../../base/errors.ts'
import type { DirectoryHeader, RefusedEntry } from '../../content/index.ts'
import {
  decodeHeader,
  decodeShard,
  type DirectoryShard,
  headerKey,
  MOST_VERSION,
  shardKey,
} from '../../content/index.ts'
import type { KeySpace, KeyValueStore, ObjectVersion, StoredObject } from '../../store/contract.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../../store/errors.ts'

/** Everybody who would have it was asked: it is lost. */
class Missing extends StoreUnavailable {}

const MOST_REASON = 600

/**
 * Why something is lost, in words.
 * @throws StoreUnavailable where another try may find it: what is made without it would look complete; what is no failure of a store
 */
export function reasonOfLoss(error: unknown, path: string): string {
  if (!(error instanceof StoreError)) throw error
  if (error.retryable && !(error instanceof Missing)) {
    throw new StoreUnavailable(
      `/${path}: ${reasonOf(error)}; nothing was made: rebuild again when all of the store answers`,
      { cause: error },
    )
  }
  const reason = reasonOf(error)
  return reason.length > MOST_REASON ? `${reason.slice(0, MOST_REASON)}…` : reason
}

/** The store has said all that it ever will: it is lost, or damaged. */
export function isOfNoUse(error: unknown): error is StoreError {
  return error instanceof StoreError && (!error.retryable || error instanceof Missing)
}

/** The store has no answer for it now; it may have one later. */
export function isUnanswered(error: unknown): error is StoreError {
  return error instanceof StoreError && !isOfNoUse(error)
}

/** Reads a store of which no catalog says what is in it. */
export class StoreReader {
  readonly #store: KeyValueStore
  readonly #bound: (() => AbortSignal) | undefined
  /** Of all that was read. */
  highestVersion = 0

  /** @param bound ends the wait for one object */
  constructor(store: KeyValueStore, bound?: () => AbortSignal) {
    this.#store = store
    this.#bound = bound
  }

  /**
   * There is no catalog to say which version is there, and an older record would leave out what came later.
   * @throws StoreError
   */
  async newest(space: KeySpace, key: string): Promise<StoredObject> {
    const signal = this.#bound?.()
    const object = await this.#store.get(space, key, { everywhere: true, ...(signal && { signal }) })
    if (!object)
      throw new Missing(`${space === 'dirs' ? 'directory record' : 'object'} ${key} is not in the store`)
    const { epoch, version } = object.version
    if (version > MOST_VERSION || epoch > MOST_VERSION)
      throw new StoreCorrupt(`object ${key}: no ferryfs has written its version ${epoch}.${version}`)
    this.highestVersion = Math.max(this.highestVersion, version)
    return object
  }

  /** @throws StoreError */
  async header(id: string): Promise<DirectoryHeader> {
    const key = headerKey(id)
    return decodeHeader(key, await this.newest('dirs', key))
  }

  /** @throws StoreError */
  async shard(
    id: string,
    generation: number,
    shard: number,
  ): Promise<
    DirectoryShard & { readonly refused: readonly RefusedEntry[]; readonly version: ObjectVersion }
  > {
    const key = shardKey(id, generation, shard)
    const object = await this.newest('dirs', key)
    return { ...decodeShard(key, object), version: object.version }
  }
}
