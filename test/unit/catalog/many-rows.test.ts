import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Catalog } from '../../../src/catalog/index.ts'
import { FIRST_FILE, fullCatalog, HIDDEN, LINKED, STAGED, WIDE } from '../../support/full-catalog.ts'

// P6: whatever is asked of a catalog in one turn of the event loop costs the same, however many rows of everything it has. Times
// of the processor are compared with one another, never with a clock: what follows the rows takes 25 times as long.
const FEW = 4000
const MANY = 100_000
const TIMES = 4
// Below this a difference says nothing.
const NOISE_MS = 0.5
const ROUNDS = 25

const wide = { ino: WIDE, generation: Number(WIDE) }
const UNDO = new Error('undo')
/** Each round finds the same rows: with few of them the last rounds would have nothing left to do. */
function undone(catalog: Catalog, body: () => unknown): void {
  expect(() =>
    catalog.transaction(() => {
      body()
      throw UNDO
    }),
  ).toThrow(UNDO)
}
const first = <T>(all: Iterable<T>): T | undefined => all[Symbol.iterator]().next().value
/** Operations by what they are for. */
const ASKED: Readonly<Record<string, (catalog: Catalog) => unknown>> = {
  'status: totals': (catalog) => catalog.lists.totals(),
  'status: length of the outbox': (catalog) => catalog.outbox.length,
  'status: age of the outbox': (catalog) => catalog.outbox.oldestSeconds,
  'status: a page of failures': (catalog) => catalog.lists.failures(undefined, 200),
  'status: a late page of failures': (catalog) => catalog.lists.failures(FIRST_FILE + 4000n, 200),
  'mode: what diverges': (catalog) => catalog.lists.divergedCount(),
  'mode: what is on the volume': (catalog) => catalog.lists.onVolumeCount(),
  'mode: what is not stored': (catalog) => catalog.lists.unstoredCount(),
  'mode: a page to be taken over': (catalog) => catalog.lists.legacyAuthority(undefined, 100),
  'names: how many': (catalog) => catalog.dirents.count(WIDE),
  'names: how many that are hidden': (catalog) => catalog.dirents.count(HIDDEN),
  'names: whether one is shown': (catalog) => first(catalog.dirents.shown(WIDE)),
  'names: whether one is shown among hidden ones': (catalog) => first(catalog.dirents.shown(HIDDEN)),
  'names: the first row': (catalog) => first(catalog.dirents.all(HIDDEN)),
  'names: a page': (catalog) => catalog.dirents.shownEntries(WIDE, Buffer.from('name 3'), 64),
  'names: the first of a file': (catalog) => catalog.links.first(LINKED),
  'names: a path': (catalog) => catalog.links.pathOf(FIRST_FILE + 7n),
  'names: places on the volume': (catalog) => first(catalog.links.places(LINKED)),
  'staging: the next chunk': (catalog) => catalog.staged.next(STAGED, 100),
  'staging: the last chunk': (catalog) => catalog.staged.last(STAGED),
  'staging: whether anything is not synced': (catalog) => catalog.staged.hasUnsynced(STAGED),
  'staging: what has no checksums': (catalog) => catalog.staged.nextUnsealed(STAGED, 0),
  'staging: files': (catalog) => first(catalog.lists.staged()),
  'recovery: files without a name': (catalog) => first(catalog.lists.orphans()),
  'recovery: copies that are unproven': (catalog) => catalog.unproven.upTo(1_000_000n),
  'uploads: a page': (catalog) => catalog.outbox.uploads(100n, 256),
  'uploads: once more': (catalog) => undone(catalog, () => catalog.outbox.add('upload', FIRST_FILE)),
  'uploads: what is unproven': (catalog) => catalog.unproven.last(),
  'uploads: some are proven': (catalog) => undone(catalog, () => catalog.unproven.drop(1_000_000n)),
  'records: directories': (catalog) => catalog.outbox.directories(1024),
  'records: names that went': (catalog) => catalog.departures.count(wide),
  'records: the next of them': (catalog) => catalog.departures.nextBucket(wide, 100),
  'records: some of them': (catalog) => catalog.departures.below(wide, 256),
  'records: directories of names that went': (catalog) => catalog.departures.directories(undefined, 64),
  'garbage: a page': (catalog) => catalog.outbox.garbage(256),
  'garbage: of a file that is gone': (catalog) =>
    catalog.transaction(() => catalog.content.discard({ ino: STAGED, generation: Number(STAGED) })),
  'reaper: what can go': (catalog) => catalog.lists.drainable(undefined, 200),
  'reaper: hidden names': (catalog) => catalog.dirents.whiteouts(200),
  'reaper: directories': (catalog) => catalog.lists.volumeDirectories(undefined, 200),
  'removal: some staged chunks': (catalog) => undone(catalog, () => catalog.staged.drop(STAGED, 0)),
  'truncation: some staged chunks': (catalog) => undone(catalog, () => catalog.staged.drop(STAGED, 500)),
}

let directory: string
let few: Catalog
let many: Catalog

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-many-'))
  few = await fullCatalog(join(directory, 'few.db'), FEW)
  many = await fullCatalog(join(directory, 'many.db'), MANY)
}, 300_000)

afterAll(async () => {
  await few.close()
  await many.close()
  rmSync(directory, { recursive: true })
})

/** The processor's time for one call, of many: a kernel may count it by ticks of 4 ms, longer than a call takes. */
function costOf(catalog: Catalog, body: (catalog: Catalog) => unknown): number {
  const before = process.threadCpuUsage()
  for (let round = 0; round < ROUNDS; round += 1) body(catalog)
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1000 / ROUNDS
}

test('P6: what a turn of the event loop asks of the catalog costs no more where there are more rows', () => {
  const dearer = Object.entries(ASKED).flatMap(([name, body]) => {
    const [less, more] = [costOf(few, body), costOf(many, body)]
    return more > TIMES * Math.max(less, NOISE_MS)
      ? [`${name}: ${less.toFixed(2)} ms, and ${more.toFixed(2)} ms with ${MANY / FEW} times as much`]
      : []
  })
  expect(dearer).toEqual([])
})
