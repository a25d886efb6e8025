import type { StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'
import {
  INODE_COLUMNS,
  type Inode,
  inodeFromRow,
  inodeToColumns,
  type Row,
  toSigned,
  toUnsigned,
} from './inode.ts'

/** A name on the legacy volume and the file that was met there. */
export interface MetName {
  readonly parent: bigint
  readonly name: Buffer
  readonly ino: bigint
}

/**
 * Files that were met on the legacy volume while the catalog's disk had no room for their rows: kept in memory (SQLite's
 * temporary tables), so that looking at a file needs no room on a disk. They take part in transactions like all rows. As soon
 * as anything is to be remembered of such a file it gets its rows in the catalog, or that fails. They end with the process:
 * to its successor such a file is one that was never looked at.
 */
export class MetFiles {
  readonly #sql: Readonly<
    Record<
      | 'get'
      | 'put'
      | 'remove'
      | 'some'
      | 'inodes'
      | 'name'
      | 'names'
      | 'inDirectory'
      | 'setName'
      | 'removeName'
      | 'removeNames',
      StatementSync
    >
  >
  #any = false

  constructor(database: Database) {
    // temp_store=MEMORY: nothing of these is ever written to a disk.
    database.exec(`
      CREATE TEMP TABLE met_inodes (${INODE_COLUMNS.map((column, nth) => (nth === 0 ? `${column} INTEGER PRIMARY KEY` : column)).join(', ')});
      CREATE TEMP TABLE met_names (parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL, PRIMARY KEY (parent, name)) WITHOUT ROWID;
      CREATE INDEX temp.met_names_ino ON met_names (ino)`)
    const all = (sql: string): StatementSync => database.prepare(sql, true)
    this.#sql = {
      get: all('SELECT * FROM temp.met_inodes WHERE ino = ?'),
      put: all(`INSERT OR REPLACE INTO temp.met_inodes VALUES (${INODE_COLUMNS.map(() => '?').join(',')})`),
      remove: all('DELETE FROM temp.met_inodes WHERE ino = ?'),
      some: all('SELECT ino FROM temp.met_inodes UNION SELECT ino FROM temp.met_names LIMIT ?'),
      inodes: all('SELECT * FROM temp.met_inodes'),
      name: all('SELECT parent, name, ino FROM temp.met_names WHERE parent = ? AND name = ?'),
      names: all('SELECT parent, name, ino FROM temp.met_names WHERE ino = ?'),
      inDirectory: all('SELECT parent, name, ino FROM temp.met_names WHERE parent = ?'),
      setName: all('INSERT OR REPLACE INTO temp.met_names VALUES (?,?,?)'),
      removeName: all('DELETE FROM temp.met_names WHERE parent = ? AND name = ?'),
      removeNames: all('DELETE FROM temp.met_names WHERE ino = ?'),
    }
  }

  /** False while there never was one: then nobody has to ask. */
  get any(): boolean {
    return this.#any
  }

  get(ino: bigint): Inode | undefined {
    if (!this.#any) return undefined
    const row = this.#sql.get.get(toSigned(ino)) as Row | undefined
    return row && inodeFromRow(row)
  }

  /** Whether rows of the file are here. */
  has(ino: bigint): boolean {
    if (!this.#any) return false
    return this.#sql.get.get(toSigned(ino)) !== undefined || this.namesOf(ino).length > 0
  }

  put(inode: Inode): void {
    this.#any = true
    this.#sql.put.run(...inodeToColumns(inode))
  }

  /** With all its names. A file that has its row can have names here that were met later. */
  remove(ino: bigint): void {
    if (!this.#any) return
    this.#sql.remove.run(toSigned(ino))
    this.#sql.removeNames.run(toSigned(ino))
  }

  /** Files whose row is here. */
  inodes(): Inode[] {
    return this.#any ? (this.#sql.inodes.all() as Row[]).map(inodeFromRow) : []
  }

  some(limit: number): bigint[] {
    if (!this.#any) return []
    return (this.#sql.some.all(limit) as Row[]).map((row) => toUnsigned(row.ino as bigint))
  }

  name(parent: bigint, name: Buffer): MetName | undefined {
    if (!this.#any) return undefined
    const row = this.#sql.name.get(toSigned(parent), name) as Row | undefined
    return row && nameFromRow(row)
  }

  namesOf(ino: bigint): MetName[] {
    return this.#any ? (this.#sql.names.all(toSigned(ino)) as Row[]).map(nameFromRow) : []
  }

  inDirectory(parent: bigint): MetName[] {
    return this.#any ? (this.#sql.inDirectory.all(toSigned(parent)) as Row[]).map(nameFromRow) : []
  }

  setName({ parent, name, ino }: MetName): void {
    this.#any = true
    this.#sql.setName.run(toSigned(parent), name, toSigned(ino))
  }

  removeName(parent: bigint, name: Buffer): void {
    if (this.#any) this.#sql.removeName.run(toSigned(parent), name)
  }
}

const nameFromRow = (row: Row): MetName => ({
  parent: toUnsigned(row.parent as bigint),
  name: Buffer.from(row.name as Uint8Array),
  ino: toUnsigned(row.ino as bigint),
})
