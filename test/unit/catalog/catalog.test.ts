import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Catalog, type Inode } from '../../../src/catalog/index.ts'
import { addTo, NO_TOTALS, shareOf } from '../../../src/catalog/totals.ts'
import { newInode } from '../../../src/overlay/index.ts'

const B = (text: string): Buffer => Buffer.from(text)
let directory: string
let catalog: Catalog

function open(): Catalog {
  return Catalog.open(join(directory, 'catalog.db'), { check: true })
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-catalog-'))
  catalog = open()
  catalog.transaction(() => catalog.save({ ...newInode(1n, 0), mode: 0o040755 }))
})

afterEach(async () => {
  await catalog.close()
  rmSync(directory, { recursive: true })
})

async function reopen(): Promise<void> {
  await catalog.close()
  catalog = open()
}

function file(ino: bigint, change: Partial<Inode> = {}): Inode {
  const inode = { ...newInode(ino, 1), mode: 0o100644, ...change }
  catalog.transaction(() => catalog.save(inode))
  return inode
}

describe('names', () => {
  test('a whiteout hides what the volume has and shows nothing; a row that says neither is none', async () => {
    file(10n)
    catalog.transaction(() => {
      catalog.setDirent(1n, B('a'), 10n, 10n)
      catalog.setDirent(1n, B('b'), undefined, 0n)
      catalog.setDirent(1n, B('c'), 10n, undefined)
    })
    catalog.transaction(() => catalog.setDirent(1n, B('c'), undefined, undefined))
    await reopen()
    expect(catalog.dirent(1n, B('a'))).toMatchObject({ ino: 10n, legacy: 10n })
    expect(catalog.dirent(1n, B('b'))).toMatchObject({ ino: undefined, legacy: 0n })
    expect(catalog.dirent(1n, B('c'))).toBeUndefined()
    expect(catalog.whiteouts(10).map(({ name }) => name.toString())).toEqual(['b'])
    expect(catalog.entryCount(1n)).toBe(1)
    expect(catalog.hasRows(1n)).toBe(true)
  })

  test('a moved file is known by where the volume has it and by where it is shown', () => {
    file(10n)
    catalog.transaction(() => {
      catalog.setDirent(1n, B('old'), undefined, 10n)
      catalog.setDirent(1n, B('new'), 10n, undefined)
    })
    expect([...catalog.linksOf(10n)].map(({ name }) => name.toString())).toEqual(['new'])
    expect([...catalog.legacyPlaces(10n)].map(({ name }) => name.toString())).toEqual(['old'])
    expect(catalog.pathOf(10n)?.toString()).toBe('new')
  })

  test('inode numbers above 2^63 are kept as they are', async () => {
    const ino = (1n << 64n) - 2n
    file(ino, { legacyIno: ino })
    catalog.transaction(() => catalog.setDirent(1n, B('a'), ino, ino))
    await reopen()
    expect(catalog.get(ino)?.legacyIno).toBe(ino)
    expect(catalog.dirent(1n, B('a'))?.ino).toBe(ino)
    expect([...catalog.legacyPlaces(ino)]).toHaveLength(1)
  })
})

test('P1: numbers are never handed out twice, whatever died in between', async () => {
  const seen = new Set<string>()
  for (let life = 0; life < 4; life += 1) {
    for (let count = 0; count < 1500; count += 1) {
      const [version, generation, ino] = catalog.transaction(() => [
        catalog.nextVersion(),
        catalog.nextGeneration(),
        catalog.nextIno(),
      ])
      for (const number of [`v${version}`, `g${generation}`, `i${ino}`]) {
        expect(seen.has(number)).toBe(false)
        seen.add(number)
      }
    }
    await reopen()
  }
})

describe('the outbox', () => {
  test('P4: work that was asked for again while it was done is not crossed off', () => {
    const { outbox } = catalog
    const add = (): void => catalog.transaction(() => outbox.add('upload', 5n))
    add()
    const first = outbox.find('upload', 5n)
    add()
    if (first) catalog.transaction(() => outbox.done(first))
    const second = outbox.find('upload', 5n)
    expect(second?.seq).toBeGreaterThan(first?.seq ?? 0n)
    if (second) catalog.transaction(() => outbox.done(second))
    expect(outbox.length).toBe(0)
  })

  test('P4: survives, in order, one row a kind and inode', async () => {
    catalog.transaction(() => {
      for (const ino of [3n, 1n, 2n, 3n]) catalog.outbox.add('upload', ino)
      catalog.outbox.add('directory', 1n)
    })
    await reopen()
    const work = catalog.outbox.pending(0n, 10)
    expect(work.map(({ kind, ino }) => `${kind} ${ino}`)).toEqual([
      'upload 1',
      'upload 2',
      'upload 3',
      'directory 1',
    ])
    expect(catalog.outbox.pending(work[1]?.seq ?? 0n, 1).map(({ ino }) => ino)).toEqual([3n])
  })
})

test('a transaction that fails leaves nothing in memory either', () => {
  file(10n, { size: 5 })
  catalog.totals()
  expect(() =>
    catalog.transaction(() => {
      const mine = catalog.get(10n)
      if (!mine) throw new Error('lost')
      mine.size = 99
      catalog.save(mine)
      catalog.setDirent(1n, B('x'), 10n, undefined)
      throw new Error('no')
    }),
  ).toThrow('no')
  expect(catalog.get(10n)?.size).toBe(5)
  expect(catalog.totals().bytes).toBe(5)
  expect(catalog.dirent(1n, B('x'))).toBeUndefined()
})

test('the totals kept are the totals counted', () => {
  const change = fc.record({
    ino: fc.bigInt({ min: 2n, max: 6n }),
    remove: fc.boolean(),
    size: fc.nat(1000),
    version: fc.nat(1),
    dirty: fc.nat(3),
    orphan: fc.boolean(),
    authority: fc.constantFrom('legacy' as const, 'catalog' as const),
    failure: fc.option(fc.constant('why'), { nil: undefined }),
    legacyIno: fc.option(fc.constant(7n), { nil: undefined }),
    ask: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      for (const { ino, remove, ask, ...fields } of changes) {
        if (ask) catalog.totals()
        catalog.transaction(() => {
          const inode = catalog.get(ino)
          if (remove && inode) catalog.remove(inode)
          else catalog.save(Object.assign(inode ?? { ...newInode(ino, 1), mode: 0o100644 }, fields))
        })
      }
      const counted = { ...NO_TOTALS }
      for (const inode of catalog.scan()) addTo(counted, shareOf(inode), 1)
      expect(catalog.totals()).toEqual(counted)
    }),
    { numRuns: 50 },
  )
})

describe('age of what is owed', () => {
  afterEach(() => vi.restoreAllMocks())

  test('P6: steps of the clock make it neither older nor younger', () => {
    catalog.transaction(() => catalog.outbox.add('upload', 5n))
    const real = Date.now
    for (const step of [-3_600_000, 86_400_000]) {
      vi.spyOn(Date, 'now').mockImplementation(() => real() + step)
      expect(catalog.outbox.oldestSeconds).toBeGreaterThanOrEqual(0)
      expect(catalog.outbox.oldestSeconds).toBeLessThan(60)
    }
  })

  test('P4: work from before the clock was set back grows older all the same', async () => {
    catalog.transaction(() => catalog.outbox.add('upload', 5n))
    vi.spyOn(performance, 'timeOrigin', 'get').mockReturnValue(performance.timeOrigin - 3_600_000)
    await reopen()
    const before = catalog.outbox.oldestSeconds
    const elapsed = performance.now() + 20
    while (performance.now() < elapsed);
    expect(catalog.outbox.oldestSeconds).toBeGreaterThan(before)
  })
})
