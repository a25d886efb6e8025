import type { Database } from '../base/database.ts'
import { rowBefore, toSigned, toUnsigned } from './inode.ts'
import { Statements } from './statements.ts'

/**
 * Meta: `yes` where a catalog that was made from the store has noted which files have more names than the store knows.
 */
export const NAMES_COUNTED = 'names-counted'

// Rows that go in one transaction.
const MANY_ROWS = 2000

/** What the store says of a file that has other names than those that its records lead to, or had. */
export interface Unmet {
  readonly ino: bigint
  /** Names that it had when the store heard of it last. */
  readonly links: number
  /** Names that it may have at most, where some records say more than others. */
  readonly most: number
  /** The names that lead to it are such as it has left. */
  readonly isLeft: boolean
  /** Why its names cannot be told from such as it has left, or nobody knows that they are its own. */
  readonly doubt: string | undefined
}

/** A name on SOURCE of a legacy file that may be one of the store. */
export interface FoundName {
  readonly device: bigint
  readonly legacyIno: bigint
  readonly parent: bigint
  readonly name: Buffer
  /** The store's file, where it has it there; else nothing is there in the tree. */
  readonly shown: bigint | undefined
}

/**
 * Of a catalog that was made from the store, until SOURCE has been looked at: files that have more names than the store
 * knows, and names that were found meanwhile. Empty ever after.
 */
export class UnmetNames {
  readonly #sql

  constructor(database: Database) {
    this.#sql = new Statements(database, SQL)
  }

  note({ ino, links, most, isLeft, doubt }: Unmet): void {
    this.#sql.run('put', toSigned(ino), links, most, isLeft ? 1 : 0, doubt ?? null)
  }

  drop(ino: bigint): void {
    this.#sql.run('drop', toSigned(ino))
  }

  of(ino: bigint): Unmet | undefined {
    const row = this.#sql.one('one', toSigned(ino))
    return (
      row && {
        ino,
        links: Number(row.links),
        most: Number(row.most),
        isLeft: row.is_left === 1n,
        doubt: row.doubt === null ? undefined : String(row.doubt),
      }
    )
  }

  /** Files of which there is a doubt, some at a time, behind a number. */
  doubtful(after: bigint | undefined): bigint[] {
    return this.#sql.all('doubtful', rowBefore(after)).map((row) => toUnsigned(row.ino as bigint))
  }

  found({ device, legacyIno, parent, name, shown }: FoundName): void {
    const file = [toSigned(device), toSigned(legacyIno)] as const
    this.#sql.run('found', ...file, toSigned(parent), name, shown === undefined ? null : toSigned(shown))
  }

  /** All names of one of the files that were found. */
  nextFound(): FoundName[] {
    return this.#sql.all('next').map((row) => ({
      device: toUnsigned(row.device as bigint),
      legacyIno: toUnsigned(row.legacy_ino as bigint),
      parent: toUnsigned(row.parent as bigint),
      name: Buffer.from(row.name as Uint8Array),
      shown: row.shown === null ? undefined : toUnsigned(row.shown as bigint),
    }))
  }

  /** The file's names are settled. */
  settled({ device, legacyIno }: Pick<FoundName, 'device' | 'legacyIno'>): void {
    this.#sql.run('settled', toSigned(device), toSigned(legacyIno))
  }

  /** Removes some names that were found; true if there are more. */
  clearFound(): boolean {
    return this.#sql.run('clearFound', MANY_ROWS) === MANY_ROWS
  }

  /** Removes some of what the store says; true if there is more. */
  clear(): boolean {
    return this.#sql.run('clear', MANY_ROWS) === MANY_ROWS
  }
}

const SQL = {
  put: 'INSERT OR REPLACE INTO unmet VALUES (?,?,?,?,?)',
  drop: 'DELETE FROM unmet WHERE ino = ?',
  one: 'SELECT * FROM unmet WHERE ino = ?',
  doubtful: 'SELECT ino FROM unmet WHERE doubt IS NOT NULL AND ino > ? ORDER BY ino LIMIT 256',
  found: 'INSERT OR REPLACE INTO found_names VALUES (?,?,?,?,?)',
  next: `SELECT f.* FROM (SELECT device, legacy_ino FROM found_names ORDER BY device, legacy_ino LIMIT 1) AS one
    JOIN found_names AS f ON f.device = one.device AND f.legacy_ino = one.legacy_ino`,
  settled: 'DELETE FROM found_names WHERE device = ? AND legacy_ino = ?',
  clearFound: `DELETE FROM found_names WHERE (device, legacy_ino, parent, name) IN
    (SELECT device, legacy_ino, parent, name FROM found_names LIMIT ?)`,
  clear: 'DELETE FROM unmet WHERE ino IN (SELECT ino FROM unmet LIMIT ?)',
} as const
