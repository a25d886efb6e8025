import type { StatementSync } from 'node:sqlite'
import { steadyMs } from '../base/clock.ts'
import type { Database } from '../base/database.ts'
import type { Row } from './inode.ts'
import { toSigned, toUnsigned } from './inode.ts'

/** Store work that is owed: write a file's object, write a directory's record. */
export type WorkKind = 'upload' | 'directory'

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

const MOST_UNREAD = 10_000

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
  readonly #has: StatementSync
  readonly #length: StatementSync
  readonly #oldest: StatementSync
  readonly #markShard: StatementSync
  readonly #shards: StatementSync
  readonly #clearShard: StatementSync
  readonly #discard: StatementSync
  readonly #garbage: StatementSync
  readonly #forget: StatementSync
  readonly #isListed: StatementSync
  /** Called after work was added, outside of any promise of order; the engine wakes its workers. */
  onWork: (kind: WorkKind | 'garbage') => void = () => undefined

  /**
   * Rows and marks that are there and that no worker has read since: to ask for them again changes nothing. A directory is
   * asked for at each file that moves.
   */
  readonly #unread = new Set<string>()
  readonly #database: Database
  /** Garbage by the number of the commit that listed it, while that may not be flushed. */
  readonly #young = new Map<string, number>()

  constructor(database: Database) {
    this.#database = database
    this.#clear = () => database.exec('DELETE FROM outbox; DELETE FROM dirty_shards; DELETE FROM garbage')
    this.#add = database.prepare(
      `INSERT INTO outbox (kind, ino, since) VALUES (?,?,?)
       ON CONFLICT (kind, ino) DO UPDATE SET seq = (SELECT max(seq) + 1 FROM outbox)`,
      true,
    )
    this.#done = database.prepare('DELETE FROM outbox WHERE kind = ? AND ino = ? AND seq = ?')
    this.#pending = database.prepare(
      'SELECT seq, kind, ino FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?',
      true,
    )
    this.#has = database.prepare('SELECT seq FROM outbox WHERE kind = ? AND ino = ?', true)
    this.#length = database.prepare(
      'SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM garbage) AS n',
    )
    this.#oldest = database.prepare(
      'SELECT min(since) AS since FROM (SELECT min(since) AS since FROM outbox UNION ALL SELECT min(since) FROM garbage)',
    )
    this.#markShard = database.prepare('INSERT OR IGNORE INTO dirty_shards VALUES (?,?)')
    this.#shards = database.prepare('SELECT shard FROM dirty_shards WHERE ino = ? ORDER BY shard')
    this.#clearShard = database.prepare('DELETE FROM dirty_shards WHERE ino = ? AND shard = ?')
    this.#discard = database.prepare('INSERT OR REPLACE INTO garbage VALUES (?,?,?,?,?,?)')
    this.#garbage = database.prepare('SELECT * FROM garbage LIMIT ?', true)
    this.#isListed = database.prepare('SELECT 1 FROM garbage WHERE space = ? AND key = ?')
    this.#forget = database.prepare('DELETE FROM garbage WHERE space = ? AND key = ? AND version = ?')
  }

  add(kind: WorkKind, ino: bigint): void {
    const name = `${kind} ${ino}`
    // A file that changed again comes after those that did not; for directories the order means nothing.
    if (kind === 'upload' || !this.#unread.has(name)) this.#add.run(kind, toSigned(ino), steadyMs())
    if (kind === 'directory') this.#noteUnread(name)
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
    return (this.#pending.all(after, limit) as Row[]).map((row) => ({
      seq: row.seq as bigint,
      kind: row.kind as WorkKind,
      ino: toUnsigned(row.ino as bigint),
    }))
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
    const name = `shard ${directory} ${shard}`
    if (!this.#unread.has(name)) this.#markShard.run(toSigned(directory), shard)
    this.#noteUnread(name)
  }

  dirtyShards(directory: bigint): number[] {
    return (this.#shards.all(toSigned(directory)) as Array<{ shard: number }>).map((row) => row.shard)
  }

  clearShards(directory: bigint): void {
    for (const shard of this.dirtyShards(directory)) {
      this.#unread.delete(`shard ${directory} ${shard}`)
      this.#clearShard.run(toSigned(directory), shard)
    }
  }

  /** Lists an object for deletion up to the given version. */
  discard(space: Garbage['space'], key: string, epoch: number, version: number, ino: bigint): void {
    this.#discard.run(space, key, epoch, version, toSigned(ino), steadyMs())
    if (this.#young.size >= MOST_UNREAD) this.#forgetOld()
    // The commit under way, or the next.
    this.#young.set(`${space} ${key}`, this.#database.lastCommit + 1)
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

  /** Whether an object is under this key that is garbage, and may be needed by the last flushed catalog. */
  isListed(space: Garbage['space'], key: string): boolean {
    return this.#isListed.get(space, key) !== undefined
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
