import type { Database } from '../base/database.ts'
import { type Row, rowBefore, toSigned, toUnsigned } from './inode.ts'
import { blob } from './links.ts'
import { Statements } from './statements.ts'

const DROP =
  'DROP TABLE IF EXISTS mending; DROP TABLE IF EXISTS mending_leaving; DROP TABLE IF EXISTS mending_aside'

const SCHEMA = `${DROP};
CREATE TABLE mending (ino INTEGER PRIMARY KEY, state INTEGER NOT NULL, taken INTEGER NOT NULL, why TEXT);
CREATE INDEX mending_state ON mending (state, ino);
CREATE TABLE mending_leaving (n INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, entry TEXT NOT NULL);
CREATE TABLE mending_aside (n INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL)`

/** Rows read in one go. */
const NOTES_AT_ONCE = 64

/**
 * What is known of a directory that is done only with all others. `read`: its record was. `unfound`: nothing was found to lead to it, or it
 * has no record.
 */
const STATES = { read: 1, unfound: 2 } as const
type MendState = keyof typeof STATES

interface NotedDirectory {
  readonly ino: bigint
  /** Something of it came from the store. */
  readonly isTaken: boolean
  /** Why there is no record of it, if that was looked for. */
  readonly why: string | undefined
}

/** A name, and what else is said of it. */
interface NotedName {
  readonly n: bigint
  readonly parent: bigint
  readonly name: Buffer
}

/**
 * What a comparison with the store has to remember until its end, however much it is: in tables of the catalog, which last as long as it
 * does. One that was cut short begins anew.
 */
export class MendNotes {
  readonly #database: Database
  readonly #sql

  constructor(database: Database) {
    this.#database = database
    database.transaction(() => database.exec(SCHEMA))
    this.#sql = new Statements(database, SQL)
  }

  end(): void {
    this.#database.transaction(() => this.#database.exec(DROP))
  }

  note(ino: bigint, state: MendState, isTaken: boolean, why?: string): void {
    this.#sql.run('note', toSigned(ino), STATES[state], isTaken ? 1 : 0, why ?? null)
  }

  /** It is done. */
  drop(ino: bigint): void {
    this.#sql.run('drop', toSigned(ino))
  }

  /** Whether it is noted, or only whether it is in this state. */
  has(ino: bigint, state?: MendState): boolean {
    const row = this.#sql.one('state', toSigned(ino))
    return row !== undefined && (state === undefined || row.state === BigInt(STATES[state]))
  }

  /** By number, some of them. */
  some(state: MendState, after: bigint | undefined): NotedDirectory[] {
    return this.#sql.all('some', STATES[state], rowBefore(after), NOTES_AT_ONCE).map((row) => ({
      ino: toUnsigned(row.ino as bigint),
      isTaken: row.taken === 1n,
      why: row.why === null ? undefined : String(row.why),
    }))
  }

  /** @param entry as text */
  addLeaving(parent: bigint, name: Buffer, entry: string): void {
    this.#sql.run('addLeaving', toSigned(parent), name, entry)
  }

  /** The first of them, in the order in which they came. */
  leaving(): Array<NotedName & { readonly entry: string }> {
    const rows = this.#sql.all('leaving', NOTES_AT_ONCE)
    return rows.map((row) => ({ ...nameOf(row), entry: String(row.entry) }))
  }

  dropLeaving(n: bigint): void {
    this.#sql.run('dropLeaving', n)
  }

  addAside(parent: bigint, name: Buffer, ino: bigint): void {
    this.#sql.run('addAside', toSigned(parent), name, toSigned(ino))
  }

  aside(after: bigint): Array<NotedName & { readonly ino: bigint }> {
    const rows = this.#sql.all('aside', after, NOTES_AT_ONCE)
    return rows.map((row) => ({ ...nameOf(row), ino: toUnsigned(row.ino as bigint) }))
  }
}

const nameOf = (row: Row): NotedName => ({
  n: row.n as bigint,
  parent: toUnsigned(row.parent as bigint),
  name: blob(row.name),
})

const SQL = {
  note: `INSERT INTO mending VALUES (?1,?2,?3,?4)
    ON CONFLICT (ino) DO UPDATE SET state = ?2, taken = max(taken, ?3), why = ?4`,
  drop: 'DELETE FROM mending WHERE ino = ?',
  state: 'SELECT state FROM mending WHERE ino = ?',
  some: 'SELECT ino, taken, why FROM mending WHERE state = ? AND ino > ? ORDER BY ino LIMIT ?',
  addLeaving: 'INSERT INTO mending_leaving (parent, name, entry) VALUES (?,?,?)',
  leaving: 'SELECT * FROM mending_leaving ORDER BY n LIMIT ?',
  dropLeaving: 'DELETE FROM mending_leaving WHERE n = ?',
  addAside: 'INSERT INTO mending_aside (parent, name, ino) VALUES (?,?,?)',
  aside: 'SELECT * FROM mending_aside WHERE n > ? ORDER BY n LIMIT ?',
} as const
