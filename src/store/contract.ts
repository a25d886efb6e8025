/**
 * What ferryfs asks of a key-value store. The contract is small, so that any store can serve; the suite in
 * test/support/store-contract.ts holds every adapter to it.
 *
 * A namespace has four key spaces. A key is a string of 1 to 16,384 UTF-8 bytes without NUL; a metadata name
 * or value is visible ASCII. A value is opaque bytes of at most `capabilities.maxValueBytes`.
 */
export type KeySpace = 'files' | 'chunks' | 'dirs' | 'meta'

/**
 * Orders the states of one key. A higher epoch (owner lease taken over) wins over any version of a lower one.
 * Immutable objects (chunks) always carry {0, 0}: whatever exists under their key is the same bytes.
 */
export interface ObjectVersion {
  readonly epoch: number
  readonly version: number
}

export interface ObjectToStore {
  readonly value: Buffer
  readonly version: ObjectVersion
  /** MIME type, so that a browser or curl shows an inline file as what it is. */
  readonly contentType: string
  readonly metadata: Readonly<Record<string, string>>
}

export type StoredObject = ObjectToStore

export interface RequestOptions {
  /** Ends the wait; the outcome of a write is then unknown and the error says so. */
  readonly signal?: AbortSignal
}

export interface PutOptions extends RequestOptions {
  /** The caller has never stored anything under this key: an adapter may save itself a look at what is there. */
  readonly fresh?: boolean
  /**
   * Only if this is the version under the key, or the key is empty: `StoreSuperseded` otherwise, and where somebody else does
   * the same at the same time, for one of the two at least; with `capabilities.replaceSettleMs`, only once the key has been read
   * again so long after the answer and still has what was put.
   */
  readonly replaces?: ObjectVersion | 'nothing'
}

export interface GetOptions extends RequestOptions {
  /**
   * The version that the catalog knows to be there. An adapter of an eventually consistent store that finds
   * nothing or an older version tries harder (quorum, then all replicas), then throws `StoreUnavailable`:
   * not found is not absence, an old value is not the current one.
   */
  readonly expect?: ObjectVersion
  /**
   * No catalog knows what is there: every owner of the key is asked, the newest version that one of them holds is the
   * answer, and `StoreUnavailable` while one of them cannot be asked. Instead of `expect`.
   */
  readonly everywhere?: boolean
}

export interface StoreCapabilities {
  /** Largest value that `put` accepts, in bytes. */
  readonly maxValueBytes: number
  /** `keys()` works and is affordable. */
  readonly listing: boolean
  /**
   * Milliseconds after which a put that `replaces` is decided: whoever has written over it had read before it, and has done so by
   * then. 0 where its answer decides.
   */
  readonly replaceSettleMs: number
  /** Once `put` returned, every later `get` sees it: nothing to expect, nothing to try harder. */
  readonly consistent: boolean
  /** Where it has found out that it is not what was stored: what is wrong, and what to do. What it says may be older than that. */
  readonly damage?: string
}

/** Every answer comes in a later turn of the event loop than the request: a loop over many objects keeps nobody for all of it (P6). */
export interface KeyValueStore {
  /** The URL without secrets, for status and logs. */
  readonly url: string
  readonly capabilities: StoreCapabilities

  /**
   * The object with the highest version under the key; `undefined` only where the store says that there is none.
   * @throws StoreUnavailable, StoreTimeout, StoreCorrupt, StoreRejected
   */
  get(space: KeySpace, key: string, options?: GetOptions): Promise<StoredObject | undefined>

  /**
   * Stores durably (acknowledged means safe against power loss of what the store promises to survive), replacing
   * every older version. Doing it again with the same version is harmless. If a higher version is already there
   * nothing changes and `StoreSuperseded` is thrown.
   */
  put(space: KeySpace, key: string, object: ObjectToStore, options?: PutOptions): Promise<void>

  /**
   * Removes the object if its version is not higher than `version` (`StoreSuperseded` otherwise); absent is success.
   */
  delete(space: KeySpace, key: string, version: ObjectVersion, options?: RequestOptions): Promise<void>

  /** All keys of a space in no order; only with `capabilities.listing`. */
  keys(space: KeySpace, options?: RequestOptions): AsyncIterable<string>

  /** Resolves if the store answers now. @throws StoreUnavailable, StoreTimeout */
  ping(options?: RequestOptions): Promise<void>

  /** Releases connections and files. Pending requests fail with StoreUnavailable. */
  close(): Promise<void>
}

/** Whether a put of `own` that `replaces` that may go over what is there; also over itself, when it is repeated. */
export function mayReplace(
  found: ObjectVersion | undefined,
  own: ObjectVersion,
  replaces: ObjectVersion | 'nothing' | undefined,
): boolean {
  if (replaces === undefined) return true
  if (found === undefined) return replaces === 'nothing'
  return (
    compareVersions(found, own) === 0 || (replaces !== 'nothing' && compareVersions(found, replaces) === 0)
  )
}

/** -1, 0 or 1 as `a` is older than, the same as or newer than `b`. */
export function compareVersions(a: ObjectVersion, b: ObjectVersion): -1 | 0 | 1 {
  if (a.epoch !== b.epoch) return a.epoch < b.epoch ? -1 : 1
  if (a.version !== b.version) return a.version < b.version ? -1 : 1
  return 0
}
