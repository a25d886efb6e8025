import type { Database } from '../base/database.ts'
import { CHUNK_BYTES } from './blocks.ts'
import { type Inode, toSigned, toUnsigned } from './inode.ts'
import { blob } from './links.ts'
import { Statements } from './statements.ts'

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

// Rows read or dropped in one go: a fraction of a millisecond.
const ROWS_AT_ONCE = 256

/**
 * Which chunks of a file are in its staging file, and how far each is on the medium there. Rows at or behind the inode's `truncating`
 * are left over, and count nowhere but where they are dropped.
 */
export class StagedRows {
  readonly #inodeOf: (ino: bigint) => Inode | undefined
  readonly #sql

  constructor(database: Database, inodeOf: (ino: bigint) => Inode | undefined) {
    this.#inodeOf = inodeOf
    this.#sql = new Statements(database, {
      has: 'SELECT 1 AS n FROM staged WHERE ino = ? AND idx = ?',
      add: 'INSERT OR IGNORE INTO staged (ino, idx, former) VALUES (?,?,?)',
      one: 'SELECT synced, sums, cut FROM staged WHERE ino = ? AND idx = ?',
      rows: 'SELECT idx, synced, former FROM staged WHERE ino = ? AND idx >= ? ORDER BY idx LIMIT ?',
      anyUnsynced:
        'SELECT 1 AS n FROM staged INDEXED BY staged_unsynced WHERE ino = ? AND synced = 0 AND idx < ? LIMIT 1',
      last: 'SELECT max(idx) AS n FROM staged WHERE ino = ? AND idx < ?',
      unsealedOn:
        'SELECT idx FROM staged INDEXED BY staged_unsealed WHERE ino = ? AND idx >= ? AND sums IS NULL ORDER BY idx LIMIT 1',
      seal: 'UPDATE staged SET sums = ?, cut = 0 WHERE ino = ? AND idx = ?',
      unseal: 'UPDATE staged SET sums = NULL WHERE ino = ? AND idx = ?',
      shorten:
        'UPDATE staged SET sums = NULL, synced = min(synced, ?1), former = min(former, ?1) WHERE ino = ?2 AND idx = ?3',
      cut: 'UPDATE staged SET cut = 1',
      on: 'SELECT idx FROM staged WHERE ino = ? AND idx >= ? ORDER BY idx LIMIT ?',
      dropSome: `DELETE FROM staged WHERE ino = ?1 AND idx IN
           (SELECT idx FROM staged WHERE ino = ?1 AND idx >= ?2 ORDER BY idx DESC LIMIT ?3)`,
      sync: 'UPDATE staged SET synced = max(synced, ?) WHERE ino = ? AND idx = ?',
      dropUnsynced:
        'DELETE FROM staged WHERE synced = 0 AND idx < (SELECT base_limit FROM inodes WHERE inodes.ino = staged.ino)',
      doubt: "INSERT OR REPLACE INTO meta VALUES ('doubtful-staging ' || ?, '')",
      trust: "DELETE FROM meta WHERE name = 'doubtful-staging ' || ?",
      doubtful: "SELECT ino FROM inodes JOIN meta ON name = 'doubtful-staging ' || ino WHERE staged > 0",
      trustAll: "DELETE FROM meta WHERE name >= 'doubtful-staging ' AND name < 'doubtful-staging!'",
    })
  }

  has(ino: bigint, index: number): boolean {
    return this.#counts(ino, index) && this.#sql.one('has', toSigned(ino), index) !== undefined
  }

  /** `former`: how many bytes of the file were in the chunk before it was staged. */
  add(ino: bigint, index: number, former: number): void {
    this.#sql.run('add', toSigned(ino), index, former)
  }

  /**
   * Chunks from `index` on that are alike: all staged, or none. `end` is the first that may be otherwise, infinite where no
   * staged one follows.
   */
  run(ino: bigint, index: number): { staged: boolean; end: number } {
    const limit = this.#limit(ino)
    const rows = this.#sql
      .all('on', toSigned(ino), index, ROWS_AT_ONCE)
      .map((row) => Number(row.idx))
      .filter((idx) => idx < limit)
    const [first] = rows
    if (first !== index) return { staged: false, end: first ?? Number.POSITIVE_INFINITY }
    const gap = rows.findIndex((idx, nth) => idx !== index + nth)
    return { staged: true, end: index + (gap === -1 ? rows.length : gap) }
  }

  /** The first staged chunk from an index on. */
  next(ino: bigint, from: number): number | undefined {
    const row = this.#sql.one('on', toSigned(ino), from, 1)
    const index = row && Number(row.idx)
    return index !== undefined && this.#counts(ino, index) ? index : undefined
  }

  /** Whether the file has rows of staged chunks, those that are left over included. */
  hasRows(ino: bigint): boolean {
    return this.#sql.one('on', toSigned(ino), 0, 1) !== undefined
  }

  /** Drops rows of chunks from an index on, the last ones first, as many as one turn has room for: false if there may be more. */
  drop(ino: bigint, from: number): boolean {
    return this.#sql.run('dropSome', toSigned(ino), from, ROWS_AT_ONCE) < ROWS_AT_ONCE
  }

  /** The first chunk of the file whose row is left over, infinite where none is. */
  #limit(ino: bigint): number {
    const truncating = this.#inodeOf(ino)?.truncating
    return truncating === undefined ? Number.POSITIVE_INFINITY : Math.ceil(truncating / CHUNK_BYTES)
  }

  #counts(ino: bigint, index: number): boolean {
    return index < this.#limit(ino)
  }

  /** What is known of a staged chunk. */
  get(ino: bigint, index: number): StagedChunk | undefined {
    const row = this.#sql.one('one', toSigned(ino), index)
    if (!row || !this.#counts(ino, index)) return undefined
    const sums = row.sums instanceof Uint8Array ? blob(row.sums) : undefined
    return { synced: Number(row.synced), sums, cut: row.cut !== 0n }
  }

  /** Staged chunks, ascending; read page by page, as they are asked for. */
  *rows(ino: bigint): Generator<StagedRow, undefined> {
    for (let from = 0; ; ) {
      const rows = this.#sql.all('rows', toSigned(ino), from, ROWS_AT_ONCE)
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
    return this.#sql.one('anyUnsynced', toSigned(ino), this.#limit(ino)) !== undefined
  }

  last(ino: bigint): number | undefined {
    const last = this.#sql.one('last', toSigned(ino), this.#limit(ino))?.n
    return typeof last === 'bigint' ? Number(last) : undefined
  }

  /** The first staged chunk from an index on that has no checksums. */
  nextUnsealed(ino: bigint, from: number): number | undefined {
    const row = this.#sql.one('unsealedOn', toSigned(ino), from)
    const index = row && Number(row.idx)
    return index !== undefined && this.#counts(ino, index) ? index : undefined
  }

  seal(ino: bigint, index: number, sums: Buffer): void {
    this.#sql.run('seal', sums, toSigned(ino), index)
  }

  unseal(ino: bigint, indexes: readonly number[]): void {
    for (const index of indexes) this.#sql.run('unseal', toSigned(ino), index)
  }

  /** The chunk was cut to so many bytes. */
  shorten(ino: bigint, index: number, bytes: number): void {
    this.#sql.run('shorten', bytes, toSigned(ino), index)
  }

  /** So many bytes of these chunks, as they were staged then, are on the medium in the staging file. */
  markSynced(ino: bigint, chunks: ReadonlyArray<{ index: number; bytes: number }>): void {
    for (const { index, bytes } of chunks) this.#sql.run('sync', bytes, toSigned(ino), index)
  }

  /** After a power loss: chunks that never were on the medium and have a base fall back to it; of others that is noted. */
  cut(): void {
    this.#sql.run('dropUnsynced')
    this.#sql.run('cut')
  }

  /** A sync of the file's staging file failed: no later one counts before all of it has been written anew. */
  doubt(ino: bigint): void {
    this.#sql.run('doubt', toSigned(ino))
  }

  trust(ino: bigint): void {
    this.#sql.run('trust', toSigned(ino))
  }

  doubtful(): bigint[] {
    return this.#sql.all('doubtful').map((row) => toUnsigned(row.ino as bigint))
  }

  /** After a power loss the page cache is what the disk has. */
  trustAll(): void {
    this.#sql.run('trustAll')
  }
}
