import { untilAborted } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { contentKey, fileId, type Inode, LAYOUT_INLINE } from '../catalog/index.ts'
import type { ObjectVersion } from '../store/contract.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../store/errors.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount, type ReadCounters } from './context.ts'
import type { ChunkCache } from './disk-cache.ts'
import { sha256 } from './hash.ts'
import { decodeFileObject, HOLE, isHole } from './manifest.ts'
import { Patience } from './patience.ts'
import { unpacked } from './zeros.ts'

const IMMUTABLE = { epoch: 0, version: 0 }

// What a chunk in memory takes besides its bytes: its name, a Buffer, a place in the map. Of small files it is nearly all.
const ENTRY_BYTES = 512

interface ChunkReference {
  /** Identifies the bytes among all that there ever were. */
  readonly name: string
  readonly space: 'files' | 'chunks'
  readonly key: string
  readonly hash: Buffer
  /** Blocks of zeros, which a chunk's object leaves out. */
  readonly zeros: Buffer | undefined
  readonly expect: ObjectVersion
  readonly length: number
}

/** A chunk on its way. */
interface Fetch {
  readonly bytes: Promise<Buffer>
  /** Aborted when it is called off. */
  readonly called: AbortController
  waiting: number
}

/**
 * Content as it lies in the store, chunk by chunk, verified against the checksum in the catalog before anybody sees it
 * (P1). Recently used chunks stay in memory; two readers of one chunk cause one request.
 */
export class StoredContent {
  readonly #context: ContentContext
  readonly #counters: ReadCounters
  readonly #disk: ChunkCache
  readonly #cache = new Map<string, Buffer>()
  readonly #pending = new Map<string, Fetch>()
  #bytes = 0
  /** How long to wait where the bytes are somewhere else as well. */
  readonly patience = new Patience()

  constructor(context: ContentContext, counters: ReadCounters, disk: ChunkCache) {
    this.#context = context
    this.#disk = disk
    this.#counters = counters
  }

  /**
   * The bytes of one chunk of the stored version; shorter than CHUNK_BYTES only for the last.
   * @throws StoreError
   */
  async chunk(inode: Inode, index: number, signal?: AbortSignal): Promise<Buffer> {
    const wanted = this.#refer(inode, index)
    const cached = this.#inMemory(wanted)
    if (cached) return cached
    const joins = this.#pending.has(wanted.name)
    try {
      // Others may wait for the same chunk: one caller's end of patience ends only its own wait.
      return await this.#await(wanted, signal)
    } catch (error) {
      // It had begun for somebody else: that its time is up, or that the store was away then, says little about now.
      if (!joins || !(error instanceof StoreError && error.retryable) || signal?.aborted) throw error
      return this.#await(wanted, signal)
    }
  }

  /**
   * Bytes [start, end) of a chunk, where they are at hand without all the others; else `undefined`. @throws StoreError
   */
  async part(inode: Inode, index: number, start: number, end: number): Promise<Buffer | undefined> {
    const wanted = this.#refer(inode, index)
    const { name, hash, zeros, length } = wanted
    if (end > length) return undefined
    const cached = this.#inMemory(wanted)
    if (cached) return cached.subarray(start, end)
    // Without its blocks of zeros the bytes lie elsewhere in the object.
    if (zeros || isHole(hash) || this.#pending.has(name)) return undefined
    const part = await this.#disk.part(hash, start, end)
    if (part) this.#counters.cache += 1
    return part
  }

  /** A chunk in memory, which is the one used last then. */
  #inMemory({ name }: ChunkReference): Buffer | undefined {
    const cached = this.#cache.get(name)
    if (!cached) return undefined
    this.#cache.delete(name)
    this.#cache.set(name, cached)
    this.#counters.cache += 1
    return cached
  }

  /** One that nobody waits for any more is called off. */
  async #await(wanted: ChunkReference, signal: AbortSignal | undefined): Promise<Buffer> {
    const fetch = this.#fetch(wanted)
    fetch.waiting += 1
    try {
      return await untilAborted(fetch.bytes, signal)
    } finally {
      fetch.waiting -= 1
      if (fetch.waiting === 0) fetch.called.abort(new StoreUnavailable('nobody waits for it any more'))
    }
  }

  /** Starts to fetch a chunk that will be wanted soon; failure is nobody's business yet. */
  prefetch(inode: Inode, index: number): void {
    if (inode.layout === LAYOUT_INLINE || index >= chunkCount(inode.storedSize)) return
    const wanted = this.#refer(inode, index)
    if (this.#cache.has(wanted.name) || this.#pending.has(wanted.name) || this.#pending.size > 8) return
    // Wanted by the next read, which is not here yet.
    const fetch = this.#fetch(wanted)
    fetch.waiting += 1
    fetch.bytes.catch(() => undefined)
  }

  /**
   * Reads a chunk from the store past the caches and compares it with the catalog (P3, verify).
   * @throws StoreError
   */
  async readBack(inode: Inode, index: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#load(this.#refer(inode, index), signal)
  }

  #fetch(wanted: ChunkReference): Fetch {
    const pending = this.#pending.get(wanted.name)
    if (pending && !pending.called.signal.aborted) return pending
    const called = new AbortController()
    const bytes = this.#loadCached(wanted, called.signal)
      .then((loaded) => {
        this.#keep(wanted.name, loaded)
        return loaded
      })
      .finally(() => {
        if (this.#pending.get(wanted.name) === fetch) this.#pending.delete(wanted.name)
      })
    const fetch: Fetch = { bytes, called, waiting: 0 }
    this.#pending.set(wanted.name, fetch)
    return fetch
  }

  async #loadCached(wanted: ChunkReference, signal: AbortSignal): Promise<Buffer> {
    if (isHole(wanted.hash)) return Buffer.alloc(wanted.length)
    const cached = await this.#disk.get(wanted.hash)
    if (cached) {
      this.#counters.cache += 1
      return bytesOf(wanted, cached)
    }
    const began = performance.now()
    const value = await this.#loadValue(wanted, signal)
    this.patience.answered(performance.now() - began)
    this.#counters.store += 1
    void this.#disk.put(wanted.hash, value)
    return bytesOf(wanted, value)
  }

  async #load(wanted: ChunkReference, signal?: AbortSignal): Promise<Buffer> {
    if (isHole(wanted.hash)) return Buffer.alloc(wanted.length)
    return bytesOf(wanted, await this.#loadValue(wanted, signal))
  }

  async #loadValue({ space, key, hash, expect }: ChunkReference, signal?: AbortSignal): Promise<Buffer> {
    const object = await this.#context.store.get(space, key, signal ? { expect, signal } : { expect })
    if (!object) {
      throw new StoreUnavailable(`object ${key} is recorded as stored, but the store does not find it`)
    }
    if (space === 'files') {
      const record = decodeFileObject(key, object)
      if (!record.digest.equals(hash) || record.content.kind !== 'inline') {
        throw new StoreCorrupt(`object ${key}: not the content that the catalog expects`)
      }
      return record.content.bytes
    }
    if (!sha256(object.value).equals(hash)) {
      throw new StoreCorrupt(`chunk ${key}: its bytes do not have the checksum in its name`)
    }
    return object.value
  }

  /**
   * What the catalog says now about a chunk. Taken in one piece before anything is waited for: bytes that arrive later
   * belong to this, whatever the file has become meanwhile.
   */
  #refer(inode: Inode, index: number): ChunkReference {
    const { key, digest, epoch, version } = inode
    if (inode.layout === LAYOUT_INLINE) {
      if (key === undefined || digest === undefined) throw new FsError('EIO', 'no object is recorded')
      return {
        name: `${key}#${epoch}.${version}`,
        space: 'files',
        key,
        hash: digest,
        zeros: undefined,
        expect: { epoch, version },
        length: inode.storedSize,
      }
    }
    // A chunk that is not listed is a hole.
    const { content } = this.#context.catalog
    const hash = content.chunk(inode, index) ?? HOLE
    const zeros = content.zeros(inode.generation, index)
    const own = contentKey(fileId(inode), 0, index, hash)
    const length = Math.min(CHUNK_BYTES, inode.storedSize - index * CHUNK_BYTES)
    return { name: own, space: 'chunks', key: own, hash, zeros, expect: IMMUTABLE, length }
  }

  #keep(name: string, bytes: Buffer): void {
    const limit = this.#context.settings.memoryCacheBytes
    if (costOf(bytes) > limit || this.#cache.has(name)) return
    this.#cache.set(name, bytes)
    this.#bytes += costOf(bytes)
    for (const [oldest, value] of this.#cache) {
      if (this.#bytes <= limit) break
      this.#cache.delete(oldest)
      this.#bytes -= costOf(value)
    }
  }
}

const costOf = (bytes: Buffer): number => bytes.length + ENTRY_BYTES

/** The chunk that an object holds. @throws StoreCorrupt */
function bytesOf({ key, zeros, length }: ChunkReference, value: Buffer): Buffer {
  const bytes = unpacked(value, zeros, length)
  if (!bytes) throw new StoreCorrupt(`chunk ${key}: it has other blocks than the catalog says`)
  return bytes
}

/** Offset and length of the part of chunk `index` that a request for [offset, end) wants. */
export function partOf(index: number, offset: number, end: number): { start: number; end: number } {
  const first = index * CHUNK_BYTES
  return { start: Math.max(0, offset - first), end: Math.min(CHUNK_BYTES, end - first) }
}
