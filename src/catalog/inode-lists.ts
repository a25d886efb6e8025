import { S_IFDIR, S_IFMT } from '../base/attributes.ts'
import type { Database } from '../base/database.ts'
import { BEFORE_ALL, ROOT_INO, rowBefore, toUnsigned } from './inode.ts'
import type { MetFiles } from './met.ts'
import { Statements } from './statements.ts'
import { type Totals, totalsOf } from './totals.ts'

// Rows read in one go: a fraction of a millisecond.
const ROWS_AT_ONCE = 256

/** Which files are in one state or another, a page at a time, and how many. */
export class InodeLists {
  readonly #met: MetFiles
  readonly #sql

  constructor(database: Database, met: MetFiles) {
    this.#met = met
    this.#sql = new Statements(database, {
      orphans: 'SELECT ino FROM inodes WHERE orphan = 1 AND ino > ? ORDER BY ino LIMIT ?',
      staged: 'SELECT ino FROM inodes WHERE staged <> 0 AND ino > ? ORDER BY ino LIMIT ?',
      failures:
        'SELECT ino, failure FROM inodes INDEXED BY inodes_failure WHERE failure IS NOT NULL AND ino > ? ORDER BY ino LIMIT ?',
      sums: 'SELECT * FROM sums',
      diverged: "SELECT (SELECT own FROM sums) + (SELECT n FROM counts WHERE name = 'hidden') AS n",
      onVolume: 'SELECT on_volume AS n FROM sums',
      legacyAuthority: 'SELECT ino FROM inodes WHERE authority = 0 AND ino > ? ORDER BY ino LIMIT ?',
      volumeDirectories: `SELECT ino, NOT EXISTS (SELECT 1 FROM volume_names WHERE parent = ino) AS emptied FROM inodes
         WHERE authority = 1 AND legacy_ino IS NOT NULL AND (mode & ${S_IFMT}) = ${S_IFDIR} AND ino > ? ORDER BY ino LIMIT ?`,
      drainable:
        'SELECT ino FROM inodes WHERE authority = 1 AND legacy_ino IS NOT NULL AND version > 0 AND dirty = 0 AND ino > ? ORDER BY ino LIMIT ?',
    })
  }

  totals(): Readonly<Totals> {
    return totalsOf([this.#sql.one('sums'), this.#met.sums()])
  }

  /** Files without a name: a page at a time, in ascending order. Rows may go meanwhile. */
  orphans(): Generator<bigint, undefined> {
    return this.#inosOf('orphans')
  }

  /** Files with a staging file, in the same way. */
  staged(): Generator<bigint, undefined> {
    return this.#inosOf('staged')
  }

  *#inosOf(statement: 'orphans' | 'staged'): Generator<bigint, undefined> {
    for (let after = BEFORE_ALL; ; ) {
      const rows = this.#sql.all(statement, after, ROWS_AT_ONCE)
      for (const row of rows) yield toUnsigned(row.ino as bigint)
      const last = rows.at(-1)
      if (!last || rows.length < ROWS_AT_ONCE) return
      after = last.ino as bigint
    }
  }

  /** Files that could not be stored, or whose legacy copies could not go, after `after`. */
  failures(after: bigint | undefined, limit: number): Array<{ ino: bigint; reason: string }> {
    const from = rowBefore(after)
    return this.#sql.all('failures', from, limit).map((row) => ({
      ino: toUnsigned(row.ino as bigint),
      reason: String(row.failure),
    }))
  }

  /** How many files and names the legacy volume no longer has as the overlay shows them. */
  divergedCount(): number {
    return this.#sql.number('diverged')
  }

  /** Files whose attributes or bytes are to be had from the legacy volume alone. */
  onVolumeCount(): number {
    return this.#sql.number('onVolume')
  }

  /** Files known to the catalog that the store does not have as they are now. */
  unstoredCount(): number {
    const { files, stored } = this.totals()
    return files - stored
  }

  /** Inodes whose truth is still the legacy file, after `after`. */
  legacyAuthority(after: bigint | undefined, limit: number): bigint[] {
    const from = rowBefore(after)
    return this.#sql.all('legacyAuthority', from, limit).map((row) => toUnsigned(row.ino as bigint))
  }

  /** Stored files that still have a copy on the legacy volume, after `after`. */
  drainable(after: bigint | undefined, limit: number): bigint[] {
    const from = rowBefore(after)
    return this.#sql.all('drainable', from, limit).map((row) => toUnsigned(row.ino as bigint))
  }

  /**
   * Directories known to be on the legacy volume, after `after`; `emptied`: it is not known that they have anything left in them there.
   * The root is none of them.
   */
  volumeDirectories(after: bigint | undefined, limit: number): Array<{ ino: bigint; emptied: boolean }> {
    const from = rowBefore(after)
    return this.#sql
      .all('volumeDirectories', from, limit)
      .map((row) => ({ ino: toUnsigned(row.ino as bigint), emptied: row.emptied === 1n }))
      .filter(({ ino }) => ino !== ROOT_INO)
  }
}
