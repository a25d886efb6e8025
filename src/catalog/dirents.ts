import type { Database } from '../base/database.ts'
import type { DirectoryRecords } from './directory-records.ts'
import { type Inode, type Row, toSigned, toUnsigned } from './inode.ts'
import { blob, type Dirent, direntFromRow, type Links } from './links.ts'
import type { MetFiles } from './met.ts'
import type { MountPlaces } from './mount-places.ts'
import type { NameBuckets } from './name-buckets.ts'
import { Statements } from './statements.ts'

/** A name, and what is known of the file that is shown there. */
export interface ShownEntry extends Dirent {
  readonly inode: Pick<Inode, 'authority' | 'legacyIno' | 'mode'> | undefined
}

const SHOWN = `SELECT d.parent, d.name, d.ino, d.legacy, i.mode, i.authority, i.legacy_ino
  FROM dirents AS d LEFT JOIN inodes AS i ON i.ino = d.ino WHERE d.parent = ?`

// Rows read in one go: a fraction of a millisecond.
const ROWS_AT_ONCE = 256

interface Surroundings {
  readonly inodes: {
    /** Gives a file that was only met its rows. */
    keep(ino: bigint): void
    isWithoutRoom(): boolean
  }
  readonly met: MetFiles
  readonly mounts: MountPlaces
  readonly links: Links
  readonly buckets: NameBuckets
  readonly records: DirectoryRecords
}

/** Names in directories: what the overlay shows there, and what the legacy volume has there. */
export class Dirents {
  readonly #inodes: Surroundings['inodes']
  readonly #met: MetFiles
  readonly #mounts: MountPlaces
  readonly #links: Links
  readonly #buckets: NameBuckets
  readonly #records: DirectoryRecords
  readonly #sql

  constructor(database: Database, { inodes, met, mounts, links, buckets, records }: Surroundings) {
    this.#inodes = inodes
    this.#met = met
    this.#mounts = mounts
    this.#links = links
    this.#buckets = buckets
    this.#records = records
    this.#sql = new Statements(database, {
      one: 'SELECT parent, name, ino, legacy FROM dirents WHERE parent = ? AND name = ?',
      put: 'INSERT INTO dirents (parent,name,ino,legacy,bucket) VALUES (?,?,?,?,?) ON CONFLICT (parent,name) DO UPDATE SET ino=excluded.ino, legacy=excluded.legacy',
      remove: 'DELETE FROM dirents WHERE parent = ? AND name = ?',
      on: 'SELECT parent, name, ino, legacy FROM dirents WHERE parent = ? AND name > ? ORDER BY name LIMIT ?',
      shownOn: `${SHOWN} AND d.name > ? ORDER BY d.name LIMIT ?`,
      shownOne: `${SHOWN} AND d.name = ?`,
      shown: `SELECT parent, name, ino, legacy, bucket FROM dirents INDEXED BY dirents_bucket
         WHERE parent = ? AND (bucket, name) > (?, ?) AND ino IS NOT NULL ORDER BY bucket, name LIMIT ?`,
      count: 'SELECT n FROM shown_names WHERE parent = ?',
      any: 'SELECT 1 AS n FROM dirents WHERE parent = ? LIMIT 1',
      whiteouts:
        'SELECT parent, name, ino, legacy FROM dirents WHERE legacy = 0 AND legacy IS NOT ino LIMIT ?',
    })
  }

  get(parent: bigint, name: Buffer): Dirent | undefined {
    const row = this.#sql.one('one', toSigned(parent), name)
    if (row) return direntFromRow(row)
    const met = this.#met.name(parent, name)
    return met && { ...met, legacy: met.ino }
  }

  /**
   * Says what is under a name. A row that shows nothing and hides nothing goes. The directory's record in the store is
   * marked for writing if what the overlay shows there changed.
   */
  set(parent: bigint, name: Buffer, ino: bigint | undefined, legacy: bigint | undefined): void {
    const before = this.get(parent, name)
    this.#links.forget(before?.ino, before?.legacy, ino, legacy)
    if (legacy === undefined) this.#mounts.remove(parent, name)
    if (this.#inodes.isWithoutRoom() && ino !== undefined && ino === legacy && !this.hasRow(parent, name)) {
      this.#met.setName({ parent, name, ino })
      return
    }
    this.#met.removeName(parent, name)
    if (ino === undefined && legacy === undefined) {
      this.#sql.run('remove', toSigned(parent), name)
    } else {
      this.#inodes.keep(parent)
      if (ino !== undefined) this.#inodes.keep(ino)
      this.put(parent, name, ino, legacy)
    }
    if (before?.ino !== ino) this.#records.moved(parent, name, before?.ino, ino)
  }

  /** A name that the directory's record in the store has as well: nothing is owed because of it. */
  adopt(parent: bigint, name: Buffer, ino: bigint): void {
    this.#links.forget(ino)
    this.put(parent, name, ino, undefined)
  }

  /** Writes the row as it stands: the caller has given the files theirs. */
  put(parent: bigint, name: Buffer, ino: bigint | undefined, legacy: bigint | undefined): void {
    this.#sql.run(
      'put',
      toSigned(parent),
      name,
      ino === undefined ? null : toSigned(ino),
      legacy === undefined ? null : toSigned(legacy),
      this.#buckets.of(name),
    )
  }

  /** Names in a directory, whiteouts included: a page at a time, for whoever goes on asking. Rows may go meanwhile. */
  *all(parent: bigint): Generator<Dirent, undefined> {
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const page = this.on(parent, after, ROWS_AT_ONCE)
      yield* page
      const last = page.at(-1)
      if (!last || page.length < ROWS_AT_ONCE) break
      after = last.name
    }
    for (const met of this.#met.inDirectory(parent)) yield { ...met, legacy: met.ino }
  }

  /** As many of them, in the order of their names, behind `after`: for a directory of any size. */
  on(parent: bigint, after: Buffer, limit: number): Dirent[] {
    return this.#sql.all('on', toSigned(parent), after, limit).map((row) => direntFromRow(row))
  }

  /** The same with what a listing has to know of the files. */
  shownEntries(parent: bigint, after: Buffer, limit: number): ShownEntry[] {
    return this.#sql.all('shownOn', toSigned(parent), after, limit).map(shownFromRow)
  }

  /** One of them. */
  shownEntry(parent: bigint, name: Buffer): ShownEntry | undefined {
    const row = this.#sql.one('shownOne', toSigned(parent), name)
    return row && shownFromRow(row)
  }

  /** Names that are shown: a page at a time. Rows may go meanwhile. */
  *shown(parent: bigint): Generator<Dirent, undefined> {
    for (let [bucket, after]: [bigint, Uint8Array] = [-1n, Buffer.alloc(0)]; ; ) {
      const page = this.#sql.all('shown', toSigned(parent), bucket, after, ROWS_AT_ONCE)
      for (const row of page) yield direntFromRow(row)
      const last = page.at(-1)
      if (!last || page.length < ROWS_AT_ONCE) return
      bucket = last.bucket as bigint
      after = blob(last.name)
    }
  }

  /** How many names are shown. */
  count(parent: bigint): number {
    return this.#sql.number('count', toSigned(parent))
  }

  /** Whether the catalog has a row for the name. */
  hasRow(parent: bigint, name: Buffer): boolean {
    return this.#sql.one('one', toSigned(parent), name) !== undefined
  }

  /** Whether it has one for any name in the directory. */
  hasRows(parent: bigint): boolean {
    return this.#sql.one('any', toSigned(parent)) !== undefined
  }

  /** Names deleted in the overlay that the legacy volume still has. */
  whiteouts(limit: number): Dirent[] {
    return this.#sql.all('whiteouts', limit).map((row) => direntFromRow(row))
  }
}

function shownFromRow(row: Row): ShownEntry {
  if (row.mode === null) return { ...direntFromRow(row), inode: undefined }
  const legacyIno = row.legacy_ino === null ? undefined : toUnsigned(row.legacy_ino as bigint)
  const authority = row.authority === 0n ? 'legacy' : 'catalog'
  return { ...direntFromRow(row), inode: { authority, legacyIno, mode: Number(row.mode) } }
}
