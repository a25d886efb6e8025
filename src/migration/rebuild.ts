import { isDirectory, isRegular, isSymlink, S_IFDIR } from '../base/attributes.ts'
import { reasonOf } from '../base/errors.ts'
import {
  type Catalog,
  type Inode,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  pageKey,
  ROOT_INO,
} from '../catalog/index.ts'
import {
  CHUNK_BYTES,
  chunkCount,
  type DirectoryHeader,
  decodeFileObject,
  decodeHeader,
  decodeShard,
  headerKey,
  isHole,
  PAGE_CHUNKS,
  type RecordedEntry,
  sha256,
  shardKey,
  splitPage,
} from '../content/index.ts'
import type { Log } from '../observe/log.ts'
import { newInode } from '../overlay/index.ts'
import type { KeySpace, KeyValueStore, StoredObject } from '../store/contract.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../store/errors.ts'
import { printable } from '../sys/index.ts'
import { ProgressMeter, type RunProgress } from './progress.ts'

/** Everybody who would have it was asked: it is lost. */
class Missing extends StoreUnavailable {}

interface Directory {
  readonly ino: bigint
  readonly id: string
  readonly parent: bigint
  readonly name: Buffer
  readonly path: Buffer
}

export interface RebuildResult {
  readonly files: number
  readonly directories: number
  readonly bytes: number
  readonly failures: ReadonlyArray<{ path: string; reason: string }>
}

/**
 * Makes a catalog out of the store alone, from the root directory's record down. What is lost or damaged is listed; the
 * rest is taken. All of it is under the catalog's authority with the store as its base.
 */
export class Rebuild {
  readonly #catalog: Catalog
  readonly #store: KeyValueStore
  readonly #log: Log
  readonly #meter: ProgressMeter
  readonly #signal: AbortSignal
  readonly #failures: Array<{ path: string; reason: string }> = []
  readonly #leaving: Array<{ directory: Directory; entry: RecordedEntry }> = []
  #directories = 0
  #highestVersion = 0n
  #highestGeneration = 0n
  #highestIno = 0n

  constructor(
    catalog: Catalog,
    store: KeyValueStore,
    log: Log,
    run: { onProgress: (progress: RunProgress) => void; signal: AbortSignal },
  ) {
    this.#catalog = catalog
    this.#store = store
    this.#log = log
    this.#meter = new ProgressMeter('rebuilding', run.onProgress)
    this.#signal = run.signal
  }

  /** @throws StoreError if the root's record is not there, or the store cannot say now what it has */
  async run(concurrency: number): Promise<RebuildResult> {
    const queue: Directory[] = []
    const rootId = `${ROOT_INO.toString(16)}-0`
    const header = await this.#header(rootId)
    this.#adoptDirectory(header, undefined)
    queue.push({ ino: ROOT_INO, id: rootId, parent: ROOT_INO, name: Buffer.alloc(0), path: Buffer.alloc(0) })
    while (queue.length > 0) {
      for (let directory = queue.shift(); directory; directory = queue.shift()) {
        this.#signal.throwIfAborted()
        await this.#fill(directory, queue, concurrency)
      }
      await this.#takeLeaving(queue, concurrency)
    }
    this.#catalog.transaction(() => {
      this.#catalog.raiseCounters(
        this.#highestVersion + 1n,
        this.#highestGeneration + 1n,
        this.#highestIno + 1n,
      )
      this.#fixLinkCounts()
      this.#catalog.outbox.clear()
    })
    await this.#catalog.flush()
    this.#meter.tick(true)
    return {
      files: this.#meter.files,
      directories: this.#directories,
      bytes: this.#meter.bytes,
      failures: this.#failures,
    }
  }

  /** There is no catalog to say which version is there, and an older record would leave out what came later. */
  async #newest(space: KeySpace, key: string): Promise<StoredObject> {
    const object = await this.#store.get(space, key, { everywhere: true })
    if (object) return object
    throw new Missing(`${space === 'dirs' ? 'directory record' : 'object'} ${key} is not in the store`)
  }

  async #header(id: string): Promise<DirectoryHeader> {
    const key = headerKey(id)
    const object = await this.#newest('dirs', key)
    this.#seen(object.version.version)
    return decodeHeader(key, object)
  }

  async #fill(directory: Directory, queue: Directory[], concurrency: number): Promise<void> {
    let entries: RecordedEntry[] = []
    const leaving: RecordedEntry[] = []
    try {
      const inode = this.#catalog.get(directory.ino)
      for (let shard = 0; shard < (inode?.dirShards ?? 0); shard += 1) {
        const key = shardKey(directory.id, inode?.dirGeneration ?? 1, shard)
        const object = await this.#newest('dirs', key)
        this.#seen(object.version.version)
        const shardSays = decodeShard(key, object)
        entries = entries.concat(shardSays.entries)
        leaving.push(...shardSays.leaving)
      }
    } catch (error) {
      this.#fail(directory.path, error)
    }
    this.#leaving.push(...leaving.map((entry) => ({ directory, entry })))
    await this.#take(directory, entries, queue, concurrency)
  }

  /** Files to which only a record leads that is about to lose them. */
  async #takeLeaving(queue: Directory[], concurrency: number): Promise<void> {
    for (const { directory, entry } of this.#leaving.splice(0)) {
      const known = this.#catalog.get(entry.ino)
      if (known?.generation === entry.generation) continue
      const isTaken = this.#catalog.dirent(directory.ino, entry.name) !== undefined
      const name = isTaken
        ? Buffer.concat([entry.name, Buffer.from(`.${entry.ino.toString(16)}`)])
        : entry.name
      await this.#take(directory, [{ ...entry, name }], queue, concurrency)
    }
  }

  async #take(
    directory: Directory,
    entries: readonly RecordedEntry[],
    queue: Directory[],
    concurrency: number,
  ): Promise<void> {
    for (let from = 0; from < entries.length; from += concurrency) {
      this.#signal.throwIfAborted()
      const ended = await Promise.allSettled(
        entries.slice(from, from + concurrency).map((entry) => this.#entry(directory, entry, queue)),
      )
      for (const one of ended) if (one.status === 'rejected') throw one.reason
      this.#meter.tick()
    }
  }

  async #entry(directory: Directory, entry: RecordedEntry, queue: Directory[]): Promise<void> {
    const slash = directory.path.length === 0 ? [] : [Buffer.from('/')]
    const path = Buffer.concat([directory.path, ...slash, entry.name])
    try {
      if (entry.key === undefined) {
        const id = `${entry.ino.toString(16)}-${entry.generation.toString(16)}`
        const header = await this.#header(id)
        this.#adoptDirectory(header, { parent: directory.ino, name: entry.name })
        queue.push({ ino: entry.ino, id, parent: directory.ino, name: entry.name, path })
      } else {
        await this.#file(directory.ino, entry, entry.key)
      }
    } catch (error) {
      this.#fail(path, error)
    }
  }

  #adoptDirectory(header: DirectoryHeader, link: { parent: bigint; name: Buffer } | undefined): void {
    this.#catalog.transaction(() => {
      const inode = this.#inode(header.ino, header.generation)
      Object.assign(inode, {
        mode: header.mode | S_IFDIR,
        uid: header.uid,
        gid: header.gid,
        nlink: header.nlink,
        size: 4096,
        blocks: 8,
        atimeNs: header.atimeNs,
        mtimeNs: header.mtimeNs,
        ctimeNs: header.ctimeNs,
        xattrs: header.xattrs,
        dirGeneration: header.recordGeneration,
        dirShards: header.shards,
      } satisfies Partial<Inode>)
      this.#catalog.save(inode)
      if (link) this.#link(link.parent, link.name, inode.ino)
    })
    this.#directories += 1
  }

  async #file(parent: bigint, entry: RecordedEntry, key: string): Promise<void> {
    if (this.#linkKnown(parent, entry, key)) return
    const object = await this.#newest('files', key)
    this.#seen(object.version.version)
    const record = decodeFileObject(key, object)
    if (record.ino !== entry.ino) throw new StoreCorrupt(`object ${key} belongs to inode ${record.ino}`)
    const pages = record.content.kind === 'pages' ? record.content.hashes : []
    const id = `${record.ino.toString(16)}-${record.generation.toString(16)}`
    const chunks =
      record.content.kind === 'chunks'
        ? [...record.content.hashes]
        : await this.#pages(id, pages, chunkCount(record.attributes.size))
    const { attributes } = record
    if (
      isRegular(attributes.mode) &&
      record.content.kind !== 'inline' &&
      chunks.length !== chunkCount(attributes.size)
    ) {
      throw new StoreCorrupt(`object ${key}: its list of chunks does not fit its size`)
    }
    // Its other names were met meanwhile.
    if (this.#linkKnown(parent, entry, key)) return
    this.#catalog.transaction(() => {
      const inode = this.#inode(record.ino, record.generation)
      const { ino: _, blksize: __, ...rest } = attributes
      Object.assign(inode, rest)
      const held = record.content.kind === 'inline' ? 1 : chunks.filter((hash) => !isHole(hash)).length
      inode.blocks = Math.min(held * (CHUNK_BYTES / 512), Math.ceil(attributes.size / 4096) * 8)
      inode.xattrs = record.xattrs
      inode.base = isRegular(attributes.mode) ? 'store' : 'none'
      inode.baseLimit = isRegular(attributes.mode) ? chunkCount(attributes.size) : 0
      inode.key = key
      inode.epoch = object.version.epoch
      inode.version = object.version.version
      inode.layout =
        record.content.kind === 'inline' && object.metadata['ferry-layout'] === 'inline'
          ? LAYOUT_INLINE
          : LAYOUT_CHUNKED
      inode.digest = record.digest
      inode.storedSize = attributes.size
      if (isSymlink(attributes.mode) && record.content.kind === 'inline')
        inode.target = Buffer.from(record.content.bytes)
      this.#catalog.save(inode)
      for (const [index, hash] of chunks.entries()) {
        if (!isHole(hash)) this.#catalog.setChunk(inode.ino, index, hash)
      }
      for (const [index, hash] of pages.entries()) {
        if (!isHole(hash)) this.#catalog.setPage(inode.ino, index, hash)
      }
      this.#link(parent, entry.name, inode.ino)
    })
    this.#meter.files += 1
    this.#meter.bytes += attributes.size
  }

  /** Another name of a file that is in the catalog already. */
  #linkKnown(parent: bigint, entry: RecordedEntry, key: string): boolean {
    const known = this.#catalog.get(entry.ino)
    if (!known || known.generation !== entry.generation || known.key !== key) return false
    this.#catalog.transaction(() => this.#link(parent, entry.name, entry.ino))
    return true
  }

  async #pages(id: string, pages: readonly Buffer[], chunks: number): Promise<Buffer[]> {
    const hashes: Buffer[] = []
    for (const [index, hash] of pages.entries()) {
      if (isHole(hash)) {
        const last = index === pages.length - 1
        const length = last ? chunks - index * PAGE_CHUNKS : PAGE_CHUNKS
        for (let at = 0; at < length; at += 1) hashes.push(hash)
        continue
      }
      const key = pageKey(id, index, hash)
      const object = await this.#newest('chunks', key)
      if (!sha256(object.value).equals(hash))
        throw new StoreCorrupt(`object ${key} has other bytes than its name says`)
      const page = splitPage(key, object.value)
      if (page.length > PAGE_CHUNKS) throw new StoreCorrupt(`object ${key} lists too many chunks`)
      hashes.push(...page)
    }
    return hashes
  }

  #inode(ino: bigint, generation: number): Inode {
    if (ino > this.#highestIno && ino > 1n << 48n) this.#highestIno = ino
    if (BigInt(generation) > this.#highestGeneration) this.#highestGeneration = BigInt(generation)
    // Records that are moments apart may name two files that had one number, one after the other: the last one read stays.
    const other = this.#catalog.get(ino)
    if (other) {
      this.#catalog.dropChunks(ino, 0)
      this.#catalog.dropPages(ino, 0)
      this.#catalog.remove(other)
    }
    const inode = newInode(ino, generation)
    inode.authority = 'catalog'
    return inode
  }

  #link(parent: bigint, name: Buffer, ino: bigint): void {
    this.#catalog.setDirent(parent, name, ino, undefined)
  }

  /** A record may be a moment older than another: the names that are there decide. */
  #fixLinkCounts(): void {
    for (const inode of this.#catalog.scan()) {
      if (isDirectory(inode.mode)) continue
      const links = this.#catalog.linksOf(inode.ino).length
      if (links === inode.nlink) continue
      inode.nlink = links
      this.#catalog.save(inode)
    }
  }

  #seen(version: number): void {
    if (BigInt(version) > this.#highestVersion) this.#highestVersion = BigInt(version)
  }

  /** @throws StoreUnavailable where another try may find it: what is made without it would look complete */
  #fail(path: Buffer, error: unknown): void {
    if (error instanceof StoreError && error.retryable && !(error instanceof Missing)) {
      throw new StoreUnavailable(
        `/${printable(path)}: ${reasonOf(error)}; nothing was made: rebuild again when all of the store answers`,
        { cause: error },
      )
    }
    this.#log.warn({ err: error, path: printable(path) }, 'not rebuilt')
    this.#failures.push({ path: printable(path), reason: reasonOf(error) })
  }
}
