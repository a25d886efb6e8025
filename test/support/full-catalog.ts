import { DatabaseSync } from 'node:sqlite'
import { Catalog, INODE_COLUMNS, ROOT_INO } from '../../src/catalog/index.ts'
import { newInode } from '../../src/overlay/index.ts'

/** A directory with all names, one with as many hidden names, one file with as many names, and one with as many staged chunks. */
export const WIDE = 2n
export const HIDDEN = 3n
export const LINKED = 4n
export const STAGED = 5n
/** The first of the files. Every fourth is on the volume alone, drained, to be drained, or failed. */
export const FIRST_FILE = 1000n

/** A catalog with so many rows of each kind, as quickly as SQLite makes them. */
export async function fullCatalog(path: string, rows: number): Promise<Catalog> {
  const empty = Catalog.open(path, { check: true })
  empty.transaction(() => {
    for (const ino of [ROOT_INO, WIDE, HIDDEN, LINKED, STAGED]) {
      const mode = ino < LINKED ? 0o040755 : 0o100644
      empty.save({
        ...newInode(ino, Number(ino)),
        mode,
        dirGeneration: 1,
        dirShards: 1,
        staged: ino === STAGED ? 9 : 0,
      })
      if (ino !== ROOT_INO) empty.dirents.set(ROOT_INO, Buffer.from(`n${ino}`), ino, ino)
    }
  })
  await empty.close()
  const database = new DatabaseSync(path)
  const columns: Record<string, string> = Object.fromEntries(INODE_COLUMNS.map((name) => [name, '0']))
  for (const name of ['truncating', 'digest', 'fp_size', 'fp_mtime', 'fp_ctime', 'xattrs', 'target'])
    columns[name] = 'NULL'
  Object.assign(columns, {
    ino: `n + ${FIRST_FILE}`,
    generation: `n + ${FIRST_FILE}`,
    mode: '33188',
    nlink: '1',
    size: '5',
    authority: 'n % 4 > 0',
    base: '2 * (n % 4 > 0)',
    legacy_ino: `CASE WHEN n % 4 = 1 THEN NULL ELSE n + ${FIRST_FILE} END`,
    version: 'n % 4 > 0',
    dirty: '0',
    key: "'file ' || n",
    failure: "CASE WHEN n % 4 = 3 THEN 'it is in use' END",
  })
  const each = `WITH RECURSIVE each (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM each WHERE n < ${rows - 1})`
  const fill = (table: string, values: string): void =>
    database.exec(`INSERT INTO ${table} ${each} SELECT ${values} FROM each`)
  database.exec('PRAGMA cache_size=-200000; PRAGMA synchronous=OFF; BEGIN')
  fill(`inodes (${INODE_COLUMNS.join(',')})`, INODE_COLUMNS.map((name) => columns[name] ?? '0').join(','))
  const name = "CAST('name ' || n AS BLOB)"
  fill('dirents', `${WIDE}, ${name}, n + ${FIRST_FILE}, n + ${FIRST_FILE}, n % 65536`)
  fill('dirents', `${HIDDEN}, ${name}, NULL, 0, n % 65536`)
  fill('dirents', `${HIDDEN} + 100, ${name}, ${LINKED}, ${LINKED}, n % 65536`)
  fill('staged', `${STAGED}, n, 1048576, zeroblob(64), 0, 0`)
  fill('outbox (kind, ino, since)', `'upload', n + ${FIRST_FILE}, n + 1`)
  fill('outbox (kind, ino, since)', `'directory', n + ${FIRST_FILE}, n + 1`)
  fill('garbage', `'chunks', 'object ' || n, 0, 0, n, n + 1, 0`)
  fill('unproven (ino)', 'n')
  fill('departures', `${WIDE}, ${WIDE}, ${name}, -n - 1, n, n % 65536`)
  fill('hashes', `${STAGED}, 0, n, zeroblob(32)`)
  database.exec('COMMIT')
  database.close()
  return Catalog.open(path, { check: false })
}
