import type { StatementSync } from 'node:sqlite'
import { isDirectory, S_IFDIR, S_IFMT } from '../base/attributes.ts'
import { Database, type DatabaseOptions } from '../base/database.ts'
import { step } from '../base/turns.ts'
import { CHUNK_BYTES } from './blocks.ts'
import { ContentIndex } from './content-index.ts'
import { Counter } from './counter.ts'
import { Departures, Forgetting, type Numbered } from './departures.ts'
import { Doubts, SKIPPED_BY_OLDER_COPY } from './doubts.ts'
import {
  DIRTY_CONTENT,
  fileId,
  INODE_COLUMNS,
  type Inode,
  inodeFromRow,
  inodeToColumns,
  ROOT_INO,
  type Row,
  toSigned,
  toUnsigned,
} from './inode.ts'
import { InodeCache } from './inode-cache.ts'
import { blob, type Dirent, direntFromRow, Links } from './links.ts'
import { MetFiles } from './met.ts'
import type { MetNote, MetNotes } from './met-notes.ts'
import { NameBuckets, newNameKey, withNameKey } from './name-buckets.ts'
import { Outbox } from './outbox.ts'
import { APPLICATION_ID, FORMAT, SCHEMA, UPGRADES } from './schema.ts'
import { isSameShare, NO_TOTALS, shareOf, type Totals, totalsOf } from './totals.ts'

export interface CatalogOptions
  extends Pick<DatabaseOptions, 'bulk' | 'failedSyncs' | 'onBroken' | 'onRepaired'> {
  readonly check: boolean
  readonly cacheEntries?: number
  /** Of a new catalog, where its records are to be the same each time (name-buckets.ts). */
  readonly nameKey?: Buffer
}

interface Waiting {
  body(): unknown
  resolve(value: unknown): void
  reject(reason: unknown): void
}

/** What is known of a chunk's bytes in the staging file. */
export interface StagedChunk {
  /** So many of its bytes are on the medium, or what they were before they were changed; 0: nobody ever synced it. */
  readonly synced: number
  /** Checksums of its bytes (content/staged-sums.ts), while it is not being changed. */
  readonly sums: Buffer | undefined
  /** The power went since the checksums were taken. */
  readonly cut: boolean
}

/** How much of a staged chunk a power loss leaves. */
export interface StagedRow {
  readonly index: number
  /** As in `StagedChunk`. */
  readonly synced: number
  /** Bytes of the file that were in the chunk before it was staged; undefined where format 6 staged it. */
  readonly former: number | undefined
}

/** A name, and what is known of the file that is shown there. */
export interface ShownEntry extends Dirent {
  readonly inode: Pick<Inode, 'authority' | 'legacyIno' | 'mode'> | undefined
}

/** What is left of a directory that is gone: the shards of its record below this number, and what that named. */
export interface GoneDirectory extends Numbered {
  readonly recordGeneration: number
  readonly shards: number
}

/** A name as a directory's record may have it. */
export interface ShardEntry
  extends Pick<Inode, 'ino' | 'generation' | 'mode' | 'nlink' | 'key' | 'version' | 'dirShards'> {
  readonly name: Buffer
}

const SHOWN = `SELECT d.parent, d.name, d.ino, d.legacy, i.mode, i.authority, i.legacy_ino
  FROM dirents AS d LEFT JOIN inodes AS i ON i.ino = d.ino WHERE d.parent = ?`

// Some 15 MiB.
const INODE_CACHE_ENTRIES = 8192
// What is made in bulk is mostly not looked at again.
const BULK_CACHE_ENTRIES = 2000

// Rows read in one go: a fraction of a millisecond.
const ROWS_AT_ONCE = 256
// Rows of a few bytes that go in one go, in a millisecond.
const MANY_ROWS = 2000

// Inode numbers for files made where no legacy file gives them one. Far above what file systems hand out from below.
const FIRST_OWN_INO = 1n << 48n

// A staging file of number 1 is named as format 1 named all of them.
const FIRST_STAGING_FILE = 2n

// Below every inode number as SQLite sees them (signed).
const BEFORE_ALL = -(1n << 63n)

// A path with more names than this leads in a circle.
const MOST_LEVELS = 4096
// Most paths have fewer names, and each of those is remembered; what is above costs a microsecond a level.
const LEVELS_BY_ONE = 16

/**
 * The point of decision: durable index, state of every file, store work that is owed. All methods answer at once;
 * changes happen inside `transaction` and are safe against kill -9 when it returns, against power loss after `flush`.
 */
export class Catalog {
  readonly outbox: Outbox
  readonly departures: Departures
  readonly buckets: NameBuckets
  /** What damage to the catalog leaves in doubt. */
  readonly doubts: Doubts
  /** What the stored content of files is made of. */
  readonly content: ContentIndex
  readonly #database: Database
  #hasJustLost: boolean
  readonly #inodes: InodeCache
  readonly #links: Links
  readonly #waiting: Waiting[] = []
  readonly #versions: Counter
  readonly #generations: Counter
  readonly #inos: Counter
  readonly #stagingFiles: Counter
  readonly #sql: Readonly<Record<string, StatementSync>>
  #afterCommit: Array<() => void> = []
  readonly #met: MetFiles
  /** Rows of files that are only met go to memory. */
  #withoutRoom = false

  private constructor(database: Database, cacheEntries: number) {
    this.#database = database
    this.doubts = new Doubts(database)
    this.#hasJustLost = this.doubts.noteLost() || this.doubts.unkept !== undefined
    this.#inodes = new InodeCache(cacheEntries)
    this.#met = new MetFiles(database)
    this.#links = new Links(database, this.#met)
    const columns = INODE_COLUMNS
    const all = (sql: string): StatementSync => database.prepare(sql, true)
    this.#sql = {
      get: all('SELECT * FROM inodes WHERE ino = ?'),
      put: all(
        `INSERT INTO inodes (${columns.join(',')}) VALUES (${columns.map(() => '?').join(',')})
         ON CONFLICT (ino) DO UPDATE SET ${columns
           .slice(1)
           .map((column) => `${column}=excluded.${column}`)
           .join(',')}`,
      ),
      remove: all('DELETE FROM inodes WHERE ino = ?'),
      assignKey: all('UPDATE inodes SET key = ? WHERE ino = ?'),
      isThere: all('SELECT 1 AS n FROM inodes WHERE ino = ?'),
      byLegacy: all('SELECT ino FROM inodes WHERE legacy_ino = ? AND legacy_ino <> ino AND legacy_dev = ?'),
      byKey: all('SELECT ino FROM inodes WHERE key = ?'),
      goneDirectory: all('SELECT * FROM gone_directories LIMIT 1'),
      putGone: all(
        'INSERT INTO gone_directories VALUES (?,?,?,?) ON CONFLICT (generation) DO UPDATE SET shards = excluded.shards',
      ),
      dropGone: all('DELETE FROM gone_directories WHERE generation = ?'),
      dirent: all('SELECT parent, name, ino, legacy FROM dirents WHERE parent = ? AND name = ?'),
      setDirent: all(
        'INSERT INTO dirents (parent,name,ino,legacy,bucket) VALUES (?,?,?,?,?) ON CONFLICT (parent,name) DO UPDATE SET ino=excluded.ino, legacy=excluded.legacy',
      ),
      removeDirent: all('DELETE FROM dirents WHERE parent = ? AND name = ?'),
      direntsOn: all(
        'SELECT parent, name, ino, legacy FROM dirents WHERE parent = ? AND name > ? ORDER BY name LIMIT ?',
      ),
      shownOn: all(`${SHOWN} AND d.name > ? ORDER BY d.name LIMIT ?`),
      shownOne: all(`${SHOWN} AND d.name = ?`),
      shown: all(
        `SELECT parent, name, ino, legacy, bucket FROM dirents INDEXED BY dirents_bucket
         WHERE parent = ? AND (bucket, name) > (?, ?) AND ino IS NOT NULL ORDER BY bucket, name LIMIT ?`,
      ),
      bucket: all(
        `SELECT d.name, d.ino, generation, mode, nlink, key, version, dir_shards FROM dirents AS d
           JOIN inodes AS i ON i.ino = d.ino WHERE d.parent = ? AND bucket >= ? AND bucket < ? AND d.ino IS NOT NULL`,
      ),
      // A directory has one name. What is only met has no row: the next is asked for by itself.
      above: all(
        `WITH RECURSIVE above (nth, parent, name) AS (
           SELECT 1, parent, name FROM dirents WHERE ino = ?1 AND ino <> ${ROOT_INO}
           UNION ALL
           SELECT nth + 1, d.parent, d.name FROM above CROSS JOIN dirents AS d INDEXED BY dirents_ino ON d.ino = above.parent
             WHERE above.parent <> ${ROOT_INO} AND nth < ?2)
         SELECT parent, name FROM above ORDER BY nth`,
      ),
      visible: all('SELECT n FROM shown_names WHERE parent = ?'),
      anyDirent: all('SELECT 1 AS n FROM dirents WHERE parent = ? LIMIT 1'),
      whiteouts: all(
        'SELECT parent, name, ino, legacy FROM dirents WHERE legacy = 0 AND legacy IS NOT ino LIMIT ?',
      ),
      isStaged: all('SELECT 1 AS n FROM staged WHERE ino = ? AND idx = ?'),
      stage: all('INSERT OR IGNORE INTO staged (ino, idx, former) VALUES (?,?,?)'),
      stagedRow: all('SELECT synced, sums, cut FROM staged WHERE ino = ? AND idx = ?'),
      stagedRows: all(
        'SELECT idx, synced, former FROM staged WHERE ino = ? AND idx >= ? ORDER BY idx LIMIT ?',
      ),
      anyUnsynced: all(
        'SELECT 1 AS n FROM staged INDEXED BY staged_unsynced WHERE ino = ? AND synced = 0 AND idx < ? LIMIT 1',
      ),
      lastStaged: all('SELECT max(idx) AS n FROM staged WHERE ino = ? AND idx < ?'),
      unsealedOn: all(
        'SELECT idx FROM staged INDEXED BY staged_unsealed WHERE ino = ? AND idx >= ? AND sums IS NULL ORDER BY idx LIMIT 1',
      ),
      sealStaged: all('UPDATE staged SET sums = ?, cut = 0 WHERE ino = ? AND idx = ?'),
      unsealStaged: all('UPDATE staged SET sums = NULL WHERE ino = ? AND idx = ?'),
      shortenStaged: all(
        'UPDATE staged SET sums = NULL, synced = min(synced, ?1), former = min(former, ?1) WHERE ino = ?2 AND idx = ?3',
      ),
      cutStaged: all('UPDATE staged SET cut = 1'),
      stagedOn: all('SELECT idx FROM staged WHERE ino = ? AND idx >= ? ORDER BY idx LIMIT ?'),
      dropSomeStaged: all(
        `DELETE FROM staged WHERE ino = ?1 AND idx IN
           (SELECT idx FROM staged WHERE ino = ?1 AND idx >= ?2 ORDER BY idx DESC LIMIT ?3)`,
      ),
      syncStaged: all('UPDATE staged SET synced = max(synced, ?) WHERE ino = ? AND idx = ?'),
      dropUnsynced: all(
        'DELETE FROM staged WHERE synced = 0 AND idx < (SELECT base_limit FROM inodes WHERE inodes.ino = staged.ino)',
      ),
      noteUnproven: all('INSERT OR REPLACE INTO unproven (ino) VALUES (?)'),
      unproven: all('SELECT ino FROM unproven WHERE seq <= ? ORDER BY seq LIMIT ?'),
      lastUnproven: all('SELECT max(seq) AS n FROM unproven'),
      dropUnproven: all(
        'DELETE FROM unproven WHERE seq IN (SELECT seq FROM unproven WHERE seq <= ? ORDER BY seq LIMIT ?)',
      ),
      meta: all('SELECT value FROM meta WHERE name = ?'),
      // Rows of nothing, which take as much room in the file as others will.
      spared: all("SELECT sum(length(value)) AS n FROM meta WHERE name >= 'spare ' AND name < 'spare!'"),
      setAside: all(
        "INSERT INTO meta SELECT printf('spare %06d', count(*)), zeroblob(?) FROM meta WHERE name >= 'spare ' AND name < 'spare!'",
      ),
      release: all(
        "DELETE FROM meta WHERE name = (SELECT max(name) FROM meta WHERE name >= 'spare ' AND name < 'spare!')",
      ),
      setMeta: all('INSERT OR REPLACE INTO meta VALUES (?,?)'),
      doubtStaging: all("INSERT OR REPLACE INTO meta VALUES ('doubtful-staging ' || ?, '')"),
      trustStaging: all("DELETE FROM meta WHERE name = 'doubtful-staging ' || ?"),
      doubtful: all("SELECT ino FROM inodes JOIN meta ON name = 'doubtful-staging ' || ino WHERE staged > 0"),
      trustAll: all("DELETE FROM meta WHERE name >= 'doubtful-staging ' AND name < 'doubtful-staging!'"),
      intent: all('SELECT operation, answer FROM intents WHERE id = ?'),
      putIntent: all('INSERT OR REPLACE INTO intents VALUES (?,?,?)'),
      dropIntent: all('DELETE FROM intents WHERE id = ?'),
      intents: all('SELECT id, operation, answer FROM intents'),
      clearIntents: all('DELETE FROM intents'),
      page_of_inodes: all('SELECT * FROM inodes WHERE ino > ? ORDER BY ino LIMIT ?'),
      orphans: all('SELECT ino FROM inodes WHERE orphan = 1 AND ino > ? ORDER BY ino LIMIT ?'),
      stagedInodes: all('SELECT ino FROM inodes WHERE staged <> 0 AND ino > ? ORDER BY ino LIMIT ?'),
      failures: all(
        'SELECT ino, failure FROM inodes INDEXED BY inodes_failure WHERE failure IS NOT NULL AND ino > ? ORDER BY ino LIMIT ?',
      ),
      sums: all('SELECT * FROM sums'),
      diverged: all("SELECT (SELECT own FROM sums) + (SELECT n FROM counts WHERE name = 'hidden') AS n"),
      onVolume: all('SELECT on_volume AS n FROM sums'),
      legacyAuthority: all('SELECT ino FROM inodes WHERE authority = 0 AND ino > ? ORDER BY ino LIMIT ?'),
      volumeDirectories: all(
        `SELECT ino, NOT EXISTS (SELECT 1 FROM volume_names WHERE parent = ino) AS emptied FROM inodes
         WHERE authority = 1 AND legacy_ino IS NOT NULL AND (mode & ${S_IFMT}) = ${S_IFDIR} AND ino > ? ORDER BY ino LIMIT ?`,
      ),
      drainable: all(
        'SELECT ino FROM inodes WHERE authority = 1 AND legacy_ino IS NOT NULL AND version > 0 AND dirty = 0 AND ino > ? ORDER BY ino LIMIT ?',
      ),
    }
    const metaNumber = { get: (name: string) => this.meta(name), set: this.setMeta.bind(this) }
    this.#versions = new Counter(metaNumber, 'next-version', 1n)
    this.#generations = new Counter(metaNumber, 'next-generation', 1n)
    this.#inos = new Counter(metaNumber, 'next-ino', FIRST_OWN_INO)
    this.#stagingFiles = new Counter(metaNumber, 'next-staging-file', FIRST_STAGING_FILE)
    this.buckets = new NameBuckets(database)
    this.outbox = new Outbox(database)
    this.departures = new Departures(database)
    this.content = new ContentIndex(database, this.outbox)
  }

  /** @throws DatabaseDamaged */
  static open(path: string, options: CatalogOptions): Catalog {
    const { bulk, check, failedSyncs, onBroken, onRepaired } = options
    const database = Database.open(path, {
      ...(bulk && { bulk }),
      ...(failedSyncs && { failedSyncs }),
      ...(onBroken && { onBroken }),
      ...(onRepaired && { onRepaired }),
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
      const inode = this.#one('isThere', toSigned(note.ino)) ? undefined : this.#met.takeOver(note)
      if (!inode) return
      this.#generations.skip(BigInt(inode.generation))
      if (inode.ino >= FIRST_OWN_INO) this.#inos.skip(inode.ino)
    } else {
      // The catalog may know better by now, or the rest of the note was lost.
      const isKnown = this.#one('dirent', toSigned(note.parent), note.name) !== undefined
      if (!isKnown && this.get(note.ino) && this.get(note.parent)) this.#met.takeOver(note)
    }
  }

  /** Nobody uses the file any more: if it was only met, that is forgotten. */
  forgetMet(ino: bigint): void {
    if (!this.#met.has(ino)) return
    const inode = this.#met.get(ino) && this.get(ino)
    this.transaction(() => {
      this.#met.remove(ino)
      this.#links.forget(ino)
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
    for (const counter of [this.#versions, this.#generations, this.#inos, this.#stagingFiles])
      counter.rolledBack()
    this.#inodes.restore((ino) => this.#read(ino))
    this.#links.clear()
    if (following === 0) this.#met.rolledBack()
    this.outbox.rolledBack()
  }

  /**
   * As `transaction`, but one that all share who ask in the same turn of the event loop: a commit costs more than what
   * most bodies do. Committed when it resolves; a body runs at the end of the turn, and once more if another one failed.
   */
  shared<T>(body: () => T): Promise<T> {
    if (this.#waiting.length === 0) setImmediate(() => this.#runShared())
    return new Promise((resolve, reject) => this.#waiting.push({ body, resolve, reject } as Waiting))
  }

  #runShared(): void {
    const waiting = this.#waiting.splice(0)
    let results: unknown[]
    try {
      results = this.#commit(() => waiting.map(({ body }) => body()))
    } catch (error) {
      // Nothing of it took place. Each by itself, so that the one that fails is the only one.
      if (waiting.length > 1) for (const one of waiting) this.#runAlone(one)
      else waiting[0]?.reject(error)
      return
    }
    try {
      this.#follow()
      for (const [index, { resolve }] of waiting.entries()) resolve(results[index])
    } catch (error) {
      // Committed, so not to be run again.
      for (const { reject } of waiting) reject(error)
    }
  }

  #runAlone({ body, resolve, reject }: Waiting): void {
    try {
      resolve(this.transaction(body))
    } catch (error) {
      reject(error)
    }
  }

  /**
   * Runs `follow` when the transaction under way is committed and flushed; never if that fails. For what the last flushed
   * state may still need: a power loss takes back what was only committed.
   */
  afterFlush(follow: () => void): void {
    this.afterCommit(() => this.#database.afterFlush(follow))
  }

  /** Resolves when everything committed so far is safe against power loss. */
  flush(): Promise<void> {
    return this.#database.flush()
  }

  /** The same at once: for recovery, before anybody is served. */
  flushNow(): void {
    this.#database.flushNow()
  }

  /** There is little room on the catalog's disk: what is left of it is for what makes more, and for changes. */
  tight = false

  /** Bytes that rows can take without the file growing. */
  get emptyBytes(): number {
    return this.#database.emptyBytes
  }

  /** The same, with those set aside. */
  get spareBytes(): number {
    return this.emptyBytes + Number(this.#one('spared')?.n ?? 0)
  }

  /** Keeps so many more bytes of the file for times without room on its disk. @throws FsError ENOSPC */
  setAside(bytes: number): void {
    this.transaction(() => this.#sql.setAside?.run(bytes))
  }

  /** Gives up what was set aside by one call; false if nothing is left. @throws FsError ENOSPC */
  release(): boolean {
    return this.transaction(() => Number(this.#sql.release?.run().changes ?? 0) > 0)
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
    const row = this.#sql.get?.get(toSigned(ino)) as Row | undefined
    return row ? inodeFromRow(row) : this.#met.get(ino)
  }

  /** The inode of a legacy file by its numbers there. */
  byLegacy(device: bigint, legacyIno: bigint): Inode | undefined {
    if (device === 0n) {
      const same = this.get(legacyIno)
      if (same && same.legacyIno === legacyIno && same.legacyDev === 0n) return same
    }
    const row = this.#one('byLegacy', toSigned(legacyIno), toSigned(device))
    return row ? this.get(toUnsigned(row.ino as bigint)) : undefined
  }

  byKey(key: string): Inode | undefined {
    const row = this.#one('byKey', key)
    return row ? this.get(toUnsigned(row.ino as bigint)) : undefined
  }

  /**
   * @throws Error if the object was held across an `await`: whoever goes on after one asks for the inode again. (An object
   * that is changed without having been asked for would not be restored if the transaction fails.)
   */
  save(inode: Inode): void {
    if (!this.#inodes.mayChange(inode)) throw new Error(`inode ${inode.ino} was not asked for in this turn`)
    if (this.#withoutRoom && !this.#one('isThere', toSigned(inode.ino))) this.#met.put(inode)
    else this.#put(inode)
    this.#remember(inode)
  }

  #put(inode: Inode): void {
    this.#sql.put?.run(...inodeToColumns(inode))
    if (!this.#met.has(inode.ino)) return
    this.#generations.write()
    this.#inos.write()
    const names = this.#met.namesOf(inode.ino)
    this.#met.remove(inode.ino)
    this.#links.forget(inode.ino)
    for (const { parent, name, ino } of names) {
      this.#keep(parent)
      this.#putDirent(parent, name, ino, ino)
    }
  }

  /** Gives the file the key of its object. */
  assignKey(inode: Inode, key: string): void {
    inode.key = key
    this.#sql.assignKey?.run(key, toSigned(inode.ino))
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
    this.#sql.remove?.run(toSigned(inode.ino))
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
      const rows = this.#sql.page_of_inodes?.all(from, 500) as Row[]
      if (rows.length === 0) return
      for (const row of rows) {
        from = row.ino as bigint
        const inode = this.get(toUnsigned(from))
        if (inode) yield inode
      }
    }
  }

  totals(): Readonly<Totals> {
    return totalsOf([this.#one('sums'), this.#met.sums()])
  }

  /** Files without a name: a page at a time, in ascending order. Rows may go meanwhile. */
  orphans(): Generator<bigint, undefined> {
    return this.#inosOf('orphans')
  }

  /** Files with a staging file, in the same way. */
  stagedInodes(): Generator<bigint, undefined> {
    return this.#inosOf('stagedInodes')
  }

  *#inosOf(statement: 'orphans' | 'stagedInodes'): Generator<bigint, undefined> {
    for (let after = BEFORE_ALL; ; ) {
      const rows = this.#list(statement, after, ROWS_AT_ONCE)
      for (const row of rows) yield toUnsigned(row.ino as bigint)
      const last = rows.at(-1)
      if (!last || rows.length < ROWS_AT_ONCE) return
      after = last.ino as bigint
    }
  }

  /** Files that could not be stored, or whose legacy copies could not go, after `after`. */
  failures(after: bigint | undefined, limit: number): Array<{ ino: bigint; reason: string }> {
    const from = after === undefined ? BEFORE_ALL : toSigned(after)
    return this.#list('failures', from, limit).map((row) => ({
      ino: toUnsigned(row.ino as bigint),
      reason: String(row.failure),
    }))
  }

  /** How many files and names the legacy volume no longer has as the overlay shows them. */
  divergedCount(): number {
    return this.#count('diverged')
  }

  /** Files whose attributes or bytes are to be had from the legacy volume alone. */
  onVolumeCount(): number {
    return this.#count('onVolume')
  }

  /** Files known to the catalog that the store does not have as they are now. */
  unstoredCount(): number {
    const { files, stored } = this.totals()
    return files - stored
  }

  /** Inodes whose truth is still the legacy file, after `after`. */
  legacyAuthority(after: bigint | undefined, limit: number): bigint[] {
    const from = after === undefined ? BEFORE_ALL : toSigned(after)
    return this.#list('legacyAuthority', from, limit).map((row) => toUnsigned(row.ino as bigint))
  }

  /** Stored files that still have a copy on the legacy volume, after `after`. */
  drainable(after: bigint | undefined, limit: number): bigint[] {
    const from = after === undefined ? BEFORE_ALL : toSigned(after)
    return this.#list('drainable', from, limit).map((row) => toUnsigned(row.ino as bigint))
  }

  /**
   * Directories known to be on the legacy volume, after `after`; `emptied`: it is not known that they have anything left in them there.
   * The root is none of them.
   */
  volumeDirectories(after: bigint | undefined, limit: number): Array<{ ino: bigint; emptied: boolean }> {
    const from = after === undefined ? BEFORE_ALL : toSigned(after)
    return this.#list('volumeDirectories', from, limit)
      .map((row) => ({ ino: toUnsigned(row.ino as bigint), emptied: row.emptied === 1n }))
      .filter(({ ino }) => ino !== ROOT_INO)
  }

  // ---- counters

  /** Orders everything this catalog ever writes to the store. */
  nextVersion(): number {
    return Number(this.#versions.next())
  }

  nextGeneration(): number {
    return Number(this.#numberOf(this.#generations))
  }

  /** Files from before this process have a lower generation, files made or met from now on have not. */
  get upcomingGeneration(): number {
    return Number(this.#generations.upcoming)
  }

  /** A number that no staging file has had. */
  nextStagingFile(): number {
    return Number(this.#stagingFiles.next())
  }

  /** A number that no file has. */
  nextIno(): bigint {
    for (;;) {
      const ino = this.#numberOf(this.#inos)
      if (!this.get(ino)) return ino
    }
  }

  #numberOf(counter: Counter): bigint {
    return this.#withoutRoom ? counter.nextUnwritten() : counter.next()
  }

  /** Transactions were found to be lost since this catalog was opened, or by one that died before it had kept what is staged. */
  get hasJustLost(): boolean {
    return this.#hasJustLost
  }

  /** Within a transaction: a later state of this catalog may have handed numbers out, of which it knows nothing. */
  skipNumbers(): void {
    for (const counter of [this.#versions, this.#generations, this.#inos, this.#stagingFiles])
      counter.raise(counter.upcoming + SKIPPED_BY_OLDER_COPY)
  }

  /**
   * Within a transaction: this is an older copy of the catalog, which the store's lease shows. All of it is in doubt.
   * @param firstAfter generation from which on files were made since the copy was put back; `undefined`: none yet
   */
  noteOlderCopy(firstAfter: number | undefined): void {
    this.skipNumbers()
    this.doubts.noteOlderCopy(BigInt(firstAfter ?? this.#generations.upcoming))
    this.afterCommit(() => {
      this.#hasJustLost = true
      this.doubts.noted()
    })
  }

  /** Within a transaction: the store is older than what it had acknowledged to this catalog. */
  noteOlderStore(detail: string): void {
    this.doubts.noteOlderStore(detail)
    this.afterCommit(() => this.doubts.noted())
  }

  /** After a rebuild: counters go on above what the store has seen. */
  raiseCounters(versions: bigint, generations: bigint, inos: bigint): void {
    this.#versions.raise(versions)
    this.#generations.raise(generations)
    this.#inos.raise(inos)
  }

  // ---- names

  dirent(parent: bigint, name: Buffer): Dirent | undefined {
    const row = this.#one('dirent', toSigned(parent), name)
    if (row) return direntFromRow(row)
    const met = this.#met.name(parent, name)
    return met && { ...met, legacy: met.ino }
  }

  /**
   * Says what is under a name. A row that shows nothing and hides nothing goes. The directory's record in the store is
   * marked for writing if what the overlay shows there changed.
   */
  setDirent(parent: bigint, name: Buffer, ino: bigint | undefined, legacy: bigint | undefined): void {
    const before = this.dirent(parent, name)
    this.#links.forget(before?.ino, before?.legacy, ino, legacy)
    if (
      this.#withoutRoom &&
      ino !== undefined &&
      ino === legacy &&
      !this.#one('dirent', toSigned(parent), name)
    ) {
      this.#met.setName({ parent, name, ino })
      return
    }
    this.#met.removeName(parent, name)
    if (ino === undefined && legacy === undefined) {
      this.#sql.removeDirent?.run(toSigned(parent), name)
    } else {
      this.#keep(parent)
      if (ino !== undefined) this.#keep(ino)
      this.#putDirent(parent, name, ino, legacy)
    }
    if (before?.ino !== ino) this.#moved(parent, name, this.#recorded(before?.ino), this.#recorded(ino))
  }

  /** A name that the directory's record in the store has as well: nothing is owed because of it. */
  adoptName(parent: bigint, name: Buffer, ino: bigint): void {
    this.#links.forget(ino)
    this.#sql.setDirent?.run(toSigned(parent), name, toSigned(ino), null, this.buckets.of(name))
  }

  /** The directory's record in the store has a name for a file that is not there: it is written anew, and the name goes from it. */
  disownName(directory: Numbered, name: Buffer, file: Numbered): void {
    this.departures.add({ directory, name, file }, this.buckets.of(name))
    this.touchEntry(directory.ino, name)
  }

  #putDirent(parent: bigint, name: Buffer, ino: bigint | undefined, legacy: bigint | undefined): void {
    this.#sql.setDirent?.run(
      toSigned(parent),
      name,
      ino === undefined ? null : toSigned(ino),
      legacy === undefined ? null : toSigned(legacy),
      this.buckets.of(name),
    )
  }

  /** Another file or none is shown under the name. `gone` and `come` are those that the store knows. */
  #moved(parent: bigint, name: Buffer, gone: Inode | undefined, come: Inode | undefined): void {
    if (!gone && !come) return
    // Whatever the store has of a file, a record has to lead to it.
    if (come) this.recordDirectory(parent)
    const directory = this.get(parent)
    if (!directory || directory.dirGeneration === 0) return
    if (gone) this.departures.add({ directory, name, file: gone }, this.buckets.of(name))
    if (come) this.departed(new Forgetting([{ directory, name, file: come }]))
    this.touchEntry(parent, name)
  }

  /**
   * Records without these names are durable. What a directory that is gone still named is not to be had either, once nothing
   * names the directory. Takes `most` steps at a time; false if there are more to take, by asking again.
   */
  departed({ left: stack, way }: Forgetting, most = Number.POSITIVE_INFINITY): boolean {
    for (let steps = 0; steps < most; steps += 1) {
      const last = stack.at(-1)
      if (!last) return true
      const below = this.#isLastNameOfDead(last.file) ? this.departures.below(last.file, 1)[0] : undefined
      if (below && !way.has(fileId(below.file))) {
        way.add(fileId(last.file))
        stack.push(below)
        continue
      }
      const done = below ?? last
      if (done === last) {
        stack.pop()
        way.delete(fileId(last.file))
      }
      this.departures.remove(done)
      if (!this.departures.isNamed(done.file)) this.outbox.release(done.file.ino)
    }
    return stack.length === 0
  }

  /**
   * The directory is gone, with its record: if nothing in the store names it, nothing is to be had through it. The next of what it
   * still named, to be forgotten; `undefined` if there is nothing more.
   */
  forgettingOf(directory: Numbered): Forgetting | undefined {
    if (this.departures.isNamed(directory)) return undefined
    const below = this.departures.below(directory, ROWS_AT_ONCE)
    return below.length === 0 ? undefined : new Forgetting(below)
  }

  /** A directory that is gone whose record is not all listed as garbage yet. */
  goneDirectory(): GoneDirectory | undefined {
    const row = this.#one('goneDirectory')
    return (
      row && {
        ino: toUnsigned(row.ino as bigint),
        generation: Number(row.generation),
        recordGeneration: Number(row.record_generation),
        shards: Number(row.shards),
      }
    )
  }

  /** Notes how much of it is left. */
  putGoneDirectory({ ino, generation, recordGeneration, shards }: GoneDirectory): void {
    this.#sql.putGone?.run(generation, toSigned(ino), recordGeneration, shards)
    this.outbox.noteGarbage()
  }

  dropGoneDirectory({ generation }: Numbered): void {
    this.#sql.dropGone?.run(generation)
  }

  /** Directories that were moved into one another before they were removed may be left to name each other: at a new mount they go. */
  dropUnreachable(): void {
    this.departures.dropUnreachable()
    this.outbox.releaseUnnamed()
  }

  #isLastNameOfDead(file: Numbered): boolean {
    const inode = this.get(file.ino)
    const lives = inode?.generation === file.generation && !inode.orphan
    return !lives && this.departures.placesOf(file).length <= 1
  }

  /** The directory's record in the store needs this entry written again, if there is or will be such a record. */
  touchEntry(parent: bigint, name: Buffer): void {
    const directory = this.get(parent)
    if (!directory || directory.dirGeneration === 0) return
    this.outbox.markShard(parent, this.buckets.shard(name, Math.max(1, directory.dirShards)))
    this.outbox.add('directory', parent)
  }

  /** From now on the directory, and every directory above it, has a record in the store. */
  recordDirectory(ino: bigint): void {
    const directory = this.get(ino)
    if (!directory || directory.dirGeneration > 0) return
    directory.dirGeneration = 1
    this.save(directory)
    this.outbox.markShard(ino, 0)
    this.outbox.add('directory', ino)
    for (const link of this.linksOf(ino)) {
      this.recordDirectory(link.parent)
      this.touchEntry(link.parent, link.name)
    }
  }

  /** The file is in the store: the record of a directory that has it has to say so. */
  announce({ parent, name }: Dirent): void {
    this.recordDirectory(parent)
    this.touchEntry(parent, name)
  }

  /** The record's header (attributes of the directory itself) is out of date. */
  touchHeader(ino: bigint): void {
    if ((this.get(ino)?.dirGeneration ?? 0) > 0) this.outbox.add('directory', ino)
  }

  /** Names in a directory, whiteouts included: a page at a time, for whoever goes on asking. Rows may go meanwhile. */
  *dirents(parent: bigint): Generator<Dirent, undefined> {
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const page = this.direntsOn(parent, after, ROWS_AT_ONCE)
      yield* page
      const last = page.at(-1)
      if (!last || page.length < ROWS_AT_ONCE) break
      after = last.name
    }
    for (const met of this.#met.inDirectory(parent)) yield { ...met, legacy: met.ino }
  }

  /** As many of them, in the order of their names, behind `after`: for a directory of any size. */
  direntsOn(parent: bigint, after: Buffer, limit: number): Dirent[] {
    return this.#list('direntsOn', toSigned(parent), after, limit).map((row) => direntFromRow(row))
  }

  /** The same with what a listing has to know of the files. */
  shownEntries(parent: bigint, after: Buffer, limit: number): ShownEntry[] {
    return this.#list('shownOn', toSigned(parent), after, limit).map(shownFromRow)
  }

  /** One of them. */
  shownEntry(parent: bigint, name: Buffer): ShownEntry | undefined {
    const row = this.#one('shownOne', toSigned(parent), name)
    return row && shownFromRow(row)
  }

  /** Names that are shown: a page at a time. Rows may go meanwhile. */
  *shown(parent: bigint): Generator<Dirent, undefined> {
    for (let [bucket, after]: [bigint, Uint8Array] = [-1n, Buffer.alloc(0)]; ; ) {
      const page = this.#list('shown', toSigned(parent), bucket, after, ROWS_AT_ONCE)
      for (const row of page) yield direntFromRow(row)
      const last = page.at(-1)
      if (!last || page.length < ROWS_AT_ONCE) return
      bucket = last.bucket as bigint
      after = blob(last.name)
    }
  }

  /** Shown entries of one shard out of `shards` (a power of two). */
  shardEntries(parent: bigint, shard: number, shards: number): ShardEntry[] {
    const width = 65536 / shards
    return this.#list('bucket', toSigned(parent), shard * width, (shard + 1) * width).map((row) => ({
      name: blob(row.name),
      ino: toUnsigned(row.ino as bigint),
      generation: Number(row.generation),
      mode: Number(row.mode),
      nlink: Number(row.nlink),
      key: row.key === null ? undefined : String(row.key),
      version: Number(row.version),
      dirShards: Number(row.dir_shards),
    }))
  }

  entryCount(parent: bigint): number {
    return this.#count('visible', toSigned(parent))
  }

  hasRows(parent: bigint): boolean {
    return this.#one('anyDirent', toSigned(parent)) !== undefined
  }

  /** Names under which the overlay shows the file: a page at a time, for whoever goes on asking. */
  linksOf(ino: bigint): Generator<Dirent, undefined> {
    return this.#links.of(ino)
  }

  /** One of them; undefined for a file without a name. */
  firstLink(ino: bigint): Dirent | undefined {
    return this.#links.first(ino)
  }

  /** Places on the legacy volume where the file is known to be. `parent` is the directory's inode in the overlay. */
  legacyPlaces(ino: bigint): Generator<Dirent, undefined> {
    return this.#links.places(ino)
  }

  /** Names deleted in the overlay that the legacy volume still has. */
  whiteouts(limit: number): Dirent[] {
    return this.#list('whiteouts', limit).map((row) => direntFromRow(row))
  }

  /** Path relative to the root by one of the file's names; `undefined` for a file without one. */
  pathOf(ino: bigint): Buffer | undefined {
    const parts: Buffer[] = []
    for (let current = ino; current !== ROOT_INO; ) {
      const link = this.firstLink(current)
      if (!link || parts.length > MOST_LEVELS) return undefined
      parts.push(link.name)
      current = link.parent
      if (parts.length % LEVELS_BY_ONE !== 0) continue
      for (const above of this.#list('above', toSigned(current), ROWS_AT_ONCE)) {
        parts.push(blob(above.name))
        current = toUnsigned(above.parent as bigint)
      }
    }
    const slash = Buffer.from('/')
    return Buffer.concat(parts.reverse().flatMap((part, index) => (index === 0 ? [part] : [slash, part])))
  }

  // ---- staging: rows at or behind `truncating` are left over, and count nowhere but where they are dropped

  isStaged(ino: bigint, index: number): boolean {
    return this.#counts(ino, index) && this.#one('isStaged', toSigned(ino), index) !== undefined
  }

  /** `former`: how many bytes of the file were in the chunk before it was staged. */
  stage(ino: bigint, index: number, former: number): void {
    this.#sql.stage?.run(toSigned(ino), index, former)
  }

  /**
   * Chunks from `index` on that are alike: all staged, or none. `end` is the first that may be otherwise, infinite where no
   * staged one follows.
   */
  stagedRun(ino: bigint, index: number): { staged: boolean; end: number } {
    const limit = this.#stagedLimit(ino)
    const rows = this.#list('stagedOn', toSigned(ino), index, ROWS_AT_ONCE)
      .map((row) => Number(row.idx))
      .filter((idx) => idx < limit)
    const [first] = rows
    if (first !== index) return { staged: false, end: first ?? Number.POSITIVE_INFINITY }
    const gap = rows.findIndex((idx, nth) => idx !== index + nth)
    return { staged: true, end: index + (gap === -1 ? rows.length : gap) }
  }

  /** The first staged chunk from an index on. */
  nextStaged(ino: bigint, from: number): number | undefined {
    const row = this.#one('stagedOn', toSigned(ino), from, 1)
    const index = row && Number(row.idx)
    return index !== undefined && this.#counts(ino, index) ? index : undefined
  }

  /** Whether the file has rows of staged chunks, those that are left over included. */
  hasStagedRows(ino: bigint): boolean {
    return this.#one('stagedOn', toSigned(ino), 0, 1) !== undefined
  }

  /** Drops rows of chunks from an index on, the last ones first, as many as one turn has room for: false if there may be more. */
  dropStaged(ino: bigint, from: number): boolean {
    const { changes = 0 } = this.#sql.dropSomeStaged?.run(toSigned(ino), from, ROWS_AT_ONCE) ?? {}
    return Number(changes) < ROWS_AT_ONCE
  }

  /** The first chunk of the file whose row is left over, infinite where none is. */
  #stagedLimit(ino: bigint): number {
    const truncating = this.get(ino)?.truncating
    return truncating === undefined ? Number.POSITIVE_INFINITY : Math.ceil(truncating / CHUNK_BYTES)
  }

  #counts(ino: bigint, index: number): boolean {
    return index < this.#stagedLimit(ino)
  }

  /** What is known of a staged chunk. */
  stagedChunk(ino: bigint, index: number): StagedChunk | undefined {
    const row = this.#one('stagedRow', toSigned(ino), index)
    if (!row || !this.#counts(ino, index)) return undefined
    const sums = row.sums instanceof Uint8Array ? blob(row.sums) : undefined
    return { synced: Number(row.synced), sums, cut: row.cut !== 0n }
  }

  /** Staged chunks, ascending; read page by page, as they are asked for. */
  *stagedRows(ino: bigint): Generator<StagedRow, undefined> {
    for (let from = 0; ; ) {
      const rows = this.#list('stagedRows', toSigned(ino), from, ROWS_AT_ONCE)
      for (const row of rows) {
        if (!this.#counts(ino, Number(row.idx))) return
        const former = row.former === null ? undefined : Number(row.former)
        yield { index: Number(row.idx), synced: Number(row.synced), former }
      }
      const last = rows.at(-1)
      if (!last || rows.length < ROWS_AT_ONCE) return
      from = Number(last.idx) + 1
    }
  }

  /** Whether there is a staged chunk that was never synced. */
  hasUnsynced(ino: bigint): boolean {
    return this.#one('anyUnsynced', toSigned(ino), this.#stagedLimit(ino)) !== undefined
  }

  lastStagedChunk(ino: bigint): number | undefined {
    const last = this.#one('lastStaged', toSigned(ino), this.#stagedLimit(ino))?.n
    return typeof last === 'bigint' ? Number(last) : undefined
  }

  /** The first staged chunk from an index on that has no checksums. */
  nextUnsealed(ino: bigint, from: number): number | undefined {
    const row = this.#one('unsealedOn', toSigned(ino), from)
    const index = row && Number(row.idx)
    return index !== undefined && this.#counts(ino, index) ? index : undefined
  }

  sealStaged(ino: bigint, index: number, sums: Buffer): void {
    this.#sql.sealStaged?.run(sums, toSigned(ino), index)
  }

  unsealStaged(ino: bigint, indexes: readonly number[]): void {
    for (const index of indexes) this.#sql.unsealStaged?.run(toSigned(ino), index)
  }

  /** The chunk was cut to so many bytes. */
  shortenStaged(ino: bigint, index: number, bytes: number): void {
    this.#sql.shortenStaged?.run(bytes, toSigned(ino), index)
  }

  /** So many bytes of these chunks, as they were staged then, are on the medium in the staging file. */
  markStagedSynced(ino: bigint, chunks: ReadonlyArray<{ index: number; bytes: number }>): void {
    for (const { index, bytes } of chunks) this.#sql.syncStaged?.run(bytes, toSigned(ino), index)
  }

  /** After a power loss: chunks that never were on the medium and have a base fall back to it; of others that is noted. */
  cutStaged(): void {
    this.#sql.dropUnsynced?.run()
    this.#sql.cutStaged?.run()
  }

  /** A sync of the file's staging file failed: no later one counts before all of it has been written anew. */
  doubtStaging(ino: bigint): void {
    this.#sql.doubtStaging?.run(toSigned(ino))
  }

  trustStaging(ino: bigint): void {
    this.#sql.trustStaging?.run(toSigned(ino))
  }

  doubtfulStaging(): bigint[] {
    return this.#list('doubtful').map((row) => toUnsigned(row.ino as bigint))
  }

  /** After a power loss the page cache is what the disk has. */
  trustAllStaging(): void {
    this.#sql.trustAll?.run()
  }

  // ---- copies of what the volume's disk may not have yet

  noteUnproven(ino: bigint): void {
    this.#sql.noteUnproven?.run(toSigned(ino))
  }

  /** Files of the first of them up to a number, those that `dropUnproven` takes first. */
  unproven(last: bigint): bigint[] {
    return this.#list('unproven', last, MANY_ROWS).map((row) => toUnsigned(row.ino as bigint))
  }

  /** Number of the last copy that is unproven; `undefined` if none is. */
  lastUnproven(): bigint | undefined {
    return (this.#one('lastUnproven')?.n ?? undefined) as bigint | undefined
  }

  /** Copies up to this number are proven, some at a time: true if there are more. */
  dropUnproven(last: bigint): boolean {
    return Number(this.#sql.dropUnproven?.run(last, MANY_ROWS).changes ?? 0) === MANY_ROWS
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

  // ---- intents and recorded answers

  intent(id: bigint): { operation: string; answer: string | undefined } | undefined {
    const row = this.#one('intent', id)
    return row
      ? { operation: String(row.operation), answer: row.answer === null ? undefined : String(row.answer) }
      : undefined
  }

  putIntent(id: bigint, operation: string, answer: string | undefined): void {
    this.#sql.putIntent?.run(id, operation, answer ?? null)
  }

  dropIntent(id: bigint): void {
    this.#sql.dropIntent?.run(id)
  }

  intents(): Array<{ id: bigint; operation: string; answer: string | undefined }> {
    return this.#list('intents').map((row) => ({
      id: row.id as bigint,
      operation: String(row.operation),
      answer: row.answer === null ? undefined : String(row.answer),
    }))
  }

  clearIntents(): void {
    this.#sql.clearIntents?.run()
  }

  // ---- meta

  meta(name: string): string | undefined {
    const row = this.#one('meta', name)
    return row ? String(row.value) : undefined
  }

  setMeta(name: string, value: string): void {
    this.#sql.setMeta?.run(name, value)
  }

  /** The file, if a directory's record mentions it or will. */
  #recorded(ino: bigint | undefined): Inode | undefined {
    const inode = ino === undefined ? undefined : this.get(ino)
    return inode && (inode.version > 0 || inode.dirGeneration > 0) ? inode : undefined
  }

  #remember(inode: Inode): void {
    this.#inodes.evict()
    this.#inodes.put(inode, shareOf(inode))
  }

  #one(
    statement: string,
    ...parameters: Array<bigint | number | string | Uint8Array | null>
  ): Row | undefined {
    step()
    return this.#sql[statement]?.get(...parameters) as Row | undefined
  }

  #list(statement: string, ...parameters: Array<bigint | number | string | Uint8Array | null>): Row[] {
    step()
    return (this.#sql[statement]?.all(...parameters) ?? []) as Row[]
  }

  #count(statement: string, ...parameters: Array<bigint | number | string>): number {
    return Number(this.#one(statement, ...parameters)?.n ?? 0)
  }
}

function shownFromRow(row: Row): ShownEntry {
  if (row.mode === null) return { ...direntFromRow(row), inode: undefined }
  const legacyIno = row.legacy_ino === null ? undefined : toUnsigned(row.legacy_ino as bigint)
  const authority = row.authority === 0n ? 'legacy' : 'catalog'
  return { ...direntFromRow(row), inode: { authority, legacyIno, mode: Number(row.mode) } }
}
