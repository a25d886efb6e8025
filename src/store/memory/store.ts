import { untilGivenUp } from '../abort.ts'
import {
  compareVersions,
  type GetOptions,
  type KeySpace,
  type KeyValueStore,
  mayReplace,
  type ObjectToStore,
  type ObjectVersion,
  type PutOptions,
  type RequestOptions,
  type StoreCapabilities,
  type StoredObject,
} from '../contract.ts'
import { StoreCorrupt, StoreSuperseded, StoreUnavailable } from '../errors.ts'
import { checkKey, checkObject, checkVersion, describeKey } from '../validate.ts'

const MAX_VALUE_BYTES = 64 * 1024 * 1024

function copyOf(object: StoredObject): StoredObject {
  return {
    value: Buffer.from(object.value),
    version: { ...object.version },
    contentType: object.contentType,
    metadata: { ...object.metadata },
  }
}

/**
 * A store for tests: keeps everything in this process and forgets it with it. Objects are copied on the way in and
 * out, so that a caller that goes on to change its buffer does not change the store.
 */
export class MemoryStore implements KeyValueStore {
  readonly url = 'memory:'
  readonly capabilities: StoreCapabilities = {
    maxValueBytes: MAX_VALUE_BYTES,
    listing: true,
    consistent: true,
    replaceSettleMs: 0,
  }
  readonly #spaces: Readonly<Record<KeySpace, Map<string, StoredObject>>> = {
    files: new Map(),
    chunks: new Map(),
    dirs: new Map(),
    meta: new Map(),
  }
  #closed = false

  async get(space: KeySpace, key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    checkKey(space, key)
    return this.#answer(`get ${describeKey(space, key)}`, options, () => {
      const found = this.#spaces[space].get(key)
      if (options.expect && (!found || compareVersions(found.version, options.expect) < 0)) {
        throw new StoreCorrupt(
          `${describeKey(space, key)}: the expected version is not there; restore the store`,
        )
      }
      return found && copyOf(found)
    })
  }

  async put(space: KeySpace, key: string, object: ObjectToStore, options: PutOptions = {}): Promise<void> {
    checkObject(space, key, object, MAX_VALUE_BYTES)
    const copy = copyOf(object)
    await this.#answer(`put ${describeKey(space, key)}`, options, () => {
      this.#checkNotSuperseded(space, key, object.version, options.replaces)
      this.#spaces[space].set(key, copy)
    })
  }

  async delete(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    options: RequestOptions = {},
  ): Promise<void> {
    checkKey(space, key)
    checkVersion(space, key, version)
    await this.#answer(`delete ${describeKey(space, key)}`, options, () => {
      this.#checkNotSuperseded(space, key, version)
      this.#spaces[space].delete(key)
    })
  }

  async *keys(space: KeySpace, options: RequestOptions = {}): AsyncIterable<string> {
    const what = `list ${space}`
    const keys = await this.#answer(what, options, () => [...this.#spaces[space].keys()])
    for (const key of keys) yield await this.#answer(what, options, () => key)
  }

  async ping(options: RequestOptions = {}): Promise<void> {
    await this.#answer('ping', options, () => undefined)
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #checkNotSuperseded(
    space: KeySpace,
    key: string,
    version: ObjectVersion,
    replaces?: PutOptions['replaces'],
  ): void {
    const found = this.#spaces[space].get(key)
    if (found && compareVersions(found.version, version) > 0) {
      throw new StoreSuperseded(`${describeKey(space, key)}: a newer version is there`)
    }
    if (!mayReplace(found?.version, version, replaces))
      throw new StoreSuperseded(
        `${describeKey(space, key)}: another version is there than was to be replaced`,
      )
  }

  // Every answer comes in a later turn of the event loop, as from a store that has to be asked.
  #answer<T>(what: string, options: RequestOptions, body: () => T): Promise<T> {
    return untilGivenUp(options.signal, what, async () => {
      await new Promise((resolve) => setImmediate(resolve))
      if (this.#closed) throw new StoreUnavailable(`${what}: the store is closed`)
      return body()
    })
  }
}
