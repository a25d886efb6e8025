import type { StatementSync } from 'node:sqlite'
import { steadyMs } from '../base/clock.ts'
import type { Database } from '../base/database.ts'
import type { Row } from './inode.ts'
import { BEFORE_ALL, LAYOUT_LOST, toSigned, toUnsigned } from './inode.ts'
import { ALL_SHARDS } from './name-buckets.ts'

/** Store work that is owed: write a file's object, write a directory's record, have records say of all of a file's names. */
export type WorkKind = 'upload' | 'directory' | 'names'

export interface Work {
  readonly seq: bigint
  readonly kind: WorkKind
  readonly ino: bigint
}

export interface Garbage {
  readonly space: 'files' | 'chunks' | 'dirs'
  readonly key: string
  readonly epoch: number
  readonly version: number
  readonly ino: bigint
}

/** Which parts of a directory's record were marked for writing since; see `Outbox.watch`. */
export interface ShardWatch {
  readonly marked: Set<number>
  end(): void
}

const MOST_UNREAD = 10_000

const OWED_AT_ONCE = 256

/**
 * Durable list of store work, one row per kind and inode: work that is owed twice is done once. Asking for work that is
 * already listed gives the row a new number, so that a worker that finished the old round does not cross it off.
 */
export class Outbox {
  readonly #openedAt = steadyMs()
  readonly #clear: () => void
  readonly #add: StatementSync
  readonly #done: StatementSync
  readonly #pending: StatementSync
  readonly #uploads: StatementSync
  readonly #directories: StatementSync
  readonly #names: StatementSync
  readonly #has: StatementSync
  readonly #length: StatementSync
  readonly #oldest: StatementSync
  readonly #markShard: StatementSync
  readonly #shards: StatementSync
  readonly #isDirty: StatementSync
  readonly #allDirty: StatementSync
  readonly #clearShard: StatementSync
  readonly #clearShards: StatementSync
  readonly #discard: StatementSync
  readonly #garbage: StatementSync
  readonly #forget: StatementSync
  readonly #isListed: StatementSync
  readonly #mayGo: StatementSync
  readonly #keep: StatementSync
  readonly #release: StatementSync
  readonly #releaseUnnamed: StatementSync
  readonly #watches = new Map<bigint, ShardWatch>()
  /** Called with each directory whose record is out of date from now on. */
  onOwedDirectory: (ino: bigint) => void = () => undefined
  /** Called after work was added, outside of any promise of order; the engine wakes its workers. */
  onWork: (kind: WorkKind | 'garbage') => void = () => undefined

  /**
   * Rows and marks that are there and that no worker has read since: to ask for them again changes nothing. A directory is
   * asked for at each file that moves.
   */
  readonly #unread = new Set<string>()
  /** No row has a higher number, and none gets one that was used before: who has read up to a number has all up to it. */
  #last: bigint
  readonly #database: Database
  /** Garbage by the number of the commit that listed it, while that may not be flushed. */
  readonly #young = new Map<string, number>()

  constructor(database: Database) {
    this.#database = database
    this.#clear = () =>
      database.exec(
        'DELETE FROM outbox; DELETE FROM dirty_shards; DELETE FROM garbage; DELETE FROM departures; DELETE FROM gone_directories',
      )
    this.#add = database.prepare(
      `INSERT INTO outbox (seq, kind, ino, since) VALUES (?,?,?,?)
       ON CONFLICT (kind, ino) DO UPDATE SET seq = excluded.seq`,
    )
    this.#last = database
      .prepare(
        `SELECT max(coalesce((SELECT max(seq) FROM outbox), 0),
           coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)) AS last`,
        true,
      )
      .get()?.last as bigint
    this.#done = database.prepare('DELETE FROM outbox WHERE kind = ? AND ino = ? AND seq = ?')
    this.#pending = database.prepare(
      'SELECT seq, kind, ino FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?',
      true,
    )
    this.#uploads = database.prepare(
      "SELECT seq, kind, ino FROM outbox WHERE kind = 'upload' AND seq > ? ORDER BY seq LIMIT ?",
      true,
    )
    this.#names = database.prepare(
      "SELECT seq, kind, ino FROM outbox WHERE kind = 'names' ORDER BY seq LIMIT ?",
      true,
    )
    // What has no record yet comes first, the newest before the older ones, so a directory mostly before the one that is to name it.
    // Looked for among the newest ones: there may be any number of them, and they are asked for again and again.
    this.#directories = database.prepare(
      `WITH newest AS (SELECT seq, kind, ino FROM outbox WHERE kind = 'directory' ORDER BY seq DESC LIMIT ?1 * 4),
         fresh AS (SELECT newest.seq, newest.kind, newest.ino FROM newest CROSS JOIN inodes ON inodes.ino = newest.ino
           WHERE dir_shards = 0 ORDER BY newest.seq DESC LIMIT ?1),
         oldest AS (SELECT seq, kind, ino FROM outbox WHERE kind = 'directory' ORDER BY seq LIMIT ?1)
       SELECT * FROM (SELECT * FROM fresh ORDER BY seq DESC)
       UNION ALL SELECT * FROM (SELECT * FROM oldest WHERE seq NOT IN (SELECT seq FROM fresh) ORDER BY seq) LIMIT ?1`,
      true,
    )
    this.#has = database.prepare('SELECT seq FROM outbox WHERE kind = ? AND ino = ?', true)
    this.#length = database.prepare("SELECT n FROM counts WHERE name = 'owed'")
    this.#oldest = database.prepare(
      'SELECT min(since) AS since FROM (SELECT min(since) AS since FROM outbox UNION ALL SELECT min(since) FROM garbage)',
    )
    this.#markShard = database.prepare('INSERT OR IGNORE INTO dirty_shards VALUES (?,?)')
    this.#shards = database.prepare('SELECT shard FROM dirty_shards WHERE ino = ? ORDER BY shard')
    this.#isDirty = database.prepare(
      `SELECT 1 AS n FROM dirty_shards WHERE ino = ? AND shard IN (${ALL_SHARDS}, ?)`,
    )
    this.#allDirty = database.prepare(
      `SELECT d.ino FROM dirty_shards AS d CROSS JOIN inodes AS i ON i.ino = d.ino
       WHERE d.ino >= ? AND shard = ${ALL_SHARDS} AND orphan = 0 AND layout <> ${LAYOUT_LOST}
       ORDER BY d.ino LIMIT ${OWED_AT_ONCE}`,
      true,
    )
    this.#clearShard = database.prepare('DELETE FROM dirty_shards WHERE ino = ? AND shard = ?')
    this.#clearShards = database.prepare('DELETE FROM dirty_shards WHERE ino = ?')
    this.#discard = database.prepare(
      `INSERT INTO garbage (space, key, epoch, version, ino, since, held)
       VALUES (?1,?2,?3,?4,?5,?6, EXISTS (SELECT 1 FROM departures WHERE ino = ?5))
       ON CONFLICT (space, key) DO UPDATE SET epoch = excluded.epoch, version = excluded.version, ino = excluded.ino,
         since = excluded.since, held = excluded.held`,
    )
    // A header that is owed may name parts that the catalog has given up.
    this.#garbage = database.prepare(
      `SELECT * FROM garbage WHERE held = 0 AND NOT (space = 'dirs' AND EXISTS (
         SELECT 1 FROM outbox WHERE kind = 'directory' AND outbox.ino = garbage.ino)) LIMIT ?`,
      true,
    )
    this.#mayGo = database.prepare(
      `SELECT 1 AS n FROM garbage WHERE space = ?1 AND key = ?2 AND held = 0 AND NOT (space = 'dirs' AND EXISTS (
         SELECT 1 FROM outbox WHERE kind = 'directory' AND outbox.ino = garbage.ino))`,
    )
    this.#isListed = database.prepare('SELECT 1 AS n FROM garbage WHERE space = ? AND key = ?')
    this.#releaseUnnamed = database.prepare(
      'UPDATE garbage SET held = 0 WHERE held = 1 AND NOT EXISTS (SELECT 1 FROM departures AS d WHERE d.ino = garbage.ino)',
    )
    this.#release = database.prepare('UPDATE garbage SET held = 0 WHERE held = 1 AND ino = ?')
    this.#keep = database.prepare('DELETE FROM garbage WHERE space = ? AND key = ?')
    this.#forget = database.prepare('DELETE FROM garbage WHERE space = ? AND key = ? AND version = ?')
  }

  add(kind: WorkKind, ino: bigint): void {
    const name = `${kind} ${ino}`
    // A file that changed again comes after those that did not; for directories the order means nothing.
    if (kind === 'upload' || !this.#unread.has(name)) {
      this.#last += 1n
      this.#add.run(this.#last, kind, toSigned(ino), steadyMs())
    }
    if (kind === 'directory') {
      this.#noteUnread(name)
      this.onOwedDirectory(ino)
    }
    this.onWork(kind)
  }

  /** Forgets all work: after a rebuild, which made the catalog from what the store has. */
  clear(): void {
    this.#unread.clear()
    this.#clear()
  }

  /** Crosses the work off unless it was asked for again since it was read. */
  done(work: Work): void {
    this.#unread.delete(`${work.kind} ${work.ino}`)
    this.#done.run(work.kind, toSigned(work.ino), work.seq)
  }

  find(kind: WorkKind, ino: bigint): Work | undefined {
    this.#unread.delete(`${kind} ${ino}`)
    const row = this.#has.get(kind, toSigned(ino)) as { seq: bigint } | undefined
    return row ? { seq: row.seq, kind, ino } : undefined
  }

  /** Work in the order in which it was asked for, numbered above `after`. */
  pending(after: bigint, limit: number): Work[] {
    return (this.#pending.all(after, limit) as Row[]).map(workOf)
  }

  /** The files among `pending`. */
  uploads(after: bigint, limit: number): Work[] {
    return (this.#uploads.all(after, limit) as Row[]).map(workOf)
  }

  /** Files some of whose names no record may say yet. */
  names(limit: number): Work[] {
    return (this.#names.all(limit) as Row[]).map(workOf)
  }

  /** The directories, in the order in which they are best written. */
  directories(limit: number): Work[] {
    return (this.#directories.all(limit) as Row[]).map(workOf)
  }

  get length(): number {
    return Number((this.#length.get() as { n: number }).n)
  }

  /** Age of the oldest work in seconds, 0 if there is none. */
  get oldestSeconds(): number {
    const { since } = this.#oldest.get() as { since: number | null }
    if (since === null) return 0
    const now = steadyMs()
    // From before this process and before the clock was set back: at least as old as this process.
    return (now - (since > now ? this.#openedAt : since)) / 1000
  }

  markShard(directory: bigint, shard: number): void {
    this.#watches.get(directory)?.marked.add(shard)
    const name = `shard ${directory} ${shard}`
    if (!this.#unread.has(name)) this.#markShard.run(toSigned(directory), shard)
    this.#noteUnread(name)
  }

  /** All of the record is to be written under another generation: nobody knows which of its parts has which name. */
  markAllShards(directory: bigint): void {
    this.markShard(directory, ALL_SHARDS)
  }

  areAllDirty(directory: bigint): boolean {
    return this.isDirtyShard(directory, ALL_SHARDS)
  }

  /**
   * Some of the records of which all is to be written are owed, but not those that have lost a part: nothing is written over that.
   * @param from for the first of them nothing, then what the last call gave @returns where to go on
   */
  oweAllDirty(from = BEFORE_ALL): bigint | undefined {
    let last: bigint | undefined
    for (const { ino } of this.#allDirty.all(from) as Row[]) {
      last = ino as bigint
      this.add('directory', toUnsigned(last))
    }
    if (last === undefined) return undefined
    const next = toSigned(last + 1n)
    return next > last ? next : undefined
  }

  dirtyShards(directory: bigint): number[] {
    return (this.#shards.all(toSigned(directory)) as Array<{ shard: number }>).map((row) => row.shard)
  }

  isDirtyShard(directory: bigint, shard: number): boolean {
    return this.#isDirty.get(toSigned(directory), shard) !== undefined
  }

  clearShards(directory: bigint): void {
    this.#unread.clear()
    this.#clearShards.run(toSigned(directory))
  }

  clearShard(directory: bigint, shard: number): void {
    this.#unread.delete(`shard ${directory} ${shard}`)
    this.#clearShard.run(toSigned(directory), shard)
  }

  /** From now on notes what is marked in the directory, also where the mark is there already. One watch at a time. */
  watch(directory: bigint): ShardWatch {
    const watch = { marked: new Set<number>(), end: () => this.#watches.delete(directory) }
    this.#watches.set(directory, watch)
    return watch
  }

  /** Lists an object for deletion up to the given version. */
  discard(space: Garbage['space'], key: string, epoch: number, version: number, ino: bigint): void {
    this.#discard.run(space, key, epoch, version, toSigned(ino), steadyMs())
    if (this.#young.size >= MOST_UNREAD) this.#forgetOld()
    // The commit under way, or the next.
    this.#young.set(`${space} ${key}`, this.#database.lastCommit + 1)
    this.onWork('garbage')
  }

  /** The object is in use, whatever version of it was listed for deletion. */
  keep(space: Garbage['space'], key: string): void {
    this.#keep.run(space, key)
  }

  /** Garbage is to be listed of which no row is there yet. */
  noteGarbage(): void {
    this.onWork('garbage')
  }

  garbage(limit: number): Garbage[] {
    return (this.#garbage.all(limit) as Row[]).map((row) => ({
      space: row.space as Garbage['space'],
      key: String(row.key),
      epoch: Number(row.epoch),
      version: Number(row.version),
      ino: toUnsigned(row.ino as bigint),
    }))
  }

  /** That the object is garbage is flushed: no power loss brings back a catalog that needs it. */
  isRipe({ space, key }: Garbage): boolean {
    return this.#database.isFlushed(this.#young.get(`${space} ${key}`) ?? 1)
  }

  /** Whether an object is under this key that is garbage, and may be needed by the last flushed catalog or led to by a record. */
  isListed(space: Garbage['space'], key: string): boolean {
    return this.#isListed.get(space, key) !== undefined
  }

  /** Whether the object is listed, and no record in the store may lead to it. */
  mayGo({ space, key }: Garbage): boolean {
    return this.#mayGo.get(space, key) !== undefined
  }

  /** No record names the file any more: what is listed of it can go. */
  release(ino: bigint): void {
    if (this.#release.run(toSigned(ino)).changes > 0) this.onWork('garbage')
  }

  /** The same for whatever `departures` does not name. */
  releaseUnnamed(): void {
    this.#releaseUnnamed.run()
  }

  forget(garbage: Garbage): void {
    this.#forget.run(garbage.space, garbage.key, garbage.version)
  }

  /** A transaction was rolled back: what was added in it is not there. */
  rolledBack(): void {
    this.#unread.clear()
  }

  #forgetOld(): void {
    for (const [name, commit] of this.#young) if (this.#database.isFlushed(commit)) this.#young.delete(name)
  }

  #noteUnread(name: string): void {
    if (this.#unread.size >= MOST_UNREAD) this.#unread.clear()
    this.#unread.add(name)
  }
}

const workOf = (row: Row): Work => ({
  seq: row.seq as bigint,
  kind: row.kind as WorkKind,
  ino: toUnsigned(row.ino as bigint),
})
