import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Catalog, CHUNK_BLOCKS, type Incoming, LAYOUT_RUNS } from '../../../src/catalog/index.ts'

const FILE = { ino: 7n, generation: 3, layout: LAYOUT_RUNS }
const CHUNKS = 24

let directory: string
let catalog: Catalog

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-index-'))
  catalog = Catalog.open(join(directory, 'catalog.db'), { check: false })
})

afterEach(async () => {
  await catalog.close()
  rmSync(directory, { recursive: true })
})

/** Bits of a chunk with data in these blocks and zeros elsewhere; none where all is data. */
function zerosBut(data: readonly number[]): Buffer | undefined {
  if (data.length === 0) return undefined
  const bits = Buffer.alloc(CHUNK_BLOCKS / 8, 0xff)
  for (const block of data) bits[block >> 3] = (bits[block >> 3] ?? 0) & ~(1 << (block & 7))
  return bits
}

const row: fc.Arbitrary<Incoming> = fc
  .record({
    index: fc.nat(CHUNKS - 1),
    isHole: fc.boolean(),
    hash: fc.nat(3),
    data: fc.uniqueArray(fc.nat(CHUNK_BLOCKS - 1), { maxLength: 3 }),
  })
  .map(({ index, isHole, hash, data }) => ({
    level: 0,
    index,
    hash: isHole ? undefined : Buffer.alloc(32, hash + 1),
    zeros: isHole ? undefined : zerosBut(data),
  }))

/** Whether the model has data in a block. */
function isData(model: ReadonlyMap<number, Incoming>, block: number): boolean {
  const chunk = model.get(Math.floor(block / CHUNK_BLOCKS))
  if (!chunk?.hash) return false
  const at = block % CHUNK_BLOCKS
  return (((chunk.zeros?.[at >> 3] ?? 0) >> (at & 7)) & 1) === 0
}

function expectLike(model: ReadonlyMap<number, Incoming>, from: number): void {
  const end = (CHUNKS + 1) * CHUNK_BLOCKS
  const next = (wanted: boolean): number => {
    for (let block = from; block < end; block += 1) if (isData(model, block) === wanted) return block
    return end
  }
  expect(Math.min(end, catalog.content.nextData(FILE, from)), `data from ${from}`).toBe(next(true))
  expect(Math.min(end, catalog.content.nextHole(FILE, from)), `hole from ${from}`).toBe(next(false))
}

test('P1: where a file has data and where holes is what its chunks say, whatever became of them', () => {
  const batches = fc.array(fc.array(row, { minLength: 1, maxLength: 12 }), { maxLength: 8 })
  fc.assert(
    fc.property(batches, fc.array(fc.nat(CHUNKS * CHUNK_BLOCKS), { maxLength: 20 }), (steps, places) => {
      const model = new Map<number, Incoming>()
      for (const rows of steps) {
        catalog.transaction(() => {
          for (const one of rows) catalog.content.setIncoming(FILE.generation, one)
          catalog.content.moveIncoming(FILE)
        })
        for (const one of rows) model.set(one.index, one)
      }
      catalog.transaction(() => catalog.content.begin(FILE.generation))
      for (const place of places) expectLike(model, place)
      for (const { index, hash } of model.values()) {
        expect(catalog.content.chunk(FILE, index)).toEqual(hash)
        const garbage = catalog.outbox.garbage(1000).map(({ key }) => key)
        if (hash) expect(garbage).not.toContain(`7-3/${index}-${hash.toString('hex')}`)
      }
      catalog.transaction(() => catalog.content.discard(FILE))
      expect(catalog.content.isPlain(FILE.generation)).toBe(true)
    }),
    { numRuns: 60 },
  )
})

test('P6: a file that is gone is let go of in bounded steps, all of it', () => {
  const chunks = 1000
  const rows = Array.from({ length: chunks }, (_, index) => ({
    level: 0,
    index: index * 1_000_000,
    hash: Buffer.alloc(32, 1),
    zeros: zerosBut([index % CHUNK_BLOCKS]),
  }))
  catalog.transaction(() => {
    catalog.content.begin(FILE.generation)
    catalog.content.list(FILE.generation, rows)
    catalog.content.discard(FILE)
  })
  expect(catalog.outbox.garbage(chunks).length).toBeLessThan(chunks / 2)
  expect(catalog.outbox.length).toBeGreaterThan(catalog.outbox.garbage(chunks).length)
  let steps = 0
  while (catalog.transaction(() => catalog.content.discardMore())) steps += 1
  expect(steps).toBeGreaterThan(1)
  expect(catalog.outbox.garbage(2 * chunks)).toHaveLength(chunks)
  expect(catalog.content.isPlain(FILE.generation)).toBe(true)
})
