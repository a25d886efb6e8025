import type { Database } from '../base/database.ts'
import { toSigned, toUnsigned } from './inode.ts'
import { Statements } from './statements.ts'

// Rows of a few bytes that go in one go, in a millisecond.
const MANY_ROWS = 2000

/** Copies in the store of what the volume's disk may not have yet, in the order in which they were made. */
export class UnprovenCopies {
  readonly #sql

  constructor(database: Database) {
    this.#sql = new Statements(database, {
      note: 'INSERT OR REPLACE INTO unproven (ino) VALUES (?)',
      upTo: 'SELECT ino FROM unproven WHERE seq <= ? ORDER BY seq LIMIT ?',
      last: 'SELECT max(seq) AS n FROM unproven',
      drop: 'DELETE FROM unproven WHERE seq IN (SELECT seq FROM unproven WHERE seq <= ? ORDER BY seq LIMIT ?)',
    })
  }

  note(ino: bigint): void {
    this.#sql.run('note', toSigned(ino))
  }

  /** Files of the first of them up to a number, those that `dropUnproven` takes first. */
  upTo(last: bigint): bigint[] {
    return this.#sql.all('upTo', last, MANY_ROWS).map((row) => toUnsigned(row.ino as bigint))
  }

  /** Number of the last copy that is unproven; `undefined` if none is. */
  last(): bigint | undefined {
    return (this.#sql.one('last')?.n ?? undefined) as bigint | undefined
  }

  /** Copies up to this number are proven, some at a time: true if there are more. */
  drop(last: bigint): boolean {
    return this.#sql.run('drop', last, MANY_ROWS) === MANY_ROWS
  }
}
