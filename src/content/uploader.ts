import { release } from 'node:os'
import { isDirectory, isRegular, isSymlink } from '../base/attributes.ts'
import { untilNextTick } from '../base/clock.ts'
import { KeyedMutex, Semaphore } from '../base/concurrency.ts'
import { faultPoint } from '../base/faults.ts'
import {
  attributesOf,
  chunkKey,
  DIRTY_CONTENT,
  DIRTY_LOST,
  fileId,
  type Inode,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  pageKey,
} from '../catalog/index.ts'
import { contentTypeOf, fileKey } from '../store/layout.ts'
import { readlinkAt, type Stat } from '../sys/index.ts'
import type { NodeActivity } from './activity.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount } from './context.ts'
import { sha256 } from './hash.ts'
import type { LegacyFiles } from './legacy-files.ts'
import {
  type ChunkList,
  EMBEDDED_CHUNKS,
  encodeFileObject,
  type FileRecord,
  HOLE,
  isHole,
  METADATA_XATTR_BYTES,
  PAGE_CHUNKS,
} from './manifest.ts'
import type { Reader } from './reader.ts'
import type { Staging } from './staging.ts'
import {
  fingerprintOf,
  legacyStat,
  matches,
  placeOf,
  readLegacyXattrs,
  requireLegacy,
  takeOver,
} from './takeover.ts'
import type { VolumeProof } from './volume-proof.ts'
import type { Writer } from './writer.ts'

/** What became of an upload. `busy`: the file kept changing; to be tried again. `gone`: there is nothing to store. */
export type UploadResult = 'stored' | 'busy' | 'gone'

const ROUNDS = 3
// Chunks of one file under way at once, and of all files together: bounds the memory of a copy (P6).
const CHUNKS_PER_FILE = 4
const CHUNKS_TOTAL = 16
const IMMUTABLE = { epoch: 0, version: 0 }

interface Snapshot {
  readonly record: FileRecord
  readonly stat: Stat | undefined
  readonly target: Buffer | undefined
  /** Where the catalog's own chunks came from. */
  readonly base: Pick<Inode, 'base' | 'fingerprint'>
  /** Content need not be read: only attributes changed since the store saw it. */
  readonly sameContent: boolean
}

interface Copied {
  readonly content: ChunkList
  readonly layout: number
  /** New hashes by chunk; chunks that are not listed are as the catalog has them. */
  readonly chunks: ReadonlyMap<number, Buffer>
  readonly pages: ReadonlyMap<number, Buffer>
}

/**
 * Brings the store up to date with one file: chunks, then the file's object, then the catalog. One upload of a file at a
 * time. A copy during which the file changed is never recorded as its content.
 */
export class Uploader {
  readonly #context: ContentContext
  readonly #legacy: LegacyFiles
  readonly #staging: Staging
  readonly #reader: Reader
  readonly #writer: Writer
  readonly #proof: VolumeProof
  readonly #locks = new KeyedMutex<bigint>()
  readonly #slots = new Semaphore(CHUNKS_TOTAL)
  /** Before 6.13 the kernel's clock for ctime ticks every few milliseconds, so two changes in one tick look like one. */
  readonly #coarse = isOlder(release(), 6, 13)
  #underWay = 0

  constructor(
    context: ContentContext,
    parts: { legacy: LegacyFiles; staging: Staging; reader: Reader; writer: Writer; proof: VolumeProof },
  ) {
    this.#context = context
    this.#legacy = parts.legacy
    this.#staging = parts.staging
    this.#reader = parts.reader
    this.#writer = parts.writer
    this.#proof = parts.proof
  }

  /** Runs `body` while no upload of the file is under way. */
  exclusively<T>(ino: bigint, body: () => Promise<T>): Promise<T> {
    return this.#locks.run(ino, body)
  }

  /** Files are being uploaded, by whomever. */
  get isBusy(): boolean {
    return this.#underWay > 0
  }

  /** @throws StoreError, FsError */
  upload(ino: bigint, signal?: AbortSignal): Promise<UploadResult> {
    return this.#locks.run(ino, async () => {
      const node = this.#context.activity.of(ino)
      node.pins += 1
      this.#underWay += 1
      try {
        for (let round = 0; round < ROUNDS; round += 1) {
          const result = await this.#attempt(ino, node, signal)
          if (result !== 'busy') return result
        }
        return 'busy'
      } finally {
        this.#underWay -= 1
        node.pins -= 1
        this.#context.activity.settle(ino)
      }
    })
  }

  async #attempt(ino: bigint, node: NodeActivity, signal: AbortSignal | undefined): Promise<UploadResult> {
    const { catalog, store, epoch } = this.#context
    const work = catalog.outbox.find('upload', ino)
    let inode = catalog.get(ino)
    if (!inode || inode.orphan || isDirectory(inode.mode)) {
      if (work) catalog.transaction(() => catalog.outbox.done(work))
      return 'gone'
    }
    if (node.changing > 0 || node.volumeWrites > 0) return 'busy'
    // Only where the legacy copy is to go: on a volume that stays, a change past the overlay has to be seen.
    if (this.#context.policy().removesLegacy && inode.authority === 'legacy')
      inode = takeOver(this.#context, ino)
    const changes = node.changes
    const unchanged = (): boolean => node.changes === changes && node.changing === 0
    const snapshot = this.#snapshot(inode)
    await this.#pastCoarseClock(snapshot.stat)
    const claimed = await catalog.shared(() => this.#claim(ino))
    if (!claimed) return 'busy'
    const { key, version, fresh } = claimed
    faultPoint('content.upload.claimed')
    if (!fresh) await this.#letGo(ino)
    const copied = await this.#copy(ino, snapshot, signal)
    if (!copied || !unchanged() || !this.#isSame(ino, snapshot)) return 'busy'
    const object = encodeFileObject(snapshot.record, copied.content)
    if (this.#replacesOnlyCopy(ino, object.digest)) {
      await this.#writer.preserve(ino, signal)
      return 'busy'
    }
    faultPoint('content.upload.chunks-stored')
    await store.put(
      'files',
      key,
      {
        value: object.value,
        metadata: object.metadata,
        version: { epoch, version },
        contentType: copied.layout === LAYOUT_INLINE ? contentTypeOf(key) : 'application/json',
      },
      { fresh, ...(signal && { signal }) },
    )
    faultPoint('content.upload.object-stored')
    const isClean = (): boolean => unchanged() && this.#isSame(ino, snapshot)
    const stored = { version, digest: object.digest, isClean, work }
    const clean = await catalog.shared(() => this.#record(ino, snapshot, copied, stored))
    return clean ? 'stored' : 'busy'
  }

  /**
   * An inline object holds the file's own bytes under the one key that the next version gets too. Where the file still
   * takes bytes from it, a crash or a lost acknowledgement after the write would leave them nowhere.
   */
  #replacesOnlyCopy(ino: bigint, digest: Buffer): boolean {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (inode?.authority !== 'catalog' || inode.base !== 'store' || inode.layout !== LAYOUT_INLINE)
      return false
    const read = isRegular(inode.mode) && inode.baseLimit > 0 && inode.storedSize > 0
    return read && !catalog.isStaged(ino, 0) && inode.digest?.equals(digest) !== true
  }

  /**
   * The object under the key is going to be replaced. A power loss must not bring back a catalog that needs it: what the file
   * is now is flushed before, with its bytes where they are in its staging file alone.
   */
  async #letGo(ino: bigint): Promise<void> {
    const inode = this.#context.catalog.get(ino)
    if (inode?.authority === 'catalog') await this.#writer.sync(ino)
    await this.#context.catalog.flush()
  }

  /** Key and version of the object to be written; both are in the catalog before the store hears of them. */
  #claim(ino: bigint): { key: string; version: number; fresh: boolean } | undefined {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (!inode || inode.orphan) return undefined
    const version = catalog.nextVersion()
    if (inode.key !== undefined) return { key: inode.key, version, fresh: false }
    const path = catalog.pathOf(ino) ?? Buffer.from(fileId(inode))
    const plain = fileKey(path)
    // A file that was renamed away keeps its key; the newcomer gets one of its own. So it does while the object of a file that was
    // removed is there: a record in the store may still lead to it.
    const taken = catalog.byKey(plain) !== undefined || catalog.outbox.isListed('files', plain)
    const key = taken ? fileKey(path, fileId(inode)) : plain
    catalog.assignKey(inode, key)
    return { key, version, fresh: true }
  }

  #snapshot(inode: Inode): Snapshot {
    const { catalog } = this.#context
    if (inode.authority === 'catalog') {
      return {
        record: {
          ino: inode.ino,
          generation: inode.generation,
          attributes: attributesOf(inode),
          xattrs: inode.xattrs,
        },
        stat: undefined,
        target: inode.target,
        base: { base: inode.base, fingerprint: inode.fingerprint },
        sameContent: inode.base === 'store' && !inode.staged && (inode.dirty & CHANGED) === 0,
      }
    }
    const stat = legacyStat(this.#context, inode)
    const legacy = requireLegacy(this.#context)
    const place = placeOf(catalog, inode.ino)
    if (!place) throw new Error(`inode ${inode.ino} has no place on the legacy volume`)
    return {
      record: {
        ino: inode.ino,
        generation: inode.generation,
        attributes: { ...stat, ino: inode.ino },
        xattrs: readLegacyXattrs(legacy, place),
      },
      stat,
      target: isSymlink(stat.mode) ? readlinkAt(legacy.directory(place.parent), place.name) : undefined,
      base: { base: 'legacy', fingerprint: fingerprintOf(stat) },
      sameContent: inode.version > 0 && (inode.dirty & CHANGED) === 0 && matches(inode.fingerprint, stat),
    }
  }

  /** The legacy file is still as it was at the snapshot. */
  #isSame(ino: bigint, snapshot: Snapshot): boolean {
    const inode = this.#context.catalog.get(ino)
    if (!inode || inode.orphan) return false
    if (!snapshot.stat) return inode.authority === 'catalog' && isBasedOn(inode, snapshot.base)
    return (
      inode.authority === 'legacy' && matches(fingerprintOf(snapshot.stat), legacyStat(this.#context, inode))
    )
  }

  /** Waits until a change from now on gets a ctime of its own. */
  async #pastCoarseClock(stat: Stat | undefined): Promise<void> {
    if (!this.#coarse || !stat) return
    const milliseconds = untilNextTick(stat.ctimeNs, Date.now())
    if (milliseconds > 0) await new Promise((resolve) => setTimeout(resolve, milliseconds))
  }

  async #copy(ino: bigint, snapshot: Snapshot, signal: AbortSignal | undefined): Promise<Copied | undefined> {
    const { attributes, xattrs } = snapshot.record
    const none = new Map<number, Buffer>()
    const inline = (bytes: Buffer): Copied => ({
      content: { kind: 'inline', bytes },
      layout: LAYOUT_INLINE,
      chunks: none,
      pages: none,
    })
    if (!isRegular(attributes.mode)) return inline(snapshot.target ?? Buffer.alloc(0))
    const fits = attributes.size <= this.#context.settings.inlineLimit
    if (fits && (xattrs?.length ?? 0) <= METADATA_XATTR_BYTES) {
      const bytes = await this.#readChunk(ino, 0, attributes.size, snapshot)
      return bytes.length === attributes.size ? inline(bytes) : undefined
    }
    const chunks = await this.#copyChunks(ino, snapshot, signal)
    if (!chunks) return undefined
    return this.#list(ino, chunkCount(attributes.size), chunks, signal)
  }

  /** Stores every chunk that the store does not have yet; new hashes by index. */
  async #copyChunks(
    ino: bigint,
    snapshot: Snapshot,
    signal: AbortSignal | undefined,
  ): Promise<Map<number, Buffer> | undefined> {
    const { catalog } = this.#context
    const { size } = snapshot.record.attributes
    const hashes = new Map<number, Buffer>()
    const underWay = new Set<Promise<void>>()
    let failed: unknown
    let short = false
    const holes = new Set(catalog.chunks(ino, 0, chunkCount(size)).map(({ index }) => index))
    for await (const index of this.#dataChunks(ino, snapshot)) {
      if (failed !== undefined || short) break
      holes.delete(index)
      if (this.#isUnchangedChunk(ino, index, snapshot)) continue
      while (underWay.size >= CHUNKS_PER_FILE) await Promise.race(underWay)
      await this.#slots.acquire()
      const length = Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES)
      const task = this.#readChunk(ino, index, length, snapshot)
        .then(async (bytes) => {
          if (bytes.length !== length) {
            short = true
            return
          }
          const hash = bytes.equals(ZEROS.subarray(0, length)) ? HOLE : sha256(bytes)
          if (this.#isLost(ino) || !hash.equals(catalog.chunk(ino, index) ?? HOLE)) {
            if (!isHole(hash)) await this.#storeImmutable(ino, chunkKey, index, hash, bytes, signal)
            hashes.set(index, hash)
          }
        })
        .catch((error: unknown) => {
          failed ??= error
        })
        .finally(() => {
          this.#slots.release()
          underWay.delete(task)
        })
      underWay.add(task)
    }
    for (const index of holes) hashes.set(index, HOLE)
    await Promise.all(underWay)
    if (failed !== undefined) throw failed
    return short ? undefined : hashes
  }

  /** Indexes of the chunks that may hold anything but zeros, ascending within each source. */
  async *#dataChunks(ino: bigint, snapshot: Snapshot): AsyncGenerator<number> {
    const { catalog } = this.#context
    const count = chunkCount(snapshot.record.attributes.size)
    if (snapshot.stat) {
      yield* this.#legacy.dataChunks(ino, count)
      return
    }
    const inode = catalog.get(ino)
    if (!inode) return
    const staged = catalog.stagedChunks(ino)
    yield* staged.filter((index) => index < count)
    const base = Math.min(count, inode.baseLimit)
    const others =
      inode.base === 'legacy'
        ? this.#legacy.dataChunks(ino, base)
        : inode.layout === LAYOUT_INLINE
          ? [...Array(base).keys()]
          : catalog.chunks(ino, 0, base).map(({ index }) => index)
    const seen = new Set(staged)
    for await (const index of others) if (!seen.has(index)) yield index
  }

  /** The stored version's chunk is still the file's, without a look at the bytes. */
  #isUnchangedChunk(ino: bigint, index: number, snapshot: Snapshot): boolean {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (!inode || inode.layout !== LAYOUT_CHUNKED || !catalog.chunk(ino, index)) return false
    if (this.#isLost(ino)) return false
    if (snapshot.sameContent) return true
    // The last chunk of the stored version may be shorter than it has to be now.
    const full = (index + 1) * CHUNK_BYTES <= Math.min(inode.storedSize, inode.size)
    return (
      inode.authority === 'catalog' &&
      inode.base === 'store' &&
      index < inode.baseLimit &&
      !catalog.isStaged(ino, index) &&
      full
    )
  }

  /** What the catalog says of the file's objects cannot be relied on. */
  #isLost(ino: bigint): boolean {
    return ((this.#context.catalog.get(ino)?.dirty ?? 0) & DIRTY_LOST) !== 0
  }

  async #readChunk(ino: bigint, index: number, length: number, snapshot: Snapshot): Promise<Buffer> {
    if (!snapshot.stat) return this.#reader.chunk(ino, index)
    const buffer = Buffer.allocUnsafe(length)
    return buffer.subarray(0, await this.#legacy.read(ino, buffer, index * CHUNK_BYTES))
  }

  /**
   * Before the store gets a chunk or page, the catalog lists it as garbage: an upload that is never finished leaves
   * nothing behind. `#record` takes it off the list.
   */
  async #storeImmutable(
    ino: bigint,
    keyOf: typeof chunkKey,
    index: number,
    hash: Buffer,
    value: Buffer,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { catalog, store } = this.#context
    const inode = catalog.get(ino)
    if (!inode) return
    const key = keyOf(fileId(inode), index, hash)
    await catalog.shared(() => catalog.outbox.discard('chunks', key, 0, 0, ino))
    faultPoint('content.upload.chunk-listed')
    const object = { value, version: IMMUTABLE, contentType: 'application/octet-stream', metadata: {} }
    // One that is there already, from an upload that a crash cut short, has the same bytes.
    await store.put('chunks', key, object, { fresh: !this.#isLost(ino), ...(signal && { signal }) })
  }

  /** The list of all chunks, in the manifest itself or as pages of their own. */
  async #list(
    ino: bigint,
    count: number,
    chunks: ReadonlyMap<number, Buffer>,
    signal: AbortSignal | undefined,
  ): Promise<Copied> {
    const { catalog } = this.#context
    const hashesOf = (from: number, to: number): Buffer[] => {
      const known = new Map(catalog.chunks(ino, from, to).map(({ index, hash }) => [index, hash]))
      return Array.from(
        { length: to - from },
        (_, at) => chunks.get(from + at) ?? known.get(from + at) ?? HOLE,
      )
    }
    const pages = new Map<number, Buffer>()
    if (count <= EMBEDDED_CHUNKS) {
      const hashes = hashesOf(0, count)
      return { content: { kind: 'chunks', hashes }, layout: LAYOUT_CHUNKED, chunks, pages }
    }
    const list: Buffer[] = []
    for (let index = 0; index * PAGE_CHUNKS < count; index += 1) {
      const hashes = hashesOf(index * PAGE_CHUNKS, Math.min(count, (index + 1) * PAGE_CHUNKS))
      // A page of holes has no object either.
      if (hashes.every(isHole)) {
        list.push(HOLE)
        if (catalog.page(ino, index)) pages.set(index, HOLE)
        continue
      }
      const page = Buffer.concat(hashes)
      const hash = sha256(page)
      list.push(hash)
      if (!this.#isLost(ino) && catalog.page(ino, index)?.equals(hash)) continue
      await this.#storeImmutable(ino, pageKey, index, hash, page, signal)
      pages.set(index, hash)
    }
    return { content: { kind: 'pages', hashes: list }, layout: LAYOUT_CHUNKED, chunks, pages }
  }

  /**
   * Within one transaction makes the stored version the file's; what it replaced becomes garbage. Once that is committed,
   * and in the same turn, a staging file that is not needed any more is given up. True if the file did not change meanwhile.
   */
  #record(
    ino: bigint,
    snapshot: Snapshot,
    copied: Copied,
    stored: {
      version: number
      digest: Buffer
      isClean(): boolean
      work: ReturnType<ContentContext['catalog']['outbox']['find']>
    },
  ): boolean {
    const { catalog, epoch } = this.#context
    const clean = stored.isClean()
    const inode = catalog.get(ino)
    if (!inode) return clean
    const first = inode.version === 0
    const count = copied.layout === LAYOUT_CHUNKED ? chunkCount(snapshot.record.attributes.size) : 0
    if (copied.layout === LAYOUT_CHUNKED || inode.layout === LAYOUT_CHUNKED) {
      this.#replaceChunks(inode, copied, count)
    }
    inode.epoch = epoch
    inode.version = stored.version
    inode.layout = copied.layout
    inode.digest = stored.digest
    inode.storedSize = snapshot.record.attributes.size
    inode.failure = undefined
    if (snapshot.stat && inode.authority === 'legacy') inode.fingerprint = fingerprintOf(snapshot.stat)
    // Taken over meanwhile, after a change past the overlay: what was copied is not what the file is based on.
    const isBase = inode.authority === 'catalog' && isBasedOn(inode, snapshot.base)
    const staging = isBase ? this.#rebase(inode, clean) : 0
    if (clean) {
      inode.dirty = 0
      if (stored.work) catalog.outbox.done(stored.work)
    }
    catalog.save(inode)
    if (snapshot.base.base === 'legacy') this.#proof.note(ino)
    if (first) this.#announce(ino)
    catalog.afterCommit(() => {
      faultPoint('content.upload.recorded')
      this.#staging.release(inode, staging)
    })
    return clean
  }

  #replaceChunks(inode: Inode, copied: Copied, count: number): void {
    const { catalog } = this.#context
    const { ino } = inode
    this.#replaceHashes(inode, copied.chunks, {
      keyOf: chunkKey,
      get: (index) => catalog.chunk(ino, index),
      set: (index, hash) => catalog.setChunk(ino, index, hash),
      drop: (index) => catalog.dropChunk(ino, index),
    })
    this.#replaceHashes(inode, copied.pages, {
      keyOf: pageKey,
      get: (index) => catalog.page(ino, index),
      set: (index, hash) => catalog.setPage(ino, index, hash),
      drop: (index) => catalog.dropPage(ino, index),
    })
    catalog.discardContent(inode, count, copied.content.kind === 'pages' ? Math.ceil(count / PAGE_CHUNKS) : 0)
  }

  /** Old objects become garbage, new ones are garbage no more. A hole has neither row nor object. */
  #replaceHashes(
    inode: Inode,
    hashes: ReadonlyMap<number, Buffer>,
    rows: {
      readonly keyOf: typeof chunkKey
      get(index: number): Buffer | undefined
      set(index: number, hash: Buffer): void
      drop(index: number): void
    },
  ): void {
    const { outbox } = this.#context.catalog
    const id = fileId(inode)
    for (const [index, hash] of hashes) {
      const old = rows.get(index)
      if (old) outbox.discard('chunks', rows.keyOf(id, index, old), 0, 0, inode.ino)
      if (isHole(hash)) {
        rows.drop(index)
        continue
      }
      rows.set(index, hash)
      outbox.forget({
        space: 'chunks',
        key: rows.keyOf(id, index, hash),
        epoch: 0,
        version: 0,
        ino: inode.ino,
      })
    }
  }

  /** The store is the base from now on. The number of the staging file if it is not needed any more, else 0. */
  #rebase(inode: Inode, clean: boolean): number {
    if (!isRegular(inode.mode)) return 0
    const { catalog } = this.#context
    const whole = inode.baseLimit >= chunkCount(inode.size) && inode.size === inode.fingerprint?.size
    // Changed through the overlay: the legacy copy is not what is stored any more, and whatever it becomes it has lost.
    const changed = inode.base === 'legacy' || (inode.dirty & DIRTY_CONTENT) !== 0
    if (changed && (inode.staged > 0 || !whole)) inode.fingerprint = undefined
    inode.base = 'store'
    if (!clean) return 0
    inode.baseLimit = chunkCount(inode.size)
    catalog.dropStaged(inode.ino, 0)
    const had = inode.staged
    inode.staged = 0
    inode.truncating = undefined
    return had
  }

  /** The file is in the store for the first time: the records of its directories have to say so. */
  #announce(ino: bigint): void {
    const { catalog } = this.#context
    for (const link of catalog.linksOf(ino)) {
      catalog.recordDirectory(link.parent)
      catalog.touchEntry(link.parent, link.name)
    }
  }
}

/** Whether chunks that were not changed through the overlay are still the same ones. */
function isBasedOn(inode: Inode, { base, fingerprint }: Snapshot['base']): boolean {
  if (inode.base !== base) return false
  const now = inode.fingerprint
  // Only a legacy base can have become another one under the same name.
  if (base !== 'legacy' || now === undefined || fingerprint === undefined) return true
  return (
    now.size === fingerprint.size &&
    now.mtimeNs === fingerprint.mtimeNs &&
    now.ctimeNs === fingerprint.ctimeNs
  )
}

const ZEROS = Buffer.alloc(CHUNK_BYTES)
const CHANGED = DIRTY_CONTENT | DIRTY_LOST

function isOlder(text: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = text.split('.').map(Number)
  return a < major || (a === major && b < minor)
}
