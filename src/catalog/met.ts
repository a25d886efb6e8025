import type { StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'
import { MET_SUMS } from './counts.ts'
import type { MetNote, MetNotes } from './met-notes.ts'
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
 * as anything is to be remembered of such a file it gets its rows in the catalog, or that fails. They are noted for the process that
 * comes next (met-notes.ts).
 */
export class MetFiles {
  readonly #sql: Readonly<
    Record<
      | 'get'
      | 'put'
      | 'remove'
      | 'some'
      | 'sums'
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
  #notes: MetNotes | undefined
  /** Rows and names that the transaction under way has changed. */
  readonly #changedRows = new Set<bigint>()
  readonly #changedNames = new Map<string, { readonly parent: bigint; readonly name: Buffer }>()

  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
    // temp_store=MEMORY: nothing of these is ever written to a disk.
    database.exec(`
      CREATE TEMP TABLE met_inodes (${INODE_COLUMNS.map((column, nth) => (nth === 0 ? `${column} INTEGER PRIMARY KEY` : column)).join(', ')});
      CREATE TEMP TABLE met_names (parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL, PRIMARY KEY (parent, name)) WITHOUT ROWID;
      CREATE INDEX temp.met_names_ino ON met_names (ino);
      ${MET_SUMS}`)
    const all = (sql: string): StatementSync => database.prepare(sql, true)
    this.#sql = {
      get: all('SELECT * FROM temp.met_inodes WHERE ino = ?'),
      put: all(
        `INSERT INTO temp.met_inodes VALUES (${INODE_COLUMNS.map(() => '?').join(',')}) ON CONFLICT (ino) DO UPDATE SET
         ${INODE_COLUMNS.slice(1)
           .map((column) => `${column}=excluded.${column}`)
           .join(',')}`,
      ),
      remove: all('DELETE FROM temp.met_inodes WHERE ino = ?'),
      some: all('SELECT ino FROM temp.met_inodes UNION SELECT ino FROM temp.met_names LIMIT ?'),
      sums: all('SELECT * FROM temp.met_sums'),
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
    this.#changedRows.add(inode.ino)
    this.#database.inMemory(() => this.#sql.put.run(...inodeToColumns(inode)))
  }

  /** Has what is met from now on noted for a successor. */
  noteIn(notes: MetNotes): void {
    this.#notes = notes
  }

  /** What a predecessor noted. Undefined for the row of a worker with other columns. */
  takeOver(note: MetNote): Inode | undefined {
    this.#any = true
    if (!('row' in note)) {
      this.setName({ ...note, name: Buffer.from(note.name) })
      return undefined
    }
    if (note.row.length !== INODE_COLUMNS.length) return undefined
    this.#database.inMemory(() => this.#sql.put.run(...note.row))
    return this.get(note.ino)
  }

  /** The transaction is committed. Before anybody is answered: a kill from now on does not take it back. */
  committed(): void {
    if (this.#notes) {
      for (const ino of this.#changedRows) {
        const inode = this.get(ino)
        if (inode) this.#notes.put({ ino, row: inodeToColumns(inode) })
        else this.#notes.removeRow(ino)
      }
      for (const { parent, name } of this.#changedNames.values()) {
        const met = this.name(parent, name)
        if (met) this.#notes.put(met)
        else this.#notes.removeName(parent, name)
      }
    }
    this.rolledBack()
  }

  rolledBack(): void {
    this.#changedRows.clear()
    this.#changedNames.clear()
  }

  #changes(parent: bigint, name: Buffer): void {
    if (this.#notes) this.#changedNames.set(`${parent} ${name.toString('latin1')}`, { parent, name })
  }

  /** With all its names. A file that has its row can have names here that were met later. */
  remove(ino: bigint): void {
    if (!this.#any) return
    this.#changedRows.add(ino)
    if (this.#notes) for (const { parent, name } of this.namesOf(ino)) this.#changes(parent, name)
    this.#database.inMemory(() => this.#sql.remove.run(toSigned(ino)))
    this.#database.inMemory(() => this.#sql.removeNames.run(toSigned(ino)))
  }

  /** The sums over the files whose row is here, as in `sums`. */
  sums(): Row | undefined {
    return this.#any ? (this.#sql.sums.get() as Row | undefined) : undefined
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
    this.#changes(parent, name)
    this.#database.inMemory(() => this.#sql.setName.run(toSigned(parent), name, toSigned(ino)))
  }

  removeName(parent: bigint, name: Buffer): void {
    if (!this.#any) return
    this.#changes(parent, name)
    this.#database.inMemory(() => this.#sql.removeName.run(toSigned(parent), name))
  }
}

const nameFromRow = (row: Row): MetName => ({
  parent: toUnsigned(row.parent as bigint),
  name: Buffer.from(row.name as Uint8Array),
  ino: toUnsigned(row.ino as bigint),
})
