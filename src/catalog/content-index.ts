import type { StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'
import { CHUNK_BLOCKS } from './blocks.ts'
import { Gaps } from './gaps.ts'
import { fileId, type Inode, isChunked, type Row, toSigned, toUnsigned } from './inode.ts'
import { contentKey } from './object-keys.ts'
import type { Outbox } from './outbox.ts'

// Rows read or changed in one go: a few milliseconds at most.
const ROWS_AT_ONCE = 256

// Above every chunk of any file: the last gap of a file ends here.
const NO_CHUNK = 2 ** 40

/** A file as its content is filed: whose number and generation name its objects. */
export type Owner = Pick<Inode, 'ino' | 'generation'>

/** An object of a file in the store: a chunk (level 0), or a page that lists what is one level below. */
interface Listed {
  readonly index: number
  readonly hash: Buffer
}

/** What a copy under way makes of a chunk or page. */
export interface Incoming {
  readonly level: number
  readonly index: number
  /** `undefined`: nothing but zeros, so there is no object. */
  readonly hash: Buffer | undefined
  /** One bit for each block of the chunk, set where it is zeros; `undefined` where none is. */
  readonly zeros: Buffer | undefined
}

/**
 * Which objects the stored content of a file is made of, and where it has holes. Nothing here grows with a hole, and nothing but
 * one look takes longer because of one.
 *
 * A copy notes in `incoming` what it finds different. Once the store has the whole of the new version, that is moved over, some
 * rows in each transaction: meanwhile a chunk may be listed as it is in either version. That does no harm where the file is
 * noted as changed: whoever reads it takes a changed chunk from where it was changed.
 */
export class ContentIndex {
  readonly #outbox: Outbox
  readonly #gaps: Gaps
  readonly #sql: Readonly<Record<string, StatementSync>>

  constructor(database: Database, outbox: Outbox) {
    this.#outbox = outbox
    this.#gaps = new Gaps(database)
    const sql = (text: string): StatementSync => database.prepare(text)
    this.#sql = {
      hash: sql('SELECT hash FROM hashes WHERE file = ? AND level = ? AND idx = ?'),
      hashesOn: sql(
        'SELECT idx, hash FROM hashes WHERE file = ? AND level = ? AND idx >= ? ORDER BY idx LIMIT ?',
      ),
      setHash: sql('INSERT OR REPLACE INTO hashes VALUES (?,?,?,?)'),
      dropHash: sql('DELETE FROM hashes WHERE file = ? AND level = ? AND idx = ?'),
      anyHash: sql('SELECT level, idx, hash FROM hashes WHERE file = ? LIMIT ?'),
      zeros: sql('SELECT bits FROM zeros WHERE file = ? AND idx = ?'),
      zerosOn: sql('SELECT idx, bits FROM zeros WHERE file = ? AND idx > ? ORDER BY idx LIMIT 1'),
      zerosIn: sql('SELECT idx, bits FROM zeros WHERE file = ? AND idx >= ? AND idx < ?'),
      setZeros: sql('INSERT OR REPLACE INTO zeros VALUES (?,?,?)'),
      dropZeros: sql('DELETE FROM zeros WHERE file = ? AND idx = ?'),
      dropSomeZeros: sql(
        'DELETE FROM zeros WHERE file = ? AND idx IN (SELECT idx FROM zeros WHERE file = ? LIMIT ?)',
      ),
      isKnown: sql(
        `SELECT EXISTS (SELECT 1 FROM hashes WHERE file = ?1) OR EXISTS (SELECT 1 FROM zeros WHERE file = ?1)
           OR EXISTS (SELECT 1 FROM gaps WHERE file = ?1) OR EXISTS (SELECT 1 FROM incoming WHERE file = ?1) AS n`,
      ),
      setIncoming: sql('INSERT OR REPLACE INTO incoming VALUES (?,?,?,?,?)'),
      incomingOn: sql(
        'SELECT level, idx, hash, zeros FROM incoming WHERE file = ? AND level = ? AND idx >= ? ORDER BY idx LIMIT ?',
      ),
      incomingLast: sql(
        'SELECT level, idx, hash, zeros FROM incoming WHERE file = ? ORDER BY level DESC, idx DESC LIMIT ?',
      ),
      dropIncoming: sql('DELETE FROM incoming WHERE file = ? AND level = ? AND idx = ?'),
      discarded: database.prepare('SELECT file, ino FROM discarded LIMIT 1', true),
      addDiscarded: sql('INSERT INTO discarded VALUES (?,?) ON CONFLICT DO NOTHING'),
      dropDiscarded: sql('DELETE FROM discarded WHERE file = ?'),
      discardedCount: sql('SELECT count(*) AS n FROM discarded'),
    }
  }

  // ---- what is stored

  chunk({ generation }: Owner, index: number): Buffer | undefined {
    return this.hash(generation, 0, index)
  }

  hash(file: number, level: number, index: number): Buffer | undefined {
    return blob(this.#one('hash', file, level, index)?.hash)
  }

  /** Objects of one level, ascending from an index on. Reads some at a time, so rows may change while it is used. */
  *hashesFrom(file: number, level: number, from: number): IterableIterator<Listed> {
    for (let next = from; ; ) {
      const rows = this.hashes(file, level, next, ROWS_AT_ONCE)
      yield* rows
      const last = rows[rows.length - 1]
      if (!last || rows.length < ROWS_AT_ONCE) return
      next = last.index + 1
    }
  }

  /** The first so many objects of a level from an index on. */
  hashes(file: number, level: number, from: number, limit: number): Listed[] {
    return this.#all('hashesOn', file, level, from, limit).map(({ idx, hash }) => ({
      index: Number(idx),
      hash: blob(hash) ?? Buffer.alloc(0),
    }))
  }

  /** Which blocks of a listed chunk are zeros; `undefined` where none is known to be. */
  zeros(file: number, chunk: number): Buffer | undefined {
    return blob(this.#one('zeros', file, chunk)?.bits)
  }

  /** The same for all chunks of [from, to). */
  zerosIn(file: number, from: number, to: number): Map<number, Buffer> {
    const rows = this.#all('zerosIn', file, from, to)
    return new Map(rows.map(({ idx, bits }) => [Number(idx), blob(bits) ?? Buffer.alloc(0)]))
  }

  /** Nothing is noted of the file: its content is one object without holes, or none. */
  isPlain(file: number): boolean {
    return Number(this.#one('isKnown', file)?.n) === 0
  }

  /** The first block from this one on that holds data. One beyond the file's end says that there is none. */
  nextData({ generation: file, layout }: Pick<Inode, 'generation' | 'layout'>, block: number): number {
    const gapped = isChunked({ layout })
    for (let at = block; ; ) {
      const chunk = Math.floor(at / CHUNK_BLOCKS)
      const gapEnd = gapped ? this.#gaps.endOf(file, chunk) : undefined
      if (gapEnd !== undefined) {
        at = gapEnd * CHUNK_BLOCKS
        continue
      }
      const found = firstBlock(this.zeros(file, chunk), at % CHUNK_BLOCKS, false)
      if (found !== undefined) return chunk * CHUNK_BLOCKS + found
      at = (chunk + 1) * CHUNK_BLOCKS
    }
  }

  /** The first block from this one on that is a hole; infinite where none is. */
  nextHole({ generation: file, layout }: Pick<Inode, 'generation' | 'layout'>, block: number): number {
    const gapped = isChunked({ layout })
    const chunk = Math.floor(block / CHUNK_BLOCKS)
    if (gapped && this.#gaps.endOf(file, chunk) !== undefined) return block
    const found = firstBlock(this.zeros(file, chunk), block % CHUNK_BLOCKS, true)
    if (found !== undefined) return chunk * CHUNK_BLOCKS + found
    const gap = (gapped ? this.#gaps.nextAfter(file, chunk) : undefined) ?? Number.POSITIVE_INFINITY
    const row = this.#one('zerosOn', file, chunk)
    if (!row || Number(row.idx) > gap) return gap * CHUNK_BLOCKS
    return Number(row.idx) * CHUNK_BLOCKS + (firstBlock(blob(row.bits), 0, true) ?? 0)
  }

  // ---- a copy under way

  /** Within a transaction. */
  setIncoming(file: number, { level, index, hash, zeros }: Incoming): void {
    this.#sql.setIncoming?.run(file, level, index, hash ?? null, zeros ?? null)
  }

  /** The first so many rows of a level from an index on. */
  incoming(file: number, level: number, from: number, limit: number): Incoming[] {
    return this.#all('incomingOn', file, level, from, limit).map(incomingRow)
  }

  /** Forgets what an earlier copy left, some rows of it: true if there is more. Within a transaction. */
  dropIncoming(file: number): boolean {
    const rows = this.#last(file)
    for (const { level, index } of rows) this.#sql.dropIncoming?.run(file, level, index)
    return rows.length === ROWS_AT_ONCE
  }

  /** More than one transaction's worth is to be moved over. */
  hasMuchIncoming(file: number): boolean {
    return this.#last(file).length === ROWS_AT_ONCE
  }

  /**
   * Moves some rows over, the last ones first: what they replace becomes garbage, what they name is garbage no more. Within a
   * transaction; once the store has all of the version that they belong to.
   */
  moveIncoming(owner: Owner): void {
    const file = owner.generation
    this.begin(file)
    const moved = this.#last(file)
    for (const row of moved) {
      const { level, index, hash } = row
      const was = this.hash(file, level, index)
      if (was && !(hash && was.equals(hash))) this.#discard(owner, level, { index, hash: was })
      this.#sql.dropIncoming?.run(file, level, index)
      if (hash) this.#keep(owner, level, { index, hash })
    }
    this.list(file, moved)
  }

  /** From now on the file's content is in chunks: before the first is listed all of it is a gap. */
  begin(file: number): void {
    if (!this.#gaps.has(file)) this.#gaps.open(file, 0, NO_CHUNK)
  }

  /** Lists chunks and pages of the stored content, or strikes them off. Within a transaction. */
  list(file: number, rows: readonly Incoming[]): void {
    const listed: number[] = []
    const holes: number[] = []
    for (const { level, index, hash, zeros } of rows) {
      if (hash) this.#sql.setHash?.run(file, level, index, hash)
      else this.#sql.dropHash?.run(file, level, index)
      if (level > 0) continue
      this.#setZeros(file, index, zeros)
      if (hash) listed.push(index)
      else holes.push(index)
    }
    for (const [from, to] of runsOf(listed)) this.#gaps.close(file, from, to)
    for (const [from, to] of runsOf(holes)) this.#gaps.open(file, from, to)
  }

  /** The file's content is one object, with these blocks zeros. All chunks have been struck off. */
  setInline(file: number, zeros: Buffer | undefined): void {
    this.#gaps.clear(file)
    this.#setZeros(file, 0, zeros)
  }

  // ---- content of files that are gone

  /**
   * Nothing refers to the file's objects any more. What is too much for one transaction is left to `discardMore`. Within a
   * transaction.
   */
  discard(owner: Owner): void {
    if (this.isPlain(owner.generation)) return
    if (!this.#discardSome(owner)) return
    this.#sql.addDiscarded?.run(owner.generation, toSigned(owner.ino))
    this.#outbox.noteGarbage()
  }

  /** Goes on with what was discarded before: true if there was anything. Within a transaction. */
  discardMore(): boolean {
    const row = this.#one('discarded')
    if (!row) return false
    const owner = { generation: Number(row.file), ino: toUnsigned(row.ino as bigint) }
    if (!this.#discardSome(owner)) this.#sql.dropDiscarded?.run(owner.generation)
    return true
  }

  /** Files whose objects are not all listed as garbage yet. */
  get discarded(): number {
    return Number(this.#one('discardedCount')?.n ?? 0)
  }

  /** True if there is more. */
  #discardSome(owner: Owner): boolean {
    const file = owner.generation
    const rows = this.#all('anyHash', file, ROWS_AT_ONCE)
    for (const { level, idx, hash } of rows) {
      this.#discard(owner, Number(level), { index: Number(idx), hash: blob(hash) ?? Buffer.alloc(0) })
      this.#sql.dropHash?.run(file, Number(level), Number(idx))
    }
    const zeros = this.#sql.dropSomeZeros?.run(file, file, ROWS_AT_ONCE).changes
    const more = this.dropIncoming(file) || rows.length === ROWS_AT_ONCE || Number(zeros) === ROWS_AT_ONCE
    if (!more) this.#gaps.clear(file)
    return more
  }

  #setZeros(file: number, chunk: number, zeros: Buffer | undefined): void {
    if (zeros) this.#sql.setZeros?.run(file, chunk, zeros)
    else this.#sql.dropZeros?.run(file, chunk)
  }

  /** The object is in use: no garbage any more, if it was. */
  #keep(owner: Owner, level: number, { index, hash }: Listed): void {
    const key = contentKey(fileId(owner), level, index, hash)
    this.#outbox.forget({ space: 'chunks', key, epoch: 0, version: 0, ino: owner.ino })
  }

  #discard(owner: Owner, level: number, { index, hash }: Listed): void {
    this.#outbox.discard('chunks', contentKey(fileId(owner), level, index, hash), 0, 0, owner.ino)
  }

  #last(file: number): Incoming[] {
    return this.#all('incomingLast', file, ROWS_AT_ONCE).map(incomingRow)
  }

  #one(statement: string, ...parameters: number[]): Row | undefined {
    return this.#sql[statement]?.get(...parameters) as Row | undefined
  }

  #all(statement: string, ...parameters: number[]): Row[] {
    return (this.#sql[statement]?.all(...parameters) ?? []) as Row[]
  }
}

const blob = (value: Row[string] | undefined): Buffer | undefined =>
  value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : undefined

const incomingRow = ({ level, idx, hash, zeros }: Row): Incoming => ({
  level: Number(level),
  index: Number(idx),
  hash: blob(hash),
  zeros: blob(zeros),
})

/** Runs of consecutive numbers, `[first, behind the last]`. */
function runsOf(numbers: readonly number[]): Array<readonly [number, number]> {
  const runs: Array<readonly [number, number]> = []
  const sorted = [...numbers].sort((a, b) => a - b)
  for (let at = 0; at < sorted.length; ) {
    const first = sorted[at] ?? 0
    const begin = at
    while (at < sorted.length && sorted[at] === first + at - begin) at += 1
    runs.push([first, first + at - begin])
  }
  return runs
}

/** The first block from one on whose bit is `isZero`. Where no bits are given, no block is zeros. */
function firstBlock(bits: Buffer | undefined, from: number, isZero: boolean): number | undefined {
  if (!bits) return isZero ? undefined : from
  for (let block = from; block < CHUNK_BLOCKS; block += 1) {
    if ((((bits[block >> 3] ?? 0) >> (block & 7)) & 1) === (isZero ? 1 : 0)) return block
  }
  return undefined
}
