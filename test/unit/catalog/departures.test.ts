import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog, type Departure, Forgetting, type Inode } from '../../../src/catalog/index.ts'
import { newInode } from '../../../src/overlay/index.ts'
import { SCHEMA_OF_FORMAT_1 } from '../../support/catalog-format-1.ts'

const B = (text: string): Buffer => Buffer.from(text)
const DIRECTORY = { mode: 0o040755, dirGeneration: 1, dirShards: 1 }
let directory: string
let catalog: Catalog

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-departures-'))
  catalog = Catalog.open(join(directory, 'catalog.db'), { check: true })
  made(1n, DIRECTORY)
})

afterEach(async () => {
  await catalog.close()
  rmSync(directory, { recursive: true })
})

function made(ino: bigint, change: Partial<Inode>): void {
  catalog.transaction(() => catalog.save({ ...newInode(ino, ino === 1n ? 0 : 1), ...change }))
}

/** The file or directory is shown there and nowhere else. */
function shown(ino: bigint, parent: bigint, name: string): void {
  catalog.transaction(() => {
    for (const link of [...catalog.links.of(ino)])
      catalog.dirents.set(link.parent, link.name, undefined, undefined)
    catalog.dirents.set(parent, B(name), ino, undefined)
  })
}

function removed(ino: bigint): void {
  catalog.transaction(() => {
    for (const link of [...catalog.links.of(ino)])
      catalog.dirents.set(link.parent, link.name, undefined, undefined)
    const inode = catalog.get(ino)
    if (!inode) return
    catalog.outbox.discard('files', `key of ${ino}`, 1, 1, ino)
    catalog.remove(inode)
  })
}

const numbered = (ino: bigint): Departure['file'] => ({ ino, generation: ino === 1n ? 0 : 1 })
const departure = (parent: bigint, name: string, ino: bigint): Departure => ({
  directory: numbered(parent),
  name: B(name),
  file: numbered(ino),
})
const free = (): string[] => catalog.outbox.garbage(100).map(({ key }) => key)

test('what a record named and does not any more is known until it is said to be gone from the record', () => {
  made(10n, { version: 1 })
  shown(10n, 1n, 'a')
  expect(catalog.departures.isEmpty).toBe(true)
  shown(10n, 1n, 'b')
  expect(catalog.departures.placesOf(numbered(10n))).toEqual([departure(1n, 'a', 10n)])
  shown(10n, 1n, 'a')
  expect(catalog.departures.placesOf(numbered(10n))).toEqual([departure(1n, 'b', 10n)])
  catalog.transaction(() => catalog.records.departed(new Forgetting([departure(1n, 'b', 10n)])))
  expect(catalog.departures.isEmpty).toBe(true)
})

test('a file that the store does not know leaves nothing behind', () => {
  made(10n, {})
  shown(10n, 1n, 'a')
  removed(10n)
  expect(catalog.departures.isEmpty).toBe(true)
  expect(free()).toEqual(['key of 10'])
})

test('the directory to which a stored file goes gets a record, and those above it', () => {
  made(20n, { mode: 0o040755 })
  made(21n, { mode: 0o040755 })
  shown(20n, 1n, 'd')
  shown(21n, 20n, 'e')
  made(10n, { version: 1 })
  shown(10n, 21n, 'f')
  expect([20n, 21n].map((ino) => catalog.get(ino)?.dirGeneration)).toEqual([1, 1])
  expect(catalog.outbox.directories(10).map(({ ino }) => ino)).toEqual([20n, 21n, 1n])
})

test('P2: objects of a tree that is gone are held until nothing leads to it, then let go a part at a time', () => {
  made(20n, DIRECTORY)
  made(21n, DIRECTORY)
  shown(20n, 1n, 'd')
  shown(21n, 20n, 'e')
  for (let ino = 30n; ino < 40n; ino += 1n) {
    made(ino, { version: 1 })
    shown(ino, 21n, `f${ino}`)
  }
  for (let ino = 30n; ino < 40n; ino += 1n) removed(ino)
  removed(21n)
  removed(20n)
  expect(free()).toEqual([])
  const gone = new Forgetting([departure(1n, 'd', 20n)])
  let turns = 1
  while (!catalog.transaction(() => catalog.records.departed(gone, 3))) turns += 1
  expect(turns).toBeGreaterThan(3)
  expect(free()).toHaveLength(12)
  expect(catalog.departures.isEmpty).toBe(true)
})

test('P4: more names than one turn takes are forgotten in as many turns as it needs, and no more', () => {
  for (let ino = 30n; ino < 50n; ino += 1n) {
    made(ino, { version: 1 })
    shown(ino, 1n, `f${ino}`)
  }
  for (let ino = 30n; ino < 50n; ino += 1n) removed(ino)
  const gone = new Forgetting(catalog.departures.below(numbered(1n), 100))
  let turns = 1
  while (turns < 100 && !catalog.transaction(() => catalog.records.departed(gone, 3))) turns += 1
  expect(turns).toBe(7)
  expect(free()).toHaveLength(20)
  expect(catalog.departures.isEmpty).toBe(true)
})

test('P6: directories that were moved into one another and removed hold each other no longer than to the next mount', () => {
  made(20n, DIRECTORY)
  made(21n, DIRECTORY)
  shown(20n, 1n, 'd')
  shown(21n, 20n, 'e')
  shown(21n, 1n, 'e')
  shown(20n, 21n, 'd')
  removed(20n)
  removed(21n)
  catalog.transaction(() =>
    catalog.records.departed(new Forgetting([departure(1n, 'd', 20n), departure(1n, 'e', 21n)])),
  )
  catalog.transaction(() => catalog.records.dropUnreachable())
  expect(catalog.departures.isEmpty).toBe(true)
  expect(free()).toHaveLength(2)
})

test('what still leads somewhere from a living directory is not dropped at a mount', () => {
  made(20n, DIRECTORY)
  shown(20n, 1n, 'd')
  made(10n, { version: 1 })
  shown(10n, 20n, 'f')
  removed(10n)
  removed(20n)
  catalog.transaction(() => catalog.records.dropUnreachable())
  expect(catalog.departures.isEmpty).toBe(false)
  expect(free()).toEqual([])
})

test('P2: a catalog of the first format is brought to this one with what it owes', async () => {
  const path = join(directory, 'old.db')
  const old = new DatabaseSync(path)
  old.exec(`${SCHEMA_OF_FORMAT_1}; PRAGMA application_id=${0x66657272}; PRAGMA user_version=1`)
  old.exec("INSERT INTO garbage VALUES ('files', 'k', 1, 1, 5, 0)")
  old.close()
  const upgraded = Catalog.open(path, { check: true })
  expect(upgraded.outbox.garbage(10)).toMatchObject([{ key: 'k', ino: 5n }])
  expect(upgraded.departures.isEmpty).toBe(true)
  await upgraded.close()
})
