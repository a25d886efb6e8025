import { isDirectory } from '../base/attributes.ts'
import { Database, type DatabaseOptions } from '../base/database.ts'
import { step } from '../base/turns.ts'
import { ContentIndex } from './content-index.ts'
import { Departures } from './departures.ts'
import { Dirents } from './dirents.ts'
import { DirectoryRecords } from './directory-records.ts'
import { Doubts } from './doubts.ts'
import {
  BEFORE_ALL,
  DIRTY_CONTENT,
  INODE_COLUMNS,
  type Inode,
  inodeFromRow,
  inodeToColumns,
  toSigned,
  toUnsigned,
} from './inode.ts'
import { InodeCache } from './inode-cache.ts'
import { InodeLists } from './inode-lists.ts'
import { Intents } from './intents.ts'
import { Links } from './links.ts'
import { MetFiles } from './met.ts'
import type { MetNote, MetNotes } from './met-notes.ts'
import { Meta } from './meta.ts'
import { MountPlaces } from './mount-places.ts'
import { NameBuckets, newNameKey, withNameKey } from './name-buckets.ts'
import { Numbers } from './numbers.ts'
import { Outbox } from './outbox.ts'
import { APPLICATION_ID, FORMAT, SCHEMA, UPGRADES } from './schema.ts'
import { SharedTransactions } from './shared-transactions.ts'
import { SpareRows } from './spare-rows.ts'
import { StagedRows } from './staged-rows.ts'
import { StateNumber } from './state-number.ts'
import { Statements } from './statements.ts'
import { isSameShare, NO_TOTALS, shareOf } from './totals.ts'
import { UnprovenCopies } from './unproven-copies.ts'

export interface CatalogOptions
  extends Pick<DatabaseOptions, 'bulk' | 'failedSyncs' | 'onBroken' | 'onRepaired' | 'probe'> {
  readonly check: boolean
  readonly cacheEntries?: number
  /** Of a new catalog, where its records are to be the same each time (name-buckets.ts). */
  readonly nameKey?: Buffer
}

// Some 15 MiB.
const INODE_CACHE_ENTRIES = 8192
// What is made in bulk is mostly not looked at again.
const BULK_CACHE_ENTRIES = 2000

// Rows read in one go: a fraction of a millisecond.
const SCANNED_AT_ONCE = 500

/**
 * The point of decision: durable index, state of every file, store work that is owed. All methods answer at once;
 * changes happen inside `transaction` and are safe against kill -9 when it returns, against power loss after `flush`.
 */
export class Catalog {
  /** Names in directories. */
  readonly dirents: Dirents
  /** Where files are. */
  readonly links: Links
  /** What directories' records in the store say. */
  readonly records: DirectoryRecords
  /** Which files are in one state or another. */
  readonly lists: InodeLists
  /** What the stored content of files is made of. */
  readonly content: ContentIndex
  readonly staged: StagedRows
  readonly unproven: UnprovenCopies
  readonly outbox: Outbox
  readonly departures: Departures
  readonly buckets: NameBuckets
  readonly intents: Intents
  readonly meta: Meta
  readonly mounts: MountPlaces
  readonly numbers: Numbers
  readonly state: StateNumber
  readonly spare: SpareRows
  /** What damage to the catalog leaves in doubt. */
  readonly doubts: Doubts
  readonly #database: Database
  #hasJustLost: boolean
  readonly #inodes: InodeCache
  readonly #met: MetFiles
  readonly #shared: SharedTransactions
  readonly #sql
  #afterCommit: Array<() => void> = []
  /** Rows of files that are only met go to memory. */
  #withoutRoom = false

  private constructor(database: Database, cacheEntries: number) {
    this.#database = database
    this.doubts = new Doubts(database)
    this.#hasJustLost = this.doubts.noteLost() || this.doubts.unkept !== undefined
    this.#inodes = new InodeCache(cacheEntries)
    this.#met = new MetFiles(database)
    this.#sql = statementsOf(database)
    this.#shared = new SharedTransactions({
      commit: (body) => this.#commit(body),
      ready: () => this.ready(),
      follow: () => this.#follow(),
    })
    this.meta = new Meta(database)
    this.state = new StateNumber(this.meta, {
      transaction: (body) => this.transaction(body),
      flush: () => this.flush(),
      lastCommit: () => database.lastCommit,
    })
    this.spare = new SpareRows(database, (body) => this.transaction(body))
    this.intents = new Intents(database)
    this.staged = new StagedRows(database, (ino) => this.get(ino))
    this.unproven = new UnprovenCopies(database)
    this.lists = new InodeLists(database, this.#met)
    this.links = new Links(database, this.#met)
    this.buckets = new NameBuckets(database)
    this.outbox = new Outbox(database)
    this.departures = new Departures(database)
    this.content = new ContentIndex(database, this.outbox)
    this.numbers = new Numbers(this.meta, {
      isUsed: (ino) => this.get(ino) !== undefined,
      isWithoutRoom: () => this.#withoutRoom,
    })
    this.mounts = new MountPlaces(database, () => this.#withoutRoom)
    const { links, buckets, outbox, departures, mounts } = this
    this.records = new DirectoryRecords(database, { inodes: this, links, buckets, outbox, departures })
    this.dirents = new Dirents(database, {
      inodes: { keep: (ino) => this.#keep(ino), isWithoutRoom: () => this.#withoutRoom },
      met: this.#met,
      mounts,
      links,
      buckets,
      records: this.records,
    })
  }

  /** @throws DatabaseDamaged */
  static open(path: string, options: CatalogOptions): Catalog {
    const { bulk, check, failedSyncs, onBroken, onRepaired, probe } = options
    const database = Database.open(path, {
      ...(bulk && { bulk }),
      ...(failedSyncs && { failedSyncs }),
      ...(onBroken && { onBroken }),
      ...(onRepaired && { onRepaired }),
      ...(probe && { probe }),
      applicationId: APPLICATION_ID,
      format: FORMAT,
      schema: `${SCHEMA};${withNameKey(options.nameKey ?? newNameKey())}`,
      upgrades: UPGRADES,
      check,
    })
    return new Catalog(database, options.cacheEntries ?? (bulk ? BULK_CACHE_ENTRIES : INODE_CACHE_ENTRIES))
  }

  /** All of it or nothing, in the file and in memory: if it fails, every inode is again what it was. */
  transaction<T>(body: () => T): T {
    if (this.#database.inTransaction) return body()
    const result = this.#commit(body)
    this.#follow()
    return result
  }

  /**
   * As `transaction`, for a body that only looks files up, once that failed because the disk is full: files that are met are kept in
   * memory. What else the body changes needs room as ever.
   */
  withoutRoom<T>(body: () => T): T {
    this.#withoutRoom = true
    try {
      return this.transaction(body)
    } finally {
      this.#withoutRoom = false
    }
  }

  /** There are files that were met without room. */
  get hasMet(): boolean {
    return this.#met.some(1).length > 0
  }

  /** Gives files that were met without room their rows, so many of them. @throws FsError ENOSPC if there still is none */
  keepMet(limit: number): void {
    const met = this.#met.some(limit)
    if (met.length === 0) return
    this.transaction(() => {
      for (const ino of met) this.#keep(ino)
    })
  }

  /** Takes over what a predecessor has met without room, and has what this process meets noted there. */
  noteMet(notes: MetNotes): void {
    const read = notes.read()
    let next = read.next()
    // Mostly there are none: a start need not begin a transaction for them, which a full disk may refuse.
    if (next.done !== true)
      this.transaction(() => {
        for (; next.done !== true; next = read.next()) this.#takeOverMet(next.value)
      })
    this.#met.noteIn(notes)
  }

  #takeOverMet(note: MetNote): void {
    if ('row' in note) {
      const inode = this.#sql.one('isThere', toSigned(note.ino)) ? undefined : this.#met.takeOver(note)
      if (inode) this.numbers.takeOver(inode)
    } else {
      // The catalog may know better by now, or the rest of the note was lost.
      const isKnown = this.dirents.hasRow(note.parent, Buffer.from(note.name))
      if (!isKnown && this.get(note.ino) && this.get(note.parent)) this.#met.takeOver(note)
    }
  }

  /** Nobody uses the file any more: if it was only met, that is forgotten. */
  forgetMet(ino: bigint): void {
    if (!this.#met.has(ino)) return
    const inode = this.#met.get(ino) && this.get(ino)
    this.transaction(() => {
      this.#met.remove(ino)
      this.links.forget(ino)
      if (inode) this.#drop(inode)
    })
  }

  /** The file gets its rows in the catalog, and so do the directories that lead to it. */
  #keep(ino: bigint): void {
    const inode = this.#met.has(ino) ? this.get(ino) : undefined
    if (inode) this.save(inode)
  }

  #commit<T>(body: () => T): T {
    step()
    try {
      const result = this.#database.transaction(body)
      this.#met.committed()
      return result
    } catch (error) {
      this.#rolledBack(0)
      throw error
    }
  }

  #follow(): void {
    for (const follow of this.#afterCommit.splice(0)) follow()
  }

  /**
   * Runs `follow` when the transaction under way is committed, the outermost one; never if that fails. For what cannot be
   * taken back: a file is removed only once the catalog has let go of it for good.
   */
  afterCommit(follow: () => void): void {
    if (this.#database.inTransaction) this.#afterCommit.push(follow)
    else follow()
  }

  /**
   * A part of a transaction whose failure is not the transaction's: it is taken back, and `onError` says how to go on.
   * An error that may be caught inside a transaction is caught here and nowhere else.
   */
  attempt<T>(body: () => T, onError: (error: unknown) => T): T {
    const following = this.#afterCommit.length
    return this.#database.attempt(body, (error) => {
      this.#rolledBack(following)
      return onError(error)
    })
  }

  #rolledBack(following: number): void {
    this.#afterCommit.length = following
    this.numbers.rolledBack()
    this.#inodes.restore((ino) => this.#read(ino))
    this.links.clear()
    if (following === 0) this.#met.rolledBack()
    this.outbox.rolledBack()
  }

  /**
   * As `transaction`, but one that all share who ask in the same turn of the event loop: a commit costs more than what
   * most bodies do. Committed when it resolves; a body runs at the end of the turn, and once more if another one failed.
   */
  shared<T>(body: () => T): Promise<T> {
    return this.#shared.run(body)
  }

  /**
   * Runs `follow` when the transaction under way is committed and flushed; never if that fails. For what the last flushed
   * state may still need: a power loss takes back what was only committed.
   */
  afterFlush(follow: () => void): void {
    this.afterCommit(() => this.#database.afterFlush(follow))
  }

  /**
   * Resolves once the disk takes writes, undefined if it just did. Whoever works in the background waits for it before a commit, and
   * before he looks at what he commits by: a commit that hangs keeps everybody. Requests are kept from that by their transport.
   */
  ready(): Promise<void> | undefined {
    return this.#database.ready()
  }

  /** The same for those who can do without it once it is away. */
  readyOrAway(): Promise<void> | undefined {
    return this.#database.readyOrAway()
  }

  /** Resolves when everything committed so far is safe against power loss. */
  flush(): Promise<void> {
    return this.#database.flush()
  }

  /** The same at once: for recovery, before anybody is served. */
  flushNow(): void {
    this.#database.flushNow()
  }

  /** The catalog's disk does not take writes. */
  get isAway(): boolean {
    return this.#database.isAway
  }

  /** There is little room on the catalog's disk: what is left of it is for what makes more, and for changes. */
  tight = false

  /** Bytes that rows can take without the file growing. */
  get emptyBytes(): number {
    return this.#database.emptyBytes
  }

  /** Folds the log into the file, so that it begins anew. */
  foldLog(): void {
    this.#database.foldLog()
  }

  /** The log has so many bytes of its disk for itself and finds no room for more. */
  boundLog(bytes: number): void {
    this.#database.boundLog(bytes)
  }

  close(): Promise<void> {
    return this.#database.close()
  }

  // ---- inodes

  get(ino: bigint): Inode | undefined {
    step()
    const cached = this.#inodes.get(ino)
    if (cached) return cached
    const inode = this.#read(ino)
    if (inode) this.#remember(inode)
    return inode
  }

  #read(ino: bigint): Inode | undefined {
    const row = this.#sql.one('get', toSigned(ino))
    return row ? inodeFromRow(row) : this.#met.get(ino)
  }

  /** The inode of a legacy file by its numbers there. */
  byLegacy(device: bigint, legacyIno: bigint): Inode | undefined {
    if (device === 0n) {
      const same = this.get(legacyIno)
      if (same && same.legacyIno === legacyIno && same.legacyDev === 0n) return same
    }
    const row = this.#sql.one('byLegacy', toSigned(legacyIno), toSigned(device))
    return row ? this.get(toUnsigned(row.ino as bigint)) : undefined
  }

  byKey(key: string): Inode | undefined {
    const row = this.#sql.one('byKey', key)
    return row ? this.get(toUnsigned(row.ino as bigint)) : undefined
  }

  /**
   * @throws Error if the object was held across an `await`: whoever goes on after one asks for the inode again. (An object
   * that is changed without having been asked for would not be restored if the transaction fails.)
   */
  save(inode: Inode): void {
    if (!this.#inodes.mayChange(inode)) throw new Error(`inode ${inode.ino} was not asked for in this turn`)
    if (this.#withoutRoom && !this.#sql.one('isThere', toSigned(inode.ino))) this.#met.put(inode)
    else this.#put(inode)
    this.#remember(inode)
  }

  #put(inode: Inode): void {
    this.#sql.run('put', ...inodeToColumns(inode))
    if (!this.#met.has(inode.ino)) return
    this.numbers.write()
    const names = this.#met.namesOf(inode.ino)
    this.#met.remove(inode.ino)
    this.links.forget(inode.ino)
    for (const { parent, name, ino } of names) {
      this.#keep(parent)
      this.dirents.put(parent, name, ino, ino)
    }
  }

  /** Gives the file the key of its object. */
  assignKey(inode: Inode, key: string): void {
    inode.key = key
    this.#sql.run('assignKey', key, toSigned(inode.ino))
  }

  /** Writes what was seen of a file whose truth is elsewhere, as far as it counts: in the totals. */
  recount(inode: Inode): void {
    if (
      this.#met.has(inode.ino) ||
      !isSameShare(this.#inodes.shareOf(inode.ino) ?? NO_TOTALS, shareOf(inode))
    )
      this.save(inode)
  }

  remove(inode: Inode): void {
    // Nobody comes back for the marks of a directory that is gone: they would stay for ever.
    if (isDirectory(inode.mode)) this.outbox.clearShards(inode.ino)
    this.#sql.run('remove', toSigned(inode.ino))
    this.#met.remove(inode.ino)
    this.#drop(inode)
  }

  #drop(inode: Inode): void {
    this.#inodes.remove(inode)
  }

  /** Inode objects in ascending order of number; safe while the table changes. */
  *scan(): IterableIterator<Inode> {
    let from = BEFORE_ALL
    for (;;) {
      const rows = this.#sql.all('page', from, SCANNED_AT_ONCE)
      if (rows.length === 0) return
      for (const row of rows) {
        from = row.ino as bigint
        const inode = this.get(toUnsigned(from))
        if (inode) yield inode
      }
    }
  }

  #remember(inode: Inode): void {
    this.#inodes.evict()
    this.#inodes.put(inode, shareOf(inode))
  }

  /** The fingerprint does not say what the legacy file has any more. */
  distrust(ino: bigint): void {
    const inode = this.get(ino)
    if (!inode?.fingerprint || inode.base === 'legacy') return
    inode.fingerprint = undefined
    if (inode.authority === 'legacy' && inode.version > 0) {
      inode.dirty |= DIRTY_CONTENT
      this.outbox.add('upload', ino)
    }
    this.save(inode)
  }

  // ---- doubts

  /** Transactions were found to be lost since this catalog was opened, or by one that died before it had kept what is staged. */
  get hasJustLost(): boolean {
    return this.#hasJustLost
  }

  /**
   * Within a transaction: this is an older copy of the catalog, which the store's lease shows. All of it is in doubt.
   * @param firstAfter generation from which on files were made since the copy was put back; `undefined`: none yet
   */
  noteOlderCopy(firstAfter: number | undefined): void {
    this.numbers.skip()
    this.doubts.noteOlderCopy(BigInt(firstAfter ?? this.numbers.upcomingGeneration))
    this.afterCommit(() => {
      this.#hasJustLost = true
      this.doubts.noted()
    })
  }

  /** Within a transaction: something is not as the catalog has it, for all that it can tell, until somebody accepts it. */
  noteLoss(detail: string): void {
    this.doubts.noteLoss(detail)
    this.afterCommit(() => this.doubts.noted())
  }
}

function statementsOf(database: Database) {
  const columns = INODE_COLUMNS
  const updates = columns.slice(1).map((column) => `${column}=excluded.${column}`)
  return new Statements(database, {
    get: 'SELECT * FROM inodes WHERE ino = ?',
    put: `INSERT INTO inodes (${columns.join(',')}) VALUES (${columns.map(() => '?').join(',')})
      ON CONFLICT (ino) DO UPDATE SET ${updates.join(',')}`,
    remove: 'DELETE FROM inodes WHERE ino = ?',
    assignKey: 'UPDATE inodes SET key = ? WHERE ino = ?',
    isThere: 'SELECT 1 AS n FROM inodes WHERE ino = ?',
    byLegacy: 'SELECT ino FROM inodes WHERE legacy_ino = ? AND legacy_ino <> ino AND legacy_dev = ?',
    byKey: 'SELECT ino FROM inodes WHERE key = ?',
    page: 'SELECT * FROM inodes WHERE ino > ? ORDER BY ino LIMIT ?',
  })
}
