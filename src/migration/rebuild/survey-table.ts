import { rmSync } from 'node:fs'
import type { StatementSync } from 'node:sqlite'
import { Database } from '../../base/database.ts'
import { makePrivateFile } from '../../base/private.ts'
import { fileId, type Row, toSigned, toUnsigned } from '../../catalog/index.ts'
import { type DirectoryHeader, decodeHeader, encodeHeader, type RecordedEntry } from '../../content/index.ts'
import type { ObjectVersion } from '../../store/contract.ts'
import { printable } from '../../sys/index.ts'

// "ferr" + 1: no catalog.
const APPLICATION_ID = 0x66657273
const ROWS_AT_ONCE = 256
// Bytes of a path that a message shows; of a longer one, its end.
const MOST_SHOWN = 1024

/**
 * `dirs`: every directory that a record names, in the order in which they were met. `parent` and `name` say where it was met first, or
 * has been put; `edge` is the row of `names` that put it there. `state`: see `STATES`. `header` is what its record says of itself as JSON,
 * NULL where that is lost; `loss` says what is lost of its record.
 *
 * `names`: every name that a record has for something. Without a key it is a directory. `stale`: a newer record says that it left.
 * `bound`: version of the newest name of a directory that waits for this older one, because nothing that was put leads to that.
 *
 * `former`: places that a record says a file has left. `lost`: names of files whose objects cannot be had.
 */
const SCHEMA = `
CREATE TABLE dirs (
  n INTEGER PRIMARY KEY, ino INTEGER NOT NULL, generation INTEGER NOT NULL,
  parent INTEGER NOT NULL, name BLOB NOT NULL, edge INTEGER NOT NULL,
  state INTEGER NOT NULL, header TEXT, loss TEXT, shown INTEGER, UNIQUE (ino, generation)
);
CREATE INDEX dirs_state ON dirs (state, n);
CREATE TABLE names (
  n INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,
  ino INTEGER NOT NULL, generation INTEGER NOT NULL, key TEXT, links INTEGER NOT NULL,
  leaving INTEGER NOT NULL, stale INTEGER NOT NULL DEFAULT 0, epoch INTEGER NOT NULL, version INTEGER NOT NULL,
  bound_epoch INTEGER, bound_version INTEGER
);
CREATE INDEX names_files ON names (leaving, ino, generation DESC, stale, epoch DESC, version DESC, n) WHERE key IS NOT NULL;
CREATE INDEX names_dirs ON names (ino, generation, leaving, stale, epoch DESC, version DESC, n) WHERE key IS NULL;
CREATE INDEX names_below ON names (parent, n) WHERE key IS NULL;
CREATE UNIQUE INDEX names_name ON names (parent, name, ino, generation, leaving);
CREATE INDEX names_bound ON names (bound_epoch, bound_version, n) WHERE bound_epoch IS NOT NULL;
CREATE TABLE former (
  in_ino INTEGER NOT NULL, in_generation INTEGER NOT NULL, name BLOB NOT NULL,
  ino INTEGER NOT NULL, generation INTEGER NOT NULL,
  epoch INTEGER NOT NULL, version INTEGER NOT NULL
);
CREATE TABLE lost (n INTEGER PRIMARY KEY, reason TEXT NOT NULL);
`

/** Named by a record, not read yet; read; put into the tree, and what is in it not yet; put, with what is in it. */
export const STATES = { named: 0, read: 1, put: 2, done: 3 } as const

/** A directory that a record names. */
export interface SurveyedDirectory {
  /** Its number in this survey; the root's is 1. */
  readonly n: number
  readonly ino: bigint
  readonly generation: number
  readonly state: number
  readonly header: DirectoryHeader | undefined
  /** What is lost of its record. */
  readonly loss: string | undefined
  /** The number under which the catalog has it. */
  readonly shown: bigint | undefined
}

/** A name that a record has. */
export interface SurveyedName {
  readonly n: number
  /** Number of the directory in this survey. */
  readonly parent: number
  readonly name: Buffer
  readonly ino: bigint
  readonly generation: number
  readonly key: string | undefined
  /** How many names the file had by that record. */
  readonly links: number
  readonly leaving: boolean
  readonly stale: boolean
  readonly version: ObjectVersion
}

const NAME_COLUMNS = 'n parent name ino generation key links leaving stale epoch version'
  .split(' ')
  .map((column) => `names.${column}`)
  .join(',')

/**
 * What the records in a store say, in a file: a store's tree is of any size, and what a hostile one says of any shape. Nobody needs it once
 * the catalog is made, so it is removed when it is closed.
 */
export class SurveyTable {
  readonly #path: string
  readonly #database: Database
  readonly #sql: Readonly<Record<string, StatementSync>>

  /** @throws DatabaseDamaged, the error of open(2) */
  constructor(path: string) {
    this.#path = path
    rmSync(path, { force: true })
    makePrivateFile(path)
    this.#database = Database.open(path, {
      applicationId: APPLICATION_ID,
      format: 1,
      schema: SCHEMA,
      bulk: true,
    })
    const sql = (text: string): StatementSync => this.#database.prepare(text, true)
    this.#sql = {
      addDirectory: sql(
        `INSERT OR IGNORE INTO dirs (ino, generation, parent, name, edge, state) VALUES (?,?,?,?,?,${STATES.named})`,
      ),
      addName: sql(
        'INSERT OR IGNORE INTO names (parent, name, ino, generation, key, links, leaving, epoch, version) VALUES (?,?,?,?,?,?,?,?,?)',
      ),
      addFormer: sql('INSERT INTO former VALUES (?,?,?,?,?,?,?)'),
      setRead: sql(`UPDATE dirs SET state = ${STATES.read}, header = ?, loss = ? WHERE n = ?`),
      formerUpTo: sql(`SELECT max(rowid) AS n FROM (SELECT rowid FROM former WHERE rowid > ?
        ORDER BY rowid LIMIT ${ROWS_AT_ONCE})`),
      markStale: sql(
        `UPDATE names SET stale = 1 WHERE n IN (
         SELECT names.n FROM former
           CROSS JOIN dirs ON dirs.ino = former.in_ino AND dirs.generation = former.in_generation
           CROSS JOIN names ON names.parent = dirs.n AND names.name = former.name
         WHERE former.rowid > ? AND former.rowid <= ?
           AND names.ino = former.ino AND names.generation = former.generation AND stale = 0
           AND (names.epoch, names.version) < (former.epoch, former.version))`,
      ),
      inState: sql('SELECT * FROM dirs WHERE state = ? ORDER BY n LIMIT ?'),
      directory: sql('SELECT * FROM dirs WHERE n = ?'),
      byId: sql('SELECT * FROM dirs WHERE ino = ? AND generation = ?'),
      put: sql('UPDATE dirs SET state = ?, parent = ?, name = ?, edge = ?, shown = ? WHERE n = ?'),
      setState: sql('UPDATE dirs SET state = ? WHERE n = ?'),
      place: sql('SELECT parent, name FROM dirs WHERE n = ?'),
      below: sql(`SELECT ${NAME_COLUMNS} FROM names INDEXED BY names_below
        WHERE key IS NULL AND parent = ? AND names.n > ? ORDER BY names.n LIMIT ${ROWS_AT_ONCE}`),
      best: sql(`SELECT n, epoch, version FROM names INDEXED BY names_dirs WHERE key IS NULL AND ino = ? AND generation = ?
        ORDER BY leaving, stale, epoch DESC, version DESC, n LIMIT 1`),
      bind: sql('UPDATE names SET bound_epoch = ?, bound_version = ? WHERE n = ?'),
      bound: sql(`SELECT ${NAME_COLUMNS} FROM names INDEXED BY names_bound WHERE bound_epoch IS NOT NULL
        ORDER BY bound_epoch, bound_version, names.n LIMIT 1`),
      notPut: sql(`SELECT ${NAME_COLUMNS}
        FROM names JOIN dirs ON dirs.ino = names.ino AND dirs.generation = names.generation
        WHERE key IS NULL AND leaving = 0 AND names.n <> dirs.edge AND names.n > ? ORDER BY names.n LIMIT ${ROWS_AT_ONCE}`),
      lossy: sql(
        `SELECT * FROM dirs WHERE loss IS NOT NULL AND header IS NOT NULL AND n > ? ORDER BY n LIMIT ${ROWS_AT_ONCE}`,
      ),
      anyLoss: sql('SELECT n FROM dirs WHERE loss IS NOT NULL LIMIT 1'),
      files:
        sql(`SELECT ${NAME_COLUMNS} FROM names INDEXED BY names_files WHERE key IS NOT NULL AND leaving = 0
        ORDER BY ino, generation DESC, stale, epoch DESC, version DESC, names.n`),
      leavingFiles:
        sql(`SELECT ${NAME_COLUMNS} FROM names INDEXED BY names_files WHERE key IS NOT NULL AND leaving = 1
        AND NOT EXISTS (SELECT 1 FROM names AS other INDEXED BY names_files WHERE other.key IS NOT NULL
          AND other.leaving = 0 AND other.ino = names.ino AND other.generation = names.generation)
        ORDER BY ino, generation DESC, stale, epoch DESC, version DESC, names.n`),
      newerFile: sql(`SELECT 1 AS n FROM names INDEXED BY names_files
        WHERE key IS NOT NULL AND leaving = 0 AND ino = ? AND generation > ? LIMIT 1`),
      isNamed: sql(
        'SELECT 1 AS n FROM names WHERE parent = ? AND name = ? AND leaving = 0 AND n <> ? LIMIT 1',
      ),
      addLost: sql('INSERT OR IGNORE INTO lost VALUES (?,?)'),
      losses: sql(`SELECT ${NAME_COLUMNS}, reason FROM lost JOIN names ON names.n = lost.n WHERE lost.n > ?
        ORDER BY lost.n LIMIT ${ROWS_AT_ONCE}`),
      highest: sql('SELECT max(generation) AS generation, max(ino) AS ino FROM names'),
    }
  }

  /** @throws FsError ENOSPC where the disk is full */
  transaction<T>(body: () => T): T {
    return this.#database.transaction(body)
  }

  async close(): Promise<void> {
    await this.#database.close()
    rmSync(this.#path, { force: true })
  }

  // ---- what the records say

  /** Notes the root directory, as number 1. */
  addRoot(ino: bigint): void {
    this.transaction(() => this.#sql.addDirectory?.run(toSigned(ino), 0, 0, Buffer.alloc(0), 0))
  }

  addName(parent: number, entry: RecordedEntry, leaving: boolean, { epoch, version }: ObjectVersion): void {
    const { name, ino, generation, key, links = 1, from = [] } = entry
    const id = [toSigned(ino), generation] as const
    const isLeaving = leaving ? 1 : 0
    const added = this.#sql.addName?.run(parent, name, ...id, key ?? null, links, isLeaving, epoch, version)
    // The same once more in one record.
    if (!added || Number(added.changes) === 0) return
    if (key === undefined) this.#sql.addDirectory?.run(...id, parent, name, added.lastInsertRowid)
    for (const place of from) {
      const [, inHex, generationHex] = /^([0-9a-f]{1,16})-([0-9a-f]{1,13})$/.exec(place.directory) ?? []
      if (inHex === undefined) continue
      const inIno = toSigned(BigInt(`0x${inHex}`))
      const inGeneration = Number(`0x${generationHex}`)
      this.#sql.addFormer?.run(inIno, inGeneration, place.name, ...id, epoch, version)
    }
  }

  setRead(directory: SurveyedDirectory, header: DirectoryHeader | undefined, loss: string | undefined): void {
    const text = header ? textOfHeader(header) : null
    this.transaction(() => this.#sql.setRead?.run(text, loss ?? null, directory.n))
  }

  /**
   * Every record has been read: some names that a newer record says to be left are out of date, by places behind a number that a file has
   * left. The number to go on from.
   */
  markStale(after: number): number | undefined {
    const row = this.#one('formerUpTo', after)
    if (typeof row?.n !== 'bigint') return undefined
    const last = Number(row.n)
    this.transaction(() => this.#sql.markStale?.run(after, last))
    return last
  }

  // ---- directories

  inState(state: number, limit: number): SurveyedDirectory[] {
    return this.#all('inState', state, limit).map(directoryOf)
  }

  directory(n: number): SurveyedDirectory {
    const row = this.#one('directory', n)
    if (!row) throw new Error(`directory ${n} is not in the survey`)
    return directoryOf(row)
  }

  byId(ino: bigint, generation: number): SurveyedDirectory | undefined {
    const row = this.#one('byId', toSigned(ino), generation)
    return row && directoryOf(row)
  }

  setState(n: number, state: number): void {
    this.#sql.setState?.run(state, n)
  }

  /** The directory has its place: under a name of another one, where `edge` had it. */
  setPlace(
    n: number,
    state: number,
    place: { parent: number; name: Buffer; edge: number; shown?: bigint },
  ): void {
    const { parent, name, edge, shown } = place
    this.#sql.put?.run(state, parent, name, edge, shown === undefined ? null : toSigned(shown), n)
  }

  /** Some names of directories that the record of one has, behind a number. */
  directoriesBelow(parent: number, after: number): SurveyedName[] {
    return this.#all('below', parent, after).map(nameOf)
  }

  /** The name that says best where the directory is: of the newest record that does not say that it is about to go. */
  bestName(ino: bigint, generation: number): { readonly n: number; readonly version: ObjectVersion } {
    const row = this.#one('best', toSigned(ino), generation)
    if (!row) throw new Error(`no record names directory ${fileId({ ino, generation })}`)
    return { n: Number(row.n), version: { epoch: Number(row.epoch), version: Number(row.version) } }
  }

  /** This name will do for its directory should nothing lead to the best one, the newest version of which is given. */
  bind(n: number, { epoch, version }: ObjectVersion): void {
    this.#sql.bind?.run(epoch, version, n)
  }

  /** Takes one of those, of the directory whose best name is the oldest. */
  takeBound(): SurveyedName | undefined {
    const row = this.#one('bound')
    if (!row) return undefined
    this.transaction(() => this.#sql.bind?.run(null, null, Number(row.n)))
    return nameOf(row)
  }

  /** Some names of directories that are somewhere else, behind a number. */
  namesNotPut(after: number): SurveyedName[] {
    return this.#all('notPut', after).map(nameOf)
  }

  /** Some directories of whose record a part is lost, behind a number. */
  lossyDirectories(after: number): SurveyedDirectory[] {
    return this.#all('lossy', after).map(directoryOf)
  }

  /** Where a name is, for a message. Of a long path the end. */
  pathOf(parent: number, name: Buffer | undefined): string {
    const names = name === undefined ? [] : [printable(name)]
    let bytes = names[0]?.length ?? 0
    for (let at = parent; at > 1; ) {
      const row = this.#one('place', at)
      if (!row) break
      const text = printable(blob(row.name))
      bytes += text.length + 1
      if (bytes > MOST_SHOWN) return ['…', ...names.reverse()].join('/')
      names.push(text)
      at = Number(row.parent)
    }
    return names.length === 0 ? '.' : names.reverse().join('/')
  }

  // ---- files

  /**
   * All names of files, those of one file after another, the newest first. `leaving`: of files that have no others than names that are
   * about to leave a record.
   */
  *files(leaving: boolean): Generator<SurveyedName> {
    const rows = this.#sql[leaving ? 'leavingFiles' : 'files']?.iterate() ?? []
    for (const row of rows) yield nameOf(row as Row)
  }

  /** Whether a record names a file that had the inode number after this one. */
  hasNewerFile({ ino, generation }: Pick<SurveyedName, 'ino' | 'generation'>): boolean {
    return this.#one('newerFile', toSigned(ino), generation) !== undefined
  }

  /** Whether the record of the directory has the name, in another place than `n`. */
  isNamed(parent: number, name: Buffer, n: number): boolean {
    return this.#one('isNamed', parent, name, n) !== undefined
  }

  addLost(n: number, reason: string): void {
    this.#sql.addLost?.run(n, reason)
  }

  losses(after: number): Array<SurveyedName & { readonly reason: string }> {
    return this.#all('losses', after).map((row) => ({ ...nameOf(row), reason: String(row.reason) }))
  }

  /** Whether a directory's record, or a part of one, is lost. */
  hasLostRecords(): boolean {
    return this.#one('anyLoss') !== undefined
  }

  /** Highest numbers that any record names; inode numbers as far as one is handed out by us. */
  highest(): { generation: bigint; ino: bigint } {
    const row = this.#one('highest')
    const numberOf = (value: Row[string] | undefined): bigint => (typeof value === 'bigint' ? value : 0n)
    return { generation: numberOf(row?.generation), ino: numberOf(row?.ino) }
  }

  #one(statement: string, ...parameters: Array<bigint | number | string | Uint8Array>): Row | undefined {
    return this.#sql[statement]?.get(...parameters) as Row | undefined
  }

  #all(statement: string, ...parameters: Array<bigint | number | string | Uint8Array>): Row[] {
    return (this.#sql[statement]?.all(...parameters) ?? []) as Row[]
  }
}

const blob = (value: Row[string] | undefined): Buffer =>
  value instanceof Uint8Array
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.alloc(0)

function textOfHeader(header: DirectoryHeader): string {
  const { value, metadata } = encodeHeader(header)
  return JSON.stringify({ value: value.toString(), metadata })
}

function headerOfText(text: string): DirectoryHeader {
  const { value, metadata } = JSON.parse(text) as { value: string; metadata: Record<string, string> }
  return decodeHeader('of this survey', { value: Buffer.from(value), metadata })
}

function directoryOf(row: Row): SurveyedDirectory {
  return {
    n: Number(row.n),
    ino: toUnsigned(row.ino as bigint),
    generation: Number(row.generation),
    state: Number(row.state),
    header: typeof row.header === 'string' ? headerOfText(row.header) : undefined,
    loss: typeof row.loss === 'string' ? row.loss : undefined,
    shown: typeof row.shown === 'bigint' ? toUnsigned(row.shown) : undefined,
  }
}

function nameOf(row: Row): SurveyedName {
  return {
    n: Number(row.n),
    parent: Number(row.parent),
    name: blob(row.name),
    ino: toUnsigned(row.ino as bigint),
    generation: Number(row.generation),
    key: typeof row.key === 'string' ? row.key : undefined,
    links: Number(row.links),
    leaving: row.leaving === 1n,
    stale: row.stale === 1n,
    version: { epoch: Number(row.epoch), version: Number(row.version) },
  }
}
