import { isDirectory } from '../base/attributes.ts'
import { KeyedMutex } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { pagesOf } from '../base/pages.ts'
import {
  ALL_SHARDS,
  bucketsOf,
  type Departure,
  Forgetting,
  fileId,
  type Garbage,
  type Inode,
  lacksNames,
  type ShardWatch,
  shardOf,
  type Work,
} from '../catalog/index.ts'
import { StoreError, StoreSuperseded } from '../store/errors.ts'
import { isHeld } from './held.ts'
import type { ContentContext } from './context.ts'
import { contentOf, vanished, writtenBefore } from './directory-content.ts'
import {
  DIRECTORY_CONTENT_TYPE,
  headerKey,
  MAX_SHARDS,
  readableHeader,
  readableShard,
  shardKey,
} from './directory-record.ts'
import { discardDirectoryRecord } from './gone-directories.ts'
import { birth, guards } from './manifest.ts'
import { legacyStat, placeOf, readLegacyXattrs, requireLegacy } from './takeover.ts'

// How many other records are written before one from which files went to those.
const MOST_FIRST = 32
const DEPARTED_AT_ONCE = 1000
const MOST_DURABLE = 100_000
// Names of files that have vanished that a record keeps without being owed.
const MOST_VANISHED = 1000
// Parts of a record noted in one turn of the event loop.
const SHARDS_AT_ONCE = 64

/** One writing of a directory's record. */
interface Round {
  readonly inode: Inode
  readonly work: Work
  readonly watch: ShardWatch
  readonly signal: AbortSignal | undefined
}

/**
 * Writes directory records, whole shards at a time, from the catalog. Order: shards, then the header that names their
 * generation, then the catalog; so a reader of the store alone always finds the shards that a header names.
 *
 * Between records: a record names a directory only once that has a header, and a name goes from a record only once the records
 * that lead to that file without it are durable (directory-content.ts). So at every moment everything that was ever in a record, and was
 * not deleted, is to be found from the root directory's record down.
 */
export class DirectoryWriter {
  readonly #context: ContentContext
  readonly #locks = new KeyedMutex<bigint>()
  /** Directories that are, and with each all that are above it: of any depth it is asked for each file. */
  readonly #durable = new Set<bigint>()

  constructor(context: ContentContext) {
    this.#context = context
    context.catalog.outbox.onOwedDirectory = (ino) => {
      if (this.#durable.has(ino)) this.#durable.clear()
    }
  }

  /**
   * Brings one directory's record up to date. False if names that went from it have to stay in it for now, because the records of
   * the directories to which these files went are not written yet. @throws StoreError, FsError
   */
  async write(ino: bigint, signal?: AbortSignal): Promise<boolean> {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    const first = inode ? writtenBefore(catalog, inode, MOST_FIRST) : []
    for (const other of first) await this.#writeFirst(other, signal)
    return this.#locks.run(ino, () => this.#write(ino, signal))
  }

  /** What goes wrong there is met by that record's own turn. This one is written all the same, names that went included. */
  async #writeFirst(ino: bigint, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#locks.run(ino, () => this.#write(ino, signal))
    } catch (error) {
      if (error instanceof StoreSuperseded || !(error instanceof StoreError || error instanceof FsError))
        throw error
    }
  }

  /** Runs `body` while the directory's record is not being written. */
  exclusively<T>(ino: bigint, body: () => Promise<T>): Promise<T> {
    return this.#locks.run(ino, body)
  }

  /** Whether the records of the directory and of all above it are in the store as they are now (P3 waits for that). */
  isDurable(ino: bigint): boolean {
    const { catalog } = this.#context
    const way: bigint[] = []
    for (let current = ino; !this.#durable.has(current); ) {
      const inode = catalog.get(current)
      if (!inode || inode.dirShards === 0 || catalog.outbox.find('directory', current)) return false
      way.push(current)
      if (current === 1n) break
      const link = catalog.links.first(current)
      if (!link) return false
      current = link.parent
    }
    if (this.#durable.size > MOST_DURABLE) this.#durable.clear()
    for (const directory of way) this.#durable.add(directory)
    return true
  }

  async #write(ino: bigint, signal: AbortSignal | undefined): Promise<boolean> {
    const { catalog } = this.#context
    const work = catalog.outbox.find('directory', ino)
    if (!work) return true
    if (isHeld(this.#context, ino)) return false
    const inode = catalog.get(ino)
    if (!inode || inode.orphan || !isDirectory(inode.mode) || inode.dirGeneration === 0) {
      catalog.transaction(() => catalog.outbox.done(work))
      return true
    }
    // What is lost of the record may come back with a disk of the store: nothing is written over it.
    if (lacksNames(inode))
      throw new FsError(
        'EIO',
        `the directory's record stays as it is: ${inode.failure ?? 'parts of it are lost'}`,
      )
    const watch = catalog.outbox.watch(ino)
    try {
      const now = inode.dirShards
      const entries = catalog.dirents.count(ino) + catalog.departures.count(inode)
      const shards = wantedShards(now, entries, this.#context.settings.shardEntries)
      if (shards === now && !catalog.outbox.areAllDirty(ino))
        return await this.#writeParts({ inode, work, watch, signal })
      return await this.#writeWhole({ inode, work, watch, signal }, shards)
    } finally {
      watch.end()
    }
  }

  /** Shards with names that are not in the directory any more. */
  async #losing(inode: Inode): Promise<Set<number>> {
    const { departures } = this.#context.catalog
    const { dirShards: shards } = inode
    const losing = new Set<number>()
    for (let from = 0; ; ) {
      const bucket = departures.nextBucket(inode, from)
      if (bucket === undefined) return losing
      const shard = shardOf(bucket, shards)
      losing.add(shard)
      from = bucketsOf(shard, shards).to
      await giveWay()
    }
  }

  /** Writes the shards that are out of date. Those from which files went to others come after those. */
  async #writeParts(round: Round): Promise<boolean> {
    const { catalog } = this.#context
    const { inode, watch } = round
    const { ino, dirShards: shards, dirGeneration: generation } = inode
    const losing = await this.#losing(inode)
    const dirty = catalog.outbox.dirtyShards(ino)
    const order = [...dirty.filter((shard) => !losing.has(shard)), ...losing]
    const isDurable = (shard: number): boolean => !catalog.outbox.isDirtyShard(ino, shard)
    for (const shard of order) {
      watch.marked.delete(shard)
      const content = contentOf(catalog, inode, shard, { shards, isDurable })
      if (isDurable(shard) && content.gone.length === 0) continue
      const key = shardKey(fileId(inode), generation, shard)
      const written = await this.#put(round, key, readableShard(key, content))
      if (!written) break
      catalog.transaction(() => {
        if (!watch.marked.has(shard)) catalog.outbox.clearShard(ino, shard)
      })
      await this.#departed(content.gone)
    }
    faultPoint('content.directory.shards-stored')
    await this.#putHeader(round, generation, shards)
    faultPoint('content.directory.header-stored')
    return catalog.transaction(() => this.#finish(round, { generation, shards }))
  }

  /**
   * Writes all of the record, in another number of shards and under another generation, which is the record once the header names
   * it: what it has to say is complete as of then, and whoever comes meanwhile marks it.
   */
  async #writeWhole(round: Round, shards: number): Promise<boolean> {
    const { catalog } = this.#context
    const { inode, watch } = round
    const before = { generation: inode.dirGeneration, shards: inode.dirShards }
    const first = before.shards === 0
    // Not one that a writing that was cut short may have used: its header may be there, and name a part of what is written now.
    const generation = first ? before.generation : catalog.transaction(() => catalog.numbers.nextVersion())
    const listed = shards > 1 ? await this.#expect(inode, generation, shards) : []
    // Not collected while the record is owed, nor as long as it is this one.
    if (!first) await this.#discardShards(inode, before)
    const fresh = new Set<number>()
    const isDurable = (shard: number): boolean => fresh.has(shard) && watch.marked.size === 0
    const gone: Departure[] = []
    watch.marked.clear()
    for (let shard = 0; shard < shards; shard += 1) {
      const content = contentOf(catalog, inode, shard, { shards, isDurable })
      const key = shardKey(fileId(inode), generation, shard)
      const written = await this.#put(round, key, readableShard(key, content))
      if (!written) break
      fresh.add(shard)
      gone.push(...content.gone)
    }
    faultPoint('content.directory.shards-stored')
    await this.#putHeader(round, generation, shards)
    faultPoint('content.directory.header-stored')
    const { ino } = inode
    const recorded = catalog.transaction(() => {
      const now = catalog.get(ino)
      if (!now || isGone(now, inode)) return false
      now.dirGeneration = generation
      now.dirShards = shards
      catalog.save(now)
      const again = [...watch.marked]
      catalog.outbox.clearShards(ino)
      // What was marked meanwhile was marked by its old number.
      const parts = shards / Math.max(1, before.shards)
      for (const old of again)
        if (old === ALL_SHARDS) catalog.outbox.markAllShards(ino)
        else for (let nth = 0; nth < parts; nth += 1) catalog.outbox.markShard(ino, old * parts + nth)
      if (first) for (const link of catalog.links.of(ino)) catalog.records.touchEntry(link.parent, link.name)
      return true
    })
    if (recorded) {
      // While they are listed as garbage they are not collected: they are the record.
      for (const page of pagesOf(listed, SHARDS_AT_ONCE)) {
        catalog.transaction(() => {
          for (const shard of page) catalog.outbox.forget(shard)
        })
        await giveWay()
      }
      await this.#departed(gone)
    }
    return catalog.transaction(() => this.#finish(round, { generation, shards }))
  }

  /** Crosses the work off, unless it was asked for again or names are left that will have to go. */
  #finish({ inode, work }: Round, record: { generation: number; shards: number }): boolean {
    const { catalog } = this.#context
    const now = catalog.get(inode.ino)
    if (!now || isGone(now, inode)) {
      // Removed while its record was written: what arrived after the removal's clean-up is garbage.
      discardDirectoryRecord(this.#context, {
        ...inode,
        dirGeneration: record.generation,
        dirShards: record.shards,
      })
      return true
    }
    // Those that have vanished stay in the record as it is, until the volume has been looked at: nothing is owed because of them.
    const left = catalog.departures.below(now, MOST_VANISHED)
    if (left.length === MOST_VANISHED || !left.every((one) => vanished(catalog, one))) return false
    if (catalog.outbox.dirtyShards(inode.ino).length === 0) catalog.outbox.done(work)
    return true
  }

  /** The record names them no more. What that lets go may be a whole tree: other work has its turns meanwhile. */
  async #departed(gone: readonly Departure[]): Promise<void> {
    const { catalog } = this.#context
    if (gone.length === 0) return
    const forgetting = new Forgetting(gone)
    while (!catalog.transaction(() => catalog.records.departed(forgetting, DEPARTED_AT_ONCE))) {
      await new Promise((resolve) => setImmediate(resolve))
      await catalog.ready()
    }
  }

  /**
   * Lists shards as garbage before they are written: cut short, and with a name less at the next try, they may never be
   * named by a header. One shard alone is found again by its key.
   */
  async #expect(inode: Inode, generation: number, shards: number): Promise<Garbage[]> {
    const { epoch } = this.#context
    const listed: Garbage[] = []
    await this.#list(inode, { generation, shards }, (key, version) =>
      listed.push({ space: 'dirs', key, epoch, version, ino: inode.ino }),
    )
    return listed
  }

  #discardShards(inode: Inode, before: { generation: number; shards: number }): Promise<void> {
    return this.#list(inode, before, () => undefined)
  }

  /** Lists all shards of a generation as garbage. */
  async #list(
    inode: Inode,
    { generation, shards }: { generation: number; shards: number },
    noted: (key: string, version: number) => void,
  ): Promise<void> {
    const { catalog, epoch } = this.#context
    for (let from = 0; from < shards; from += SHARDS_AT_ONCE) {
      catalog.transaction(() => {
        for (let shard = from; shard < Math.min(shards, from + SHARDS_AT_ONCE); shard += 1) {
          const key = shardKey(fileId(inode), generation, shard)
          const version = catalog.numbers.nextVersion()
          catalog.outbox.discard('dirs', key, epoch, version, inode.ino)
          noted(key, version)
        }
      })
      await giveWay()
    }
  }

  async #putHeader(round: Round, recordGeneration: number, shards: number): Promise<void> {
    const inode = this.#context.catalog.get(round.inode.ino)
    if (!inode) return
    const own = inode.authority === 'catalog' ? inode : this.#legacyAttributes(inode)
    const header = readableHeader({
      ino: inode.ino,
      generation: inode.generation,
      mode: own.mode,
      uid: own.uid,
      gid: own.gid,
      nlink: own.nlink,
      atimeNs: own.atimeNs,
      mtimeNs: own.mtimeNs,
      ctimeNs: own.ctimeNs,
      xattrs: own.xattrs,
      ...birth(inode.btimeNs),
      ...guards(own.flags),
      recordGeneration,
      shards,
    })
    await this.#put(round, headerKey(fileId(inode)), header)
  }

  #legacyAttributes(inode: Inode) {
    try {
      const stat = legacyStat(this.#context, inode)
      const place =
        inode.ino === 1n ? { parent: 1n, name: Buffer.from('.') } : placeOf(this.#context.catalog, inode.ino)
      const xattrs = place && readLegacyXattrs(requireLegacy(this.#context), place)
      return { ...stat, xattrs }
    } catch (error) {
      // The volume cannot answer: what the catalog remembers is the best there is.
      if (error instanceof FsError) return inode
      throw error
    }
  }

  /**
   * Stores a part of the record. Not before all that it says is flushed: after a power loss the store would be ahead of the
   * catalog, which would then not know what the record names. Nothing is written, and false is returned, once the directory is
   * gone: its removal has listed what was written before as garbage.
   */
  async #put(
    { inode, signal }: Round,
    key: string,
    record: { value: Buffer; metadata: Record<string, string> },
  ): Promise<boolean> {
    const { catalog, store, epoch } = this.#context
    const version = { epoch, version: catalog.transaction(() => catalog.numbers.nextVersion()) }
    await catalog.flush()
    if (isGone(catalog.get(inode.ino), inode)) return false
    await store.put(
      'dirs',
      key,
      { ...record, version, contentType: DIRECTORY_CONTENT_TYPE },
      signal ? { signal } : {},
    )
    return true
  }
}

const isGone = (now: Inode | undefined, inode: Inode): boolean =>
  now?.generation !== inode.generation || now.orphan

function wantedShards(now: number, entries: number, most: number): number {
  let shards = Math.max(1, now)
  while (shards < MAX_SHARDS && entries > shards * most) shards *= 2
  return shards
}
