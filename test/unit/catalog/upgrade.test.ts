import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog, CHUNK_BLOCKS, INODE_COLUMNS, LAYOUT_CHUNKED } from '../../../src/catalog/index.ts'
import { SCHEMA_OF_FORMAT_1 } from '../../support/catalog-format-1.ts'
import { countsOf } from '../../support/catalog-counts.ts'

let directory: string
let path: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-upgrade-'))
  path = join(directory, 'catalog.db')
})

afterEach(() => rmSync(directory, { recursive: true }))

// Those of later formats are not there yet.
const FIRST_COLUMNS = INODE_COLUMNS.filter((name) => name !== 'flags' && name !== 'superseded')

const hash = (byte: number): Buffer => Buffer.alloc(32, byte)

/** A file of format 1 with these chunks and pages. */
function insert(
  database: DatabaseSync,
  row: {
    ino: number
    generation: number
    size: number
    staged?: number
    legacy_ino?: number
    legacy_dev?: number
  },
  chunks: readonly number[],
): void {
  const columns: Record<string, number | null> = Object.fromEntries(FIRST_COLUMNS.map((name) => [name, 0]))
  for (const name of ['legacy_ino', 'truncating', 'key', 'digest', 'fp_size', 'fp_mtime', 'fp_ctime'])
    columns[name] = null
  for (const name of ['xattrs', 'target', 'failure']) columns[name] = null
  Object.assign(columns, { mode: 0o100644, nlink: 1, layout: 2, version: 1, base: 2 })
  Object.assign(columns, { ino: row.ino, generation: row.generation, size: row.size, stored_size: row.size })
  columns.staged = row.staged ?? 0
  columns.legacy_ino = row.legacy_ino ?? null
  columns.legacy_dev = row.legacy_dev ?? 0
  database
    .prepare(
      `INSERT INTO inodes (${FIRST_COLUMNS.join(',')}) VALUES (${FIRST_COLUMNS.map(() => '?').join(',')})`,
    )
    .run(...FIRST_COLUMNS.map((name) => columns[name] ?? null))
  for (const index of chunks)
    database.prepare('INSERT INTO chunks VALUES (?,?,?)').run(row.ino, index, hash(index + 1))
}

test('a catalog of format 1 is brought to this one: chunks, pages, holes and staging files are what they were', async () => {
  const database = new DatabaseSync(path)
  database.exec(SCHEMA_OF_FORMAT_1)
  const MiB = 1024 * 1024
  insert(database, { ino: 10, generation: 5, size: 6 * MiB }, [1, 2, 4])
  insert(database, { ino: 11, generation: 6, size: 3 * MiB, staged: 1 }, [0, 1, 2])
  insert(database, { ino: 12, generation: 7, size: 9 * MiB }, [])
  database.prepare('INSERT INTO pages VALUES (?,?,?)').run(10, 0, hash(99))
  database.close()
  const catalog = Catalog.open(path, { check: true })
  const { content } = catalog
  const file = (generation: number) => ({ generation, layout: LAYOUT_CHUNKED })
  expect([...content.hashesFrom(5, 0, 0)]).toEqual(
    [1, 2, 4].map((index) => ({ index, hash: hash(index + 1) })),
  )
  expect(content.hash(5, 1, 0)).toEqual(hash(99))
  const chunk = (block: number): number => block / CHUNK_BLOCKS
  expect(chunk(content.nextData(file(5), 0))).toBe(1)
  expect(chunk(content.nextHole(file(5), CHUNK_BLOCKS))).toBe(3)
  expect(chunk(content.nextData(file(5), 3 * CHUNK_BLOCKS))).toBe(4)
  expect(chunk(content.nextHole(file(5), 4 * CHUNK_BLOCKS))).toBe(5)
  expect(chunk(content.nextData(file(5), 5 * CHUNK_BLOCKS))).toBeGreaterThan(6)
  expect(chunk(content.nextHole(file(6), 0))).toBe(3)
  expect(content.nextHole(file(7), 1)).toBe(1)
  expect(chunk(content.nextData(file(7), 0))).toBeGreaterThan(9)
  expect([...catalog.lists.staged()]).toEqual([11n])
  expect(catalog.lists.totals()).toMatchObject({ files: 3, bytes: 18 * MiB })
  const { kept, counted } = countsOf(path)
  expect(kept).toEqual(counted)
  await catalog.close()
  const again = Catalog.open(path, { check: true })
  expect(again.get(10n)?.size).toBe(6 * MiB)
  await again.close()
})

test('P1, P2: what was mounted below SOURCE when an older ferryfs looked is known', async () => {
  const database = new DatabaseSync(path)
  database.exec(SCHEMA_OF_FORMAT_1)
  const files = [
    { ino: 1, legacy_dev: 0 },
    { ino: 20, legacy_dev: 17 },
    { ino: 21, legacy_dev: 17 },
    { ino: 22, legacy_dev: 0 },
  ]
  for (const file of files)
    insert(database, { ...file, legacy_ino: file.ino, generation: file.ino, size: 0 }, [])
  const name = database.prepare('INSERT INTO dirents VALUES (?,?,?,?,0)')
  name.run(1, Buffer.from('below'), 20, 20)
  name.run(20, Buffer.from('deep'), 21, 21)
  name.run(1, Buffer.from('beside'), 22, 22)
  database.close()
  const catalog = Catalog.open(path, { check: true })
  const at = (parent: bigint, text: string) => catalog.mounts.at({ parent, name: Buffer.from(text) })
  expect(at(1n, 'below')).toEqual({ device: 17n, rootIno: 0n, rootBtimeNs: 0n })
  expect([at(20n, 'deep'), at(1n, 'beside')]).toEqual([undefined, undefined])
  await catalog.close()
})
