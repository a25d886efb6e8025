import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Catalog, type Inode } from '../../../src/catalog/index.ts'
import { newInode } from '../../../src/overlay/index.ts'
import { countsOf } from '../../support/catalog-counts.ts'

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
  test('P6: the path of a file below 3,000 levels is what leads there', () => {
    const LEVELS = 3000n
    const add = (ino: bigint): void => {
      catalog.save({ ...newInode(ino, Number(ino)), mode: ino === LEVELS ? 0o100644 : 0o040755 })
      catalog.dirents.set(ino - 1n, B(`n${ino}`), ino, ino)
    }
    catalog.transaction(() => {
      for (let ino = 2n; ino < LEVELS; ino += 1n) add(ino)
    })
    catalog.transaction(() => add(LEVELS))
    const path = Array.from({ length: Number(LEVELS) - 1 }, (_, nth) => `n${nth + 2}`).join('/')
    expect(catalog.links.pathOf(LEVELS)?.toString()).toBe(path)
    expect(catalog.links.pathOf(700n)?.toString()).toBe(path.slice(0, path.indexOf('/n701')))
    // A directory that is in itself has no path.
    catalog.transaction(() => catalog.dirents.set(900n, B('loop'), 800n, undefined))
    catalog.transaction(() => catalog.dirents.set(799n, B('n800'), undefined, undefined))
    expect(catalog.links.pathOf(LEVELS)).toBeUndefined()
  })

  test('a whiteout hides what the volume has and shows nothing; a row that says neither is none', async () => {
    file(10n)
    catalog.transaction(() => {
      catalog.dirents.set(1n, B('a'), 10n, 10n)
      catalog.dirents.set(1n, B('b'), undefined, 0n)
      catalog.dirents.set(1n, B('c'), 10n, undefined)
    })
    catalog.transaction(() => catalog.dirents.set(1n, B('c'), undefined, undefined))
    await reopen()
    expect(catalog.dirents.get(1n, B('a'))).toMatchObject({ ino: 10n, legacy: 10n })
    expect(catalog.dirents.get(1n, B('b'))).toMatchObject({ ino: undefined, legacy: 0n })
    expect(catalog.dirents.get(1n, B('c'))).toBeUndefined()
    expect(catalog.dirents.whiteouts(10).map(({ name }) => name.toString())).toEqual(['b'])
    expect(catalog.dirents.count(1n)).toBe(1)
    expect(catalog.dirents.hasRows(1n)).toBe(true)
  })

  test('a moved file is known by where the volume has it and by where it is shown', () => {
    file(10n)
    catalog.transaction(() => {
      catalog.dirents.set(1n, B('old'), undefined, 10n)
      catalog.dirents.set(1n, B('new'), 10n, undefined)
    })
    expect([...catalog.links.of(10n)].map(({ name }) => name.toString())).toEqual(['new'])
    expect([...catalog.links.places(10n)].map(({ name }) => name.toString())).toEqual(['old'])
    expect(catalog.links.pathOf(10n)?.toString()).toBe('new')
  })

  test('inode numbers above 2^63 are kept as they are', async () => {
    const ino = (1n << 64n) - 2n
    file(ino, { legacyIno: ino })
    catalog.transaction(() => catalog.dirents.set(1n, B('a'), ino, ino))
    await reopen()
    expect(catalog.get(ino)?.legacyIno).toBe(ino)
    expect(catalog.dirents.get(1n, B('a'))?.ino).toBe(ino)
    expect([...catalog.links.places(ino)]).toHaveLength(1)
  })
})

test('P1: numbers are never handed out twice, whatever died in between', async () => {
  const seen = new Set<string>()
  for (let life = 0; life < 4; life += 1) {
    for (let count = 0; count < 1500; count += 1) {
      const [version, generation, ino] = catalog.transaction(() => [
        catalog.numbers.nextVersion(),
        catalog.numbers.nextGeneration(),
        catalog.numbers.nextIno(),
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
  catalog.lists.totals()
  expect(() =>
    catalog.transaction(() => {
      const mine = catalog.get(10n)
      if (!mine) throw new Error('lost')
      mine.size = 99
      catalog.save(mine)
      catalog.dirents.set(1n, B('x'), 10n, undefined)
      throw new Error('no')
    }),
  ).toThrow('no')
  expect(catalog.get(10n)?.size).toBe(5)
  expect(catalog.lists.totals().bytes).toBe(5)
  expect(catalog.dirents.get(1n, B('x'))).toBeUndefined()
})

test('P6: whatever is kept count of is what there is, so that nobody has to count it', () => {
  const ino = fc.bigInt({ min: 2n, max: 6n })
  const name = fc.constantFrom('a', 'b', 'c').map(B)
  const someFile = fc.option(ino, { nil: undefined })
  const change = fc.oneof(
    fc.record({
      kind: fc.constant('save' as const),
      ino,
      remove: fc.boolean(),
      size: fc.nat(1000),
      version: fc.nat(1),
      dirty: fc.nat(3),
      orphan: fc.boolean(),
      authority: fc.constantFrom('legacy' as const, 'catalog' as const),
      base: fc.constantFrom('none' as const, 'legacy' as const, 'store' as const),
      failure: fc.option(fc.constant('why'), { nil: undefined }),
      legacyIno: fc.option(fc.constant(7n), { nil: undefined }),
    }),
    fc.record({
      kind: fc.constant('name' as const),
      name,
      shown: someFile,
      legacy: fc.option(fc.oneof(ino, fc.constant(0n)), { nil: undefined }),
    }),
    fc.record({ kind: fc.constant('owe' as const), ino, done: fc.boolean() }),
    fc.record({ kind: fc.constant('discard' as const), name, forget: fc.boolean() }),
    fc.record({ kind: fc.constant('depart' as const), name, ino, back: fc.boolean() }),
  )
  const carryOut = (step: typeof change extends fc.Arbitrary<infer T> ? T : never): void => {
    const { outbox } = catalog
    if (step.kind === 'save') {
      const { kind: _, ino: which, remove, ...fields } = step
      const inode = catalog.get(which)
      if (remove && inode) catalog.remove(inode)
      else catalog.save(Object.assign(inode ?? { ...newInode(which, 1), mode: 0o100644 }, fields))
    } else if (step.kind === 'name') catalog.dirents.set(1n, step.name, step.shown, step.legacy)
    else if (step.kind === 'owe') {
      const work = outbox.find('upload', step.ino)
      if (step.done && work) outbox.done(work)
      else outbox.add('upload', step.ino)
    } else if (step.kind === 'discard') {
      const garbage = { space: 'dirs', key: step.name.toString(), epoch: 1, version: 1, ino: 2n } as const
      if (step.forget) outbox.forget(garbage)
      else outbox.discard('dirs', garbage.key, 1, 1, 2n)
    } else {
      const directory = { ino: 1n, generation: 0 }
      const departure = { directory, name: step.name, file: { ino: step.ino, generation: 1 } }
      if (step.back) catalog.departures.remove(departure)
      else catalog.departures.add(departure, 5)
    }
  }
  fc.assert(
    fc.property(fc.array(fc.tuple(change, fc.boolean()), { maxLength: 40 }), (steps) => {
      for (const [step, fails] of steps)
        catalog.transaction(() =>
          catalog.attempt(
            () => {
              carryOut(step)
              if (fails) throw new Error('taken back')
            },
            () => undefined,
          ),
        )
      const { kept, counted } = countsOf(join(directory, 'catalog.db'))
      expect(kept).toEqual(counted)
    }),
    { numRuns: 100 },
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
