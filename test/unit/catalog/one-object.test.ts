import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Catalog, type Inode } from '../../../src/catalog/index.ts'
import { newInode } from '../../../src/overlay/index.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'

const B = (text: string): Buffer => Buffer.from(text)
let directory: string
let path: string
let catalog: Catalog

const open = (cacheEntries?: number): Catalog =>
  Catalog.open(path, { check: false, ...(cacheEntries === undefined ? {} : { cacheEntries }) })

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-one-object-'))
  path = join(directory, 'catalog.db')
  catalog = open()
  file(1n, { mode: 0o040755 })
})

afterEach(async () => {
  freeDisk(path)
  await catalog.close()
  rmSync(directory, { recursive: true })
})

function file(ino: bigint, change: Partial<Inode> = {}): void {
  catalog.transaction(() => catalog.save({ ...newInode(ino, 1), mode: 0o100644, ...change }))
}

function known(ino: bigint): Inode {
  const inode = catalog.get(ino)
  if (!inode) throw new Error(`inode ${ino} is not in the catalog`)
  return inode
}

/** The next turn of the event loop. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function resize(inode: Inode, size: number): void {
  catalog.transaction(() => {
    inode.size = size
    catalog.save(inode)
  })
}

describe('P1 P2: an inode is one object, so nobody saves an old one over a newer one', () => {
  test('through a transaction that fails', async () => {
    file(10n, { size: 5 })
    const held = known(10n)
    fillDisk(path)
    expect(() => resize(known(10n), 99)).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
    freeDisk(path)
    expect(held.size).toBe(5)
    await turn()
    expect(known(10n)).toBe(held)
    resize(known(10n), 7)
    expect(held.size).toBe(7)
  })

  test('changed and not yet saved when the disk is full', () => {
    file(10n, { size: 5 })
    const held = known(10n)
    fillDisk(path)
    expect(() =>
      catalog.transaction(() => {
        held.size = 99
        catalog.outbox.add('upload', 10n)
        catalog.save(held)
      }),
    ).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
    freeDisk(path)
    expect(known(10n)).toBe(held)
    expect(held.size).toBe(5)
    expect(catalog.outbox.length).toBe(0)
  })

  test('removed by a transaction that fails: it is there, and the same', () => {
    file(10n, { size: 5 })
    catalog.lists.totals()
    const held = known(10n)
    expect(() =>
      catalog.transaction(() => {
        catalog.remove(held)
        catalog.save({ ...newInode(10n, 2), mode: 0o100644, size: 3 })
        throw new Error('no')
      }),
    ).toThrow('no')
    expect(known(10n)).toBe(held)
    expect(held).toMatchObject({ generation: 1, size: 5 })
    expect(catalog.lists.totals()).toMatchObject({ files: 1, bytes: 5 })
  })

  test('pushed out of the cache while somebody holds it', async () => {
    await catalog.close()
    catalog = open(4)
    for (let ino = 10n; ino < 30n; ino += 1n) file(ino, { size: 5 })
    await turn()
    const held = known(10n)
    for (let ino = 11n; ino < 30n; ino += 1n) known(ino)
    await turn()
    expect(known(10n)).toBe(held)
    resize(known(10n), 7)
    expect(held.size).toBe(7)
    catalog.lists.totals()
    resize(known(10n), 8)
    expect(catalog.lists.totals().bytes).toBe(19 * 5 + 8)
  })

  test('an object that was held across an await, or is another one, is refused', async () => {
    file(10n)
    const held = known(10n)
    await turn()
    expect(() => resize(held, 1)).toThrow('not asked for')
    expect(() => resize({ ...known(10n) }, 1)).toThrow('not asked for')
  })
})

describe('a part of a transaction that may fail', () => {
  test('leaves nothing behind, in the file or in memory, and the rest is done', () => {
    file(10n, { size: 5 })
    catalog.transaction(() => {
      catalog.attempt(
        () => {
          const inode = known(10n)
          inode.size = 99
          catalog.save(inode)
          catalog.dirents.set(1n, B('half'), 10n, undefined)
          throw new Error('no')
        },
        () => undefined,
      )
      catalog.dirents.set(1n, B('whole'), 10n, undefined)
    })
    expect(known(10n).size).toBe(5)
    expect(catalog.dirents.get(1n, B('half'))).toBeUndefined()
    expect(catalog.dirents.get(1n, B('whole'))?.ino).toBe(10n)
  })

  test('P6: takes the whole transaction along where the disk is full: SQLite has rolled all of it back', () => {
    file(10n)
    fillDisk(path, 1)
    expect(() =>
      catalog.transaction(() => {
        for (const name of ['a', 'b', 'c']) {
          catalog.attempt(
            () => catalog.dirents.set(1n, B(name), 10n, undefined),
            () => undefined,
          )
        }
      }),
    ).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
    freeDisk(path)
    expect([...catalog.dirents.all(1n)]).toEqual([])
  })
})

test('P1: numbers handed out after a transaction that failed are not handed out again after a kill', async () => {
  expect(() =>
    catalog.transaction(() => {
      catalog.numbers.nextVersion()
      throw new Error('no')
    }),
  ).toThrow('no')
  const version = catalog.transaction(() => catalog.numbers.nextVersion())
  await catalog.close()
  catalog = open()
  expect(catalog.transaction(() => catalog.numbers.nextVersion())).toBeGreaterThan(version)
})

test('P6: a transaction over more files than the cache has room for keeps no more, and what it made goes if it fails', async () => {
  await catalog.close()
  catalog = open(8)
  const numbers = Array.from({ length: 100 }, (_, nth) => BigInt(nth + 10))
  expect(() =>
    catalog.transaction(() => {
      for (const ino of numbers) file(ino)
      known(10n).size = 1
      throw new Error('taken back')
    }),
  ).toThrow('taken back')
  await turn()
  for (const ino of numbers) expect(catalog.get(ino)).toBeUndefined()
  catalog.transaction(() => {
    for (const ino of numbers) file(ino)
    const first = known(10n)
    first.size = 7
    for (const ino of numbers) known(ino)
    expect(known(10n)).toBe(first)
    catalog.save(first)
  })
  await turn()
  expect(catalog.lists.totals()).toMatchObject({ files: 100, bytes: 7 })
  await catalog.close()
  catalog = open()
  expect(catalog.lists.totals()).toMatchObject({ files: 100, bytes: 7 })
  expect(known(10n).size).toBe(7)
})
