import { isDirectory } from '../base/attributes.ts'
import { KeyedMutex } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { fileId, type Garbage, type Inode } from '../catalog/index.ts'
import type { ContentContext } from './context.ts'
import {
  DIRECTORY_CONTENT_TYPE,
  encodeHeader,
  encodeShard,
  headerKey,
  type RecordedEntry,
  shardKey,
} from './directory-record.ts'
import { legacyStat, placeOf, readLegacyXattrs, requireLegacy } from './takeover.ts'

/** A shard that would grow past this many entries is split: all shards of the directory are written anew, twice as many. */
const SHARD_ENTRIES = 1000
const MAX_SHARDS = 4096

/**
 * Writes directory records, whole shards at a time, from the catalog. Order: shards, then the header that names their
 * generation, then the catalog; so a reader of the store alone always finds the shards that a header names.
 */
export class DirectoryWriter {
  readonly #context: ContentContext
  readonly #locks = new KeyedMutex<bigint>()

  constructor(context: ContentContext) {
    this.#context = context
  }

  /** Brings one directory's record up to date. @throws StoreError, FsError */
  write(ino: bigint, signal?: AbortSignal): Promise<void> {
    return this.#locks.run(ino, () => this.#write(ino, signal))
  }

  /** Runs `body` while the directory's record is not being written. */
  exclusively<T>(ino: bigint, body: () => Promise<T>): Promise<T> {
    return this.#locks.run(ino, body)
  }

  /** Whether the records of the directory and of all above it are in the store as they are now (P3 waits for that). */
  isDurable(ino: bigint): boolean {
    const { catalog } = this.#context
    for (let current = ino; ; ) {
      const inode = catalog.get(current)
      if (!inode || inode.dirShards === 0 || catalog.outbox.find('directory', current)) return false
      if (current === 1n) return true
      const link = catalog.linksOf(current)[0]
      if (!link) return false
      current = link.parent
    }
  }

  async #write(ino: bigint, signal: AbortSignal | undefined): Promise<void> {
    const { catalog } = this.#context
    const work = catalog.outbox.find('directory', ino)
    if (!work) return
    const inode = catalog.get(ino)
    if (!inode || inode.orphan || !isDirectory(inode.mode) || inode.dirGeneration === 0) {
      catalog.transaction(() => catalog.outbox.done(work))
      return
    }
    const before = { generation: inode.dirGeneration, shards: inode.dirShards }
    const shards = wantedShards(before.shards, catalog.entryCount(ino))
    const resharded = before.shards !== 0 && shards !== before.shards
    const generation = resharded ? before.generation + 1 : before.generation
    const all = resharded || before.shards === 0
    const dirty = all ? Array.from({ length: shards }, (_, shard) => shard) : catalog.outbox.dirtyShards(ino)
    const fresh = all && shards > 1 ? this.#expect(inode, generation, shards) : []
    // Nothing is written once the directory is gone: its removal has listed what was written before as garbage.
    const isRemoved = (now: Inode | undefined): boolean => now?.generation !== inode.generation || now.orphan
    const lives = (): boolean => !isRemoved(catalog.get(ino))
    for (const shard of dirty) if (lives()) await this.#writeShard(inode, generation, shard, shards, signal)
    faultPoint('content.directory.shards-stored')
    if (lives()) await this.#writeHeader(inode, generation, shards, signal)
    faultPoint('content.directory.header-stored')
    catalog.transaction(() => {
      const now = catalog.get(ino)
      if (!now || isRemoved(now)) {
        // Removed while its record was written: what arrived after the removal's clean-up is garbage.
        discardDirectoryRecord(this.#context, { ...inode, dirGeneration: generation, dirShards: shards })
        return
      }
      now.dirGeneration = generation
      now.dirShards = shards
      catalog.save(now)
      for (const shard of fresh) catalog.outbox.forget(shard)
      if (resharded) this.#discardShards(now, before)
      // Asked for again meanwhile: what was marked since cannot be told from what was written, so all of it stays.
      if (catalog.outbox.find('directory', ino)?.seq !== work.seq) {
        if (resharded) for (let shard = 0; shard < shards; shard += 1) catalog.outbox.markShard(ino, shard)
        return
      }
      catalog.outbox.clearShards(ino)
      catalog.outbox.done(work)
    })
  }

  /**
   * Lists shards as garbage before they are written: cut short, and with a name less at the next try, they may never be
   * named by a header. One shard alone is found again by its key.
   */
  #expect(inode: Inode, generation: number, shards: number): Garbage[] {
    const { catalog, epoch } = this.#context
    const { ino } = inode
    return catalog.transaction(() =>
      Array.from({ length: shards }, (_, shard) => {
        const key = shardKey(fileId(inode), generation, shard)
        const version = catalog.nextVersion()
        catalog.outbox.discard('dirs', key, epoch, version, ino)
        return { space: 'dirs', key, epoch, version, ino }
      }),
    )
  }

  async #writeShard(
    inode: Inode,
    generation: number,
    shard: number,
    shards: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const entries = entriesToRecord(this.#context.catalog, inode.ino, shard, shards)
    await this.#put(shardKey(fileId(inode), generation, shard), encodeShard(entries), signal)
  }

  async #writeHeader(
    inode: Inode,
    recordGeneration: number,
    shards: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const own = inode.authority === 'catalog' ? inode : this.#legacyAttributes(inode)
    const header = encodeHeader({
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
      recordGeneration,
      shards,
    })
    await this.#put(headerKey(fileId(inode)), header, signal)
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

  async #put(
    key: string,
    record: { value: Buffer; metadata: Record<string, string> },
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { catalog, store, epoch } = this.#context
    const version = { epoch, version: catalog.transaction(() => catalog.nextVersion()) }
    // The store never has a record of what a power loss can take back.
    await catalog.flush()
    await store.put(
      'dirs',
      key,
      { ...record, version, contentType: DIRECTORY_CONTENT_TYPE },
      signal ? { signal } : {},
    )
  }

  #discardShards(inode: Inode, before: { generation: number; shards: number }): void {
    const { catalog, epoch } = this.#context
    for (let shard = 0; shard < before.shards; shard += 1) {
      const key = shardKey(fileId(inode), before.generation, shard)
      catalog.outbox.discard('dirs', key, epoch, catalog.nextVersion(), inode.ino)
    }
  }
}

/** What one shard of a directory's record has to say, in the order of the catalog. */
export function entriesToRecord(
  catalog: ContentContext['catalog'],
  ino: bigint,
  shard: number,
  shards: number,
): RecordedEntry[] {
  const entries: RecordedEntry[] = []
  for (const dirent of catalog.shardEntries(ino, shard, shards)) {
    const child = dirent.ino === undefined ? undefined : catalog.get(dirent.ino)
    if (!child) continue
    const directory = isDirectory(child.mode)
    // A file that is not in the store yet comes into the record when it is.
    if (directory ? child.dirGeneration === 0 : child.version === 0) continue
    entries.push({
      name: dirent.name,
      ino: child.ino,
      generation: child.generation,
      key: directory ? undefined : child.key,
    })
  }
  return entries
}

/** Removes a directory's record from the store, in the transaction that removes the directory. */
export function discardDirectoryRecord(context: ContentContext, inode: Inode): void {
  const { catalog, epoch } = context
  if (inode.dirGeneration === 0) return
  const id = fileId(inode)
  const keys = [
    headerKey(id),
    // A record whose first writing a crash cut short has a shard that the catalog does not know of.
    ...Array.from({ length: Math.max(1, inode.dirShards) }, (_, shard) =>
      shardKey(id, inode.dirGeneration, shard),
    ),
  ]
  for (const key of keys) catalog.outbox.discard('dirs', key, epoch, catalog.nextVersion(), inode.ino)
}

function wantedShards(now: number, entries: number): number {
  let shards = Math.max(1, now)
  while (shards < MAX_SHARDS && entries > shards * SHARD_ENTRIES) shards *= 2
  return shards
}
