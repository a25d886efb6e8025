import { isDirectory, isRegular, isSymlink, S_IFDIR } from '../base/attributes.ts'
import { KeyedMutex } from '../base/concurrency.ts'
import { reasonOf } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import {
  BLOCK_BYTES,
  type Catalog,
  type Incoming,
  type Inode,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  LAYOUT_RUNS,
  ROOT_INO,
} from '../catalog/index.ts'
import {
  ALL_ZEROS,
  CHUNK_BYTES,
  chunkCount,
  dataBlocks,
  type DirectoryHeader,
  decodeFileObject,
  decodeHeader,
  decodeShard,
  headerKey,
  listedObjects,
  type RecordedEntry,
  shardKey,
  zerosOf,
} from '../content/index.ts'
import type { Log } from '../observe/log.ts'
import { newInode } from '../overlay/index.ts'
import type { KeySpace, KeyValueStore, StoredObject } from '../store/contract.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../store/errors.ts'
import { printable } from '../sys/index.ts'
import { ProgressMeter, type RunProgress } from './progress.ts'

/** Everybody who would have it was asked: it is lost. */
class Missing extends StoreUnavailable {}

type RebuiltFile = ReturnType<typeof decodeFileObject>

const ROWS_AT_ONCE = 256

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
  /** One name of a file at a time. */
  readonly #loading = new KeyedMutex<number>()
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
    while (this.#catalog.transaction(() => this.#catalog.content.discardMore())) await giveWay()
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
    await this.#loading.run(record.generation, async () => {
      // Its other names were met meanwhile.
      if (this.#linkKnown(parent, entry, key)) return
      const blocks = await this.#content(key, record)
      this.#catalog.transaction(() => {
        const inode = this.#inode(record.ino, record.generation)
        Object.assign(inode, adopted(record), {
          key,
          epoch: object.version.epoch,
          version: object.version.version,
          blocks,
        } satisfies Partial<Inode>)
        this.#catalog.save(inode)
        this.#link(parent, entry.name, inode.ino)
      })
      this.#meter.files += 1
      this.#meter.bytes += record.attributes.size
    })
  }

  /** Lists what the content of a file is made of. Blocks of 512 bytes that it takes. @throws StoreError */
  async #content(key: string, record: RebuiltFile): Promise<number> {
    const { content } = this.#catalog
    const { generation, attributes } = record
    const { size } = attributes
    if (!isRegular(attributes.mode) || size === 0) return 0
    // Content is filed under the generation, which is the file's alone.
    if (!content.isPlain(generation))
      throw new StoreCorrupt(`object ${key} says that it is generation ${generation}, and so does another`)
    if (record.content.kind === 'inline') {
      const found = zerosOf(record.content.bytes)
      const zeros = found === 'all' ? ALL_ZEROS : found
      if (zeros) this.#catalog.transaction(() => content.setInline(generation, zeros))
      return blocksIn(zeros, 0, size)
    }
    try {
      return await this.#lists(record)
    } catch (error) {
      this.#catalog.transaction(() => content.discard(record))
      while (this.#catalog.transaction(() => content.discardMore())) await giveWay()
      throw error
    }
  }

  async #lists(record: RebuiltFile): Promise<number> {
    const { content } = this.#catalog
    const { generation, attributes } = record
    let blocks = 0
    let rows: Incoming[] = []
    const file = (): void => {
      this.#catalog.transaction(() => {
        content.begin(generation)
        content.list(generation, rows)
      })
      rows = []
    }
    const get = async (key: string): Promise<Buffer> => (await this.#newest('chunks', key)).value
    for await (const row of listedObjects(record, record.content, attributes.size, get)) {
      if (row.level === 0) blocks += blocksIn(row.zeros, row.index, attributes.size)
      if (rows.push(row) < ROWS_AT_ONCE) continue
      file()
      await giveWay()
    }
    file()
    return blocks
  }

  /** Another name of a file that is in the catalog already. */
  #linkKnown(parent: bigint, entry: RecordedEntry, key: string): boolean {
    const known = this.#catalog.get(entry.ino)
    if (!known || known.generation !== entry.generation || known.key !== key) return false
    this.#catalog.transaction(() => this.#link(parent, entry.name, entry.ino))
    return true
  }

  #inode(ino: bigint, generation: number): Inode {
    if (ino > this.#highestIno && ino > 1n << 48n) this.#highestIno = ino
    if (BigInt(generation) > this.#highestGeneration) this.#highestGeneration = BigInt(generation)
    // Records that are moments apart may name two files that had one number, one after the other: the last one read stays.
    const other = this.#catalog.get(ino)
    if (other) {
      this.#catalog.content.discard(other)
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

/** What the record of a file says of its inode. */
function adopted({ attributes, xattrs, content, digest }: RebuiltFile): Partial<Inode> {
  const { ino: _, blksize: __, ...rest } = attributes
  const regular = isRegular(attributes.mode)
  const listed = content.kind === 'list' ? LAYOUT_RUNS : LAYOUT_CHUNKED
  return {
    ...rest,
    xattrs,
    base: regular ? 'store' : 'none',
    baseLimit: regular ? chunkCount(attributes.size) : 0,
    layout: content.kind === 'inline' ? LAYOUT_INLINE : listed,
    digest,
    storedSize: attributes.size,
    ...(isSymlink(attributes.mode) && content.kind === 'inline'
      ? { target: Buffer.from(content.bytes) }
      : {}),
  }
}

function blocksIn(zeros: Buffer | undefined, chunk: number, size: number): number {
  const length = Math.min(CHUNK_BYTES, size - chunk * CHUNK_BYTES)
  return (dataBlocks(zeros, Math.ceil(length / BLOCK_BYTES)) * BLOCK_BYTES) / 512
}
