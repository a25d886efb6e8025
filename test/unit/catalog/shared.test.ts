import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog } from '../../../src/catalog/index.ts'
import { newInode } from '../../../src/overlay/index.ts'

let directory: string
let catalog: Catalog

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-catalog-'))
  catalog = Catalog.open(join(directory, 'catalog.db'), { check: true })
  catalog.transaction(() => catalog.save({ ...newInode(1n, 0), mode: 0o040755 }))
})

afterEach(async () => {
  await catalog.close()
  rmSync(directory, { recursive: true })
})

test('P2: what shares a transaction is committed when it resolves', async () => {
  const asked = [1, 2, 3].map((number) =>
    catalog.shared(() => {
      catalog.meta.set(`m${number}`, 'there')
      return number
    }),
  )
  expect(catalog.meta.get('m1')).toBeUndefined()
  expect(await Promise.all(asked)).toEqual([1, 2, 3])
  await catalog.close()
  catalog = Catalog.open(join(directory, 'catalog.db'), { check: true })
  expect(['m1', 'm2', 'm3'].map((name) => catalog.meta.get(name))).toEqual(['there', 'there', 'there'])
})

test('P2: one that fails takes back nothing of the others, and all of its own', async () => {
  const results = await Promise.allSettled([
    catalog.shared(() => catalog.meta.set('first', 'there')),
    catalog.shared(() => {
      catalog.meta.set('second', 'there')
      throw new Error('not this one')
    }),
    catalog.shared(() => catalog.meta.set('third', 'there')),
  ])
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(['first', 'second', 'third'].map((name) => catalog.meta.get(name))).toEqual([
    'there',
    undefined,
    'there',
  ])
})

test('P1: where a file is said to be is always what the rows say, also after a change was taken back', () => {
  const names = ['a', 'b', 'c'].map((name) => Buffer.from(name))
  const ino = fc.constantFrom(undefined, 10n, 11n)
  const changes = fc.array(
    fc.record({
      changes: fc.array(
        fc.record({ parent: fc.constantFrom(1n, 2n), name: fc.constantFrom(...names), ino, legacy: ino }),
        { maxLength: 4 },
      ),
      fails: fc.boolean(),
    }),
  )
  fc.assert(
    fc.property(changes, (rounds) => {
      for (const round of rounds) {
        try {
          catalog.transaction(() => {
            for (const { parent, name, ino, legacy } of round.changes) {
              catalog.dirents.set(parent, name, ino, legacy)
              catalog.links.places(10n)
              catalog.links.of(11n)
            }
            if (round.fails) throw new Error('taken back')
          })
        } catch {}
        const rows = [1n, 2n].flatMap((parent) => [...catalog.dirents.all(parent)])
        const key = ({ parent, name }: { parent: bigint; name: Buffer }): string => `${parent}/${name}`
        for (const file of [10n, 11n]) {
          expect([...catalog.links.of(file)].map(key)).toEqual(
            rows.filter((row) => row.ino === file).map(key),
          )
          expect([...catalog.links.places(file)].map(key).sort()).toEqual(
            rows
              .filter((row) => row.legacy === file)
              .map(key)
              .sort(),
          )
        }
      }
    }),
    { numRuns: 60 },
  )
})

test('P4: store work asked for again after a worker read of it is not crossed off with the old round', () => {
  const { outbox } = catalog
  catalog.transaction(() => outbox.add('directory', 1n))
  catalog.transaction(() => outbox.add('directory', 1n))
  const read = outbox.find('directory', 1n)
  catalog.transaction(() => outbox.add('directory', 1n))
  if (read) catalog.transaction(() => outbox.done(read))
  const again = outbox.find('directory', 1n)
  expect(again).toBeDefined()
  if (again) catalog.transaction(() => outbox.done(again))
  expect(outbox.length).toBe(0)
})

test('P4: store work whose transaction was rolled back is asked for anew', () => {
  const { outbox } = catalog
  const failing = (): void => {
    outbox.add('directory', 1n)
    outbox.markShard(1n, 0)
    throw new Error('taken back')
  }
  expect(() => catalog.transaction(failing)).toThrow('taken back')
  catalog.transaction(() => {
    outbox.add('directory', 1n)
    outbox.markShard(1n, 0)
  })
  expect(outbox.find('directory', 1n)).toBeDefined()
  expect(outbox.dirtyShards(1n)).toEqual([0])
  catalog.transaction(() => outbox.clearShards(1n))
  catalog.transaction(() => outbox.markShard(1n, 0))
  expect(outbox.dirtyShards(1n)).toEqual([0])
})
