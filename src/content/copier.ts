import { isRegular } from '../base/attributes.ts'
import { Semaphore } from '../base/concurrency.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import {
  contentKey,
  DIRTY_LOST,
  fileId,
  type Incoming,
  type Inode,
  isChunked,
  LAYOUT_INLINE,
  LAYOUT_RUNS,
  type Owner,
} from '../catalog/index.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount } from './context.ts'
import { sha256 } from './hash.ts'
import type { LegacyFiles } from './legacy-files.ts'
import { encodeList, LIST_ENTRIES, levelsFor, MOST_LEVELS, slotsOf } from './list.ts'
import { METADATA_XATTR_BYTES, type NewChunkList } from './manifest.ts'
import type { Reader } from './reader.ts'
import type { Snapshot } from './snapshot.ts'
import { ALL_ZEROS, packed, zerosOf } from './zeros.ts'

// Chunks of one file under way at once, and of all files together: bounds the memory of a copy (P6).
const CHUNKS_PER_FILE = 4
const CHUNKS_TOTAL = 16
const ROWS_AT_ONCE = 256
const IMMUTABLE = { epoch: 0, version: 0 }

/** What a copy of a file's content came to. What it found different is noted in the catalog (`incoming`). */
export interface Copied {
  readonly content: NewChunkList
  readonly layout: number
  /** Blocks of zeros of content that is one object. */
  readonly zeros: Buffer | undefined
  /** The catalog knows, and has to know, nothing of such a file's content: it is one object without holes, and was. */
  readonly isPlain: boolean
}

/** How a copy goes about a file. */
interface Plan {
  readonly owner: Owner
  readonly snapshot: Snapshot
  readonly signal: AbortSignal | undefined
  readonly count: number
  /** The store has lost some of what it acknowledged: what the catalog says of it cannot be relied on. */
  readonly isLost: boolean
  /** Chunks below this one are as the store has them, unless they are staged. */
  readonly keptBelow: number
}

/**
 * Stores the chunks of a file that the store does not have yet, and the pages that list them. The cost is that of the data that
 * changed: neither holes nor chunks that are known to be the same are looked at.
 */
export class Copier {
  readonly #context: ContentContext
  readonly #legacy: LegacyFiles
  readonly #reader: Reader
  readonly #slots = new Semaphore(CHUNKS_TOTAL)

  constructor(context: ContentContext, parts: { legacy: LegacyFiles; reader: Reader }) {
    this.#context = context
    this.#legacy = parts.legacy
    this.#reader = parts.reader
  }

  /** `undefined` if the file was cut short under way. @throws StoreError, FsError */
  async copy(ino: bigint, snapshot: Snapshot, signal: AbortSignal | undefined): Promise<Copied | undefined> {
    const { attributes, xattrs, generation } = snapshot.record
    if (!isRegular(attributes.mode)) return inline(snapshot.target ?? Buffer.alloc(0), true)
    const owner = { ino, generation }
    const isPlain = await this.#begin(owner)
    const { size } = attributes
    if (size <= this.#context.settings.inlineLimit && (xattrs?.length ?? 0) <= METADATA_XATTR_BYTES) {
      const bytes = await this.#read(ino, 0, size, snapshot)
      if (bytes.length !== size) return undefined
      if (!isPlain)
        for (let level = 0; level <= MOST_LEVELS; level += 1) await this.#strikeOff(owner, level, 0)
      return inline(bytes, isPlain)
    }
    const plan = this.#plan(owner, snapshot, signal)
    if (!plan || !(await this.#copyChunks(plan))) return undefined
    const entries = await this.#list(plan)
    return { content: { kind: 'list', entries }, layout: LAYOUT_RUNS, zeros: undefined, isPlain: false }
  }

  /** Forgets what an earlier copy left. True if the catalog knows nothing of the file's content. */
  async #begin({ generation }: Owner): Promise<boolean> {
    const { catalog } = this.#context
    if (catalog.content.isPlain(generation)) return true
    while (await catalog.shared(() => catalog.content.dropIncoming(generation))) await giveWay()
    return false
  }

  #plan(owner: Owner, snapshot: Snapshot, signal: AbortSignal | undefined): Plan | undefined {
    const inode = this.#context.catalog.get(owner.ino)
    if (!inode) return undefined
    const isLost = (inode.dirty & DIRTY_LOST) !== 0
    const known = isChunked(inode) && !isLost
    const onStore = inode.authority === 'catalog' && inode.base === 'store'
    const keptBelow = !known
      ? 0
      : snapshot.sameContent
        ? Number.POSITIVE_INFINITY
        : onStore
          ? inode.baseLimit
          : 0
    return {
      owner,
      snapshot,
      signal,
      count: chunkCount(snapshot.record.attributes.size),
      isLost,
      keptBelow,
    }
  }

  /** Stores every chunk that the store does not have yet, and notes which are different. False if the file was cut short. */
  async #copyChunks(plan: Plan): Promise<boolean> {
    const { owner, snapshot, keptBelow } = plan
    const underWay = new Set<Promise<void>>()
    let failed: unknown
    let short = false
    let next = 0
    for await (const index of this.#candidates(plan)) {
      if (failed !== undefined || short) break
      await this.#strikeOff(owner, 0, Math.max(next, keptBelow), index)
      next = index + 1
      while (underWay.size >= CHUNKS_PER_FILE) await Promise.race(underWay)
      await this.#slots.acquire()
      const length = Math.min(CHUNK_BYTES, snapshot.record.attributes.size - index * CHUNK_BYTES)
      const task = this.#read(owner.ino, index, length, snapshot)
        .then(async (bytes) => {
          if (bytes.length === length) await this.#copyChunk(plan, index, bytes)
          else short = true
        })
        .catch((error: unknown) => {
          failed ??= error
        })
        .finally(() => {
          this.#slots.release()
          underWay.delete(task)
        })
      underWay.add(task)
      await giveWay()
    }
    await Promise.all(underWay)
    if (failed !== undefined) throw failed
    if (short) return false
    await this.#strikeOff(owner, 0, Math.max(next, Math.min(keptBelow, plan.count)))
    return true
  }

  async #copyChunk(plan: Plan, index: number, bytes: Buffer): Promise<void> {
    const { catalog } = this.#context
    const { owner, isLost } = plan
    const found = zerosOf(bytes)
    const zeros = found === 'all' ? undefined : found
    const value = packed(bytes, zeros)
    const hash = found === 'all' ? undefined : sha256(value)
    const known = catalog.content.chunk(owner, index)
    const row = { level: 0, index, hash, zeros }
    if (hash && (isLost || !known?.equals(hash))) await this.#store(plan, { ...row, hash }, value)
    else if (!isSame(known, hash) || !isSame(catalog.content.zeros(owner.generation, index), zeros))
      await catalog.shared(() => catalog.content.setIncoming(owner.generation, row))
  }

  /** Indexes of the chunks that may be other than the store has them, ascending. */
  async *#candidates(plan: Plan): AsyncGenerator<number> {
    const { owner, snapshot, count, keptBelow } = plan
    if (keptBelow === Number.POSITIVE_INFINITY) return
    if (snapshot.stat) {
      yield* this.#legacy.dataChunks(owner.ino, count)
      return
    }
    for (let at = 0; at < count; ) {
      const inode = this.#context.catalog.get(owner.ino)
      if (!inode) return
      const staged = this.#context.catalog.staged.next(owner.ino, at) ?? count
      const next = Math.min(staged, this.#nextOfBase(plan, inode, at, staged) ?? count)
      if (next >= count) return
      yield next
      at = next + 1
    }
  }

  /** The first chunk from `at` on, and before `limit`, that has to be read from where the unstaged ones are. */
  #nextOfBase(
    { owner, snapshot, count, keptBelow }: Plan,
    inode: Inode,
    at: number,
    limit: number,
  ): number | undefined {
    const end = Math.min(count, inode.baseLimit, limit)
    if (at >= end) return undefined
    if (inode.base === 'legacy') {
      const next = this.#reader.nextBaseChunk(inode, at)
      return next !== undefined && next < end ? next : undefined
    }
    if (inode.base !== 'store') return undefined
    if (!isChunked(inode)) return at === 0 && inode.storedSize > 0 ? 0 : undefined
    if (keptBelow === 0) return this.#context.catalog.content.hashes(owner.generation, 0, at, 1)[0]?.index
    // Of those that are kept the stored version's last chunk may be too short, or too long, now.
    const last = chunkCount(inode.storedSize) - 1
    const lengthNow = Math.min(CHUNK_BYTES, snapshot.record.attributes.size - last * CHUNK_BYTES)
    return at <= last && inode.storedSize - last * CHUNK_BYTES !== lengthNow ? last : undefined
  }

  async #read(ino: bigint, index: number, length: number, snapshot: Snapshot): Promise<Buffer> {
    // It may have been appended to since.
    if (!snapshot.stat) return (await this.#reader.chunk(ino, index)).subarray(0, length)
    const buffer = Buffer.allocUnsafe(length)
    return buffer.subarray(0, await this.#legacy.read(ino, buffer, index * CHUNK_BYTES))
  }

  /**
   * Before the store gets a chunk or page, the catalog lists it as garbage: an upload that is never finished leaves nothing
   * behind. What moves it over from `incoming` takes it off the list.
   */
  async #store(
    { owner, isLost, signal }: Plan,
    row: Incoming & { hash: Buffer },
    value: Buffer,
  ): Promise<void> {
    const { catalog, store } = this.#context
    const key = contentKey(fileId(owner), row.level, row.index, row.hash)
    await catalog.shared(() => {
      catalog.outbox.discard('chunks', key, 0, 0, owner.ino)
      catalog.content.setIncoming(owner.generation, row)
    })
    faultPoint('content.upload.chunk-listed')
    const object = { value, version: IMMUTABLE, contentType: 'application/octet-stream', metadata: {} }
    // One that is there already, from an upload that a crash cut short, has the same bytes.
    await store.put('chunks', key, object, { fresh: !isLost, ...(signal && { signal }) })
  }

  /** Chunks or pages from an index on, up to another, are no more in the version that is copied. */
  async #strikeOff(owner: Owner, level: number, from: number, to = Number.POSITIVE_INFINITY): Promise<void> {
    const { catalog } = this.#context
    for (let next = from; next < to; ) {
      const rows = catalog.content.hashes(owner.generation, level, next, ROWS_AT_ONCE)
      const gone = rows.filter(({ index }) => index < to)
      const last = rows[rows.length - 1]
      if (gone.length > 0) {
        await catalog.shared(() => {
          for (const { index } of gone)
            catalog.content.setIncoming(owner.generation, { level, index, hash: undefined, zeros: undefined })
        })
        await giveWay()
      }
      if (!last || rows.length < ROWS_AT_ONCE) return
      next = last.index + 1
    }
  }

  /** The top of the lists of all chunks; pages below it that are new are stored. */
  async #list(plan: Plan): Promise<Entry[]> {
    const { owner, count } = plan
    const inode = this.#context.catalog.get(owner.ino)
    const levels = levelsFor(count)
    const known = inode?.layout === LAYOUT_RUNS && !plan.isLost ? levelsFor(chunkCount(inode.storedSize)) : 0
    for (let level = 1; level <= levels; level += 1) await this.#listLevel(plan, level, level > known)
    for (let level = 1; level <= MOST_LEVELS; level += 1)
      await this.#strikeOff(owner, level, level <= levels ? slotsOf(count, level) : 0)
    return this.#entries(owner, levels, 0)
  }

  /** Stores the pages of one level that are different; `all` if none of them can be relied on. */
  async #listLevel(plan: Plan, level: number, all: boolean): Promise<void> {
    const { content } = this.#context.catalog
    const { generation } = plan.owner
    for (let page = 0; ; page += 1) {
      const first = page * LIST_ENTRIES
      const places = [content.incoming(generation, level - 1, first, 1)[0]?.index]
      if (all) places.push(content.hashes(generation, level - 1, first, 1)[0]?.index)
      const pages = places.map((index) =>
        index === undefined ? undefined : Math.floor(index / LIST_ENTRIES),
      )
      // A page that is listed though there is nothing in it any more, or was listed otherwise.
      if (all) pages.push(content.hashes(generation, level, page, 1)[0]?.index)
      page = Math.min(...pages.map((found) => found ?? Number.POSITIVE_INFINITY))
      if (page === Number.POSITIVE_INFINITY) return
      await this.#listPage(plan, level, page)
      await giveWay()
    }
  }

  async #listPage(plan: Plan, level: number, page: number): Promise<void> {
    const { catalog } = this.#context
    const { generation } = plan.owner
    const entries = this.#entries(plan.owner, level - 1, page)
    const known = catalog.content.hash(generation, level, page)
    if (entries.length === 0) {
      const gone = { level, index: page, hash: undefined, zeros: undefined }
      if (known) await catalog.shared(() => catalog.content.setIncoming(generation, gone))
      return
    }
    const value = encodeList(entries)
    const hash = sha256(value)
    if (!plan.isLost && known?.equals(hash)) return
    await this.#store(plan, { level, index: page, hash, zeros: undefined }, value)
  }

  /** What the copied version has of one level in one list. */
  #entries({ generation }: Owner, level: number, list: number): Entry[] {
    const { content } = this.#context.catalog
    const first = list * LIST_ENTRIES
    const found = new Map<number, Entry>()
    const note = (index: number, hash: Buffer | undefined, zeros: Buffer | undefined): void => {
      if (index >= first + LIST_ENTRIES) return
      if (hash) found.set(index, { slot: index - first, hash, zeros })
      else found.delete(index)
    }
    const zeros = level === 0 ? content.zerosIn(generation, first, first + LIST_ENTRIES) : undefined
    for (const { index, hash } of content.hashes(generation, level, first, LIST_ENTRIES))
      note(index, hash, zeros?.get(index))
    for (const row of content.incoming(generation, level, first, LIST_ENTRIES))
      note(row.index, row.hash, row.zeros)
    return [...found.values()].sort((a, b) => a.slot - b.slot)
  }
}

type Entry = Extract<NewChunkList, { kind: 'list' }>['entries'][number]

function inline(bytes: Buffer, isPlain: boolean): Copied {
  const found = bytes.length === 0 ? undefined : zerosOf(bytes)
  const zeros = found === 'all' ? ALL_ZEROS : found
  return {
    content: { kind: 'inline', bytes },
    layout: LAYOUT_INLINE,
    zeros,
    isPlain: isPlain && zeros === undefined,
  }
}

function isSame(one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other)
}
