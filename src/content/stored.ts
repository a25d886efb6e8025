import { FsError } from '../base/errors.ts'
import { fileId, type Inode, LAYOUT_INLINE } from '../catalog/index.ts'
import { StoreCorrupt, StoreUnavailable } from '../store/errors.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount, type ReadCounters } from './context.ts'
import { sha256 } from './hash.ts'
import { chunkKey, decodeFileObject, isHole } from './manifest.ts'

const IMMUTABLE = { epoch: 0, version: 0 }

/**
 * Content as it lies in the store, chunk by chunk, verified against the checksum in the catalog before anybody sees it
 * (P1). Recently used chunks stay in memory; two readers of one chunk cause one request.
 */
export class StoredContent {
  readonly #context: ContentContext
  readonly #counters: ReadCounters
  readonly #cache = new Map<string, Buffer>()
  readonly #pending = new Map<string, Promise<Buffer>>()
  #bytes = 0

  constructor(context: ContentContext, counters: ReadCounters) {
    this.#context = context
    this.#counters = counters
  }

  /**
   * The bytes of one chunk of the stored version; shorter than CHUNK_BYTES only for the last.
   * @throws StoreError
   */
  async chunk(inode: Inode, index: number, signal?: AbortSignal): Promise<Buffer> {
    const name = this.#name(inode, index)
    const cached = this.#cache.get(name)
    if (cached) {
      this.#cache.delete(name)
      this.#cache.set(name, cached)
      this.#counters.cache += 1
      return cached
    }
    this.#counters.store += 1
    return this.#fetch(inode, index, name, signal)
  }

  /** Starts to fetch a chunk that will be wanted soon; failure is nobody's business yet. */
  prefetch(inode: Inode, index: number): void {
    if (inode.layout === LAYOUT_INLINE || index >= chunkCount(inode.storedSize)) return
    const name = this.#name(inode, index)
    if (this.#cache.has(name) || this.#pending.has(name) || this.#pending.size > 8) return
    this.#fetch(inode, index, name).catch(() => undefined)
  }

  /** Forgets everything, for instance to read back what the store really has. */
  clear(): void {
    this.#cache.clear()
    this.#bytes = 0
  }

  /**
   * Reads a chunk from the store past the cache and compares it with the catalog (P3, verify).
   * @throws StoreError
   */
  async readBack(inode: Inode, index: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#load(inode, index, signal)
  }

  #fetch(inode: Inode, index: number, name: string, signal?: AbortSignal): Promise<Buffer> {
    const pending = this.#pending.get(name)
    if (pending) return pending
    const loading = this.#load(inode, index, signal)
      .then((bytes) => {
        this.#keep(name, bytes)
        return bytes
      })
      .finally(() => this.#pending.delete(name))
    this.#pending.set(name, loading)
    return loading
  }

  async #load(inode: Inode, index: number, signal?: AbortSignal): Promise<Buffer> {
    const { store, catalog } = this.#context
    const options = signal ? { signal } : {}
    if (inode.layout === LAYOUT_INLINE) {
      const { key, digest, epoch, version } = inode
      if (key === undefined || digest === undefined) throw new FsError('EIO', 'no object is recorded')
      const object = await store.get('files', key, { expect: { epoch, version }, ...options })
      if (!object)
        throw new StoreUnavailable(`object ${key} is recorded as stored, but the store does not find it`)
      const record = decodeFileObject(key, object)
      if (!record.digest.equals(digest) || record.content.kind !== 'inline') {
        throw new StoreCorrupt(`object ${key}: not the content that the catalog expects`)
      }
      return record.content.bytes
    }
    const hash = catalog.chunk(inode.ino, index)
    if (hash && isHole(hash))
      return Buffer.alloc(Math.min(CHUNK_BYTES, inode.storedSize - index * CHUNK_BYTES))
    if (!hash) throw new FsError('EIO', `chunk ${index} of inode ${inode.ino} is not recorded`)
    const key = chunkKey(fileId(inode), index, hash)
    const object = await store.get('chunks', key, { expect: IMMUTABLE, ...options })
    if (!object)
      throw new StoreUnavailable(`chunk ${key} is recorded as stored, but the store does not find it`)
    if (!sha256(object.value).equals(hash)) {
      throw new StoreCorrupt(`chunk ${key}: its bytes do not have the checksum in its name`)
    }
    return object.value
  }

  #name(inode: Inode, index: number): string {
    if (inode.layout === LAYOUT_INLINE) return `${inode.key}#${inode.epoch}.${inode.version}`
    return `${fileId(inode)}/${index}-${this.#context.catalog.chunk(inode.ino, index)?.toString('hex') ?? ''}`
  }

  #keep(name: string, bytes: Buffer): void {
    const limit = this.#context.settings.memoryCacheBytes
    if (bytes.length > limit || this.#cache.has(name)) return
    this.#cache.set(name, bytes)
    this.#bytes += bytes.length
    for (const [oldest, value] of this.#cache) {
      if (this.#bytes <= limit) break
      this.#cache.delete(oldest)
      this.#bytes -= value.length
    }
  }
}

/** Offset and length of the part of chunk `index` that a request for [offset, end) wants. */
export function partOf(index: number, offset: number, end: number): { start: number; end: number } {
  const first = index * CHUNK_BYTES
  return { start: Math.max(0, offset - first), end: Math.min(CHUNK_BYTES, end - first) }
}
