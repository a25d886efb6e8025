import { afterEach, expect, test, vi } from 'vitest'
import { Database } from '../../../src/base/database.ts'
import { fileId } from '../../../src/catalog/index.ts'
import type { RecordedEntry } from '../../../src/content/index.ts'
import { MadeStore, named } from '../../support/made-store.ts'
import { Rig } from '../../support/rig/rig.ts'

const FILES = 3000
const SHARDS = 16
const ABOVE = 20
const BELOW = 100

// What 256 names take in a catalog, with some to spare.
const MOST_ROWS = 1500

let rig: Rig | undefined

afterEach(async () => {
  vi.restoreAllMocks()
  await rig?.stop()
})

/** Rows that were changed in one transaction, at most: until its end they, or their pages, are in memory. */
function mostRows(): () => number {
  const { transaction } = Database.prototype
  const open = new Set<Database>()
  let most = 0
  vi.spyOn(Database.prototype, 'transaction').mockImplementation(function <T>(
    this: Database,
    body: () => T,
  ): T {
    if (open.has(this)) return body()
    open.add(this)
    const changes = this.prepare('SELECT total_changes() AS n')
    const before = Number(changes.get()?.n)
    try {
      return transaction.call(this, body) as T
    } finally {
      open.delete(this)
      most = Math.max(most, Number(changes.get()?.n) - before)
    }
  })
  return () => most
}

test('P6: no transaction of a rebuild grows with the tree, whatever the records say of it', async () => {
  const store = new MadeStore()
  const old = fileId({ ino: 2n, generation: 2 })
  const left: RecordedEntry[] = []
  const came: RecordedEntry[] = []
  for (let nth = 0; nth < FILES; nth += 1) {
    const ino = BigInt(nth + 100_000)
    const name = `file ${nth}`
    await store.file({ ino }, `o${ino}`, 'text')
    left.push(named(name, ino, `o${ino}`))
    came.push(named(name, ino, `o${ino}`, { from: [{ directory: old, name: Buffer.from(name) }] }))
  }
  await store.directory({ ino: 2n }, left, { shards: SHARDS })
  await store.directory({ ino: 3n }, came, { shards: SHARDS })
  const above = Array.from({ length: ABOVE }, (_, nth) => BigInt(nth + 10))
  for (const ino of above) {
    const below = Array.from({ length: BELOW }, (_, nth) => ino * 1000n + BigInt(nth))
    for (const each of below) await store.directory({ ino: each }, [], { shards: 2 })
    await store.directory(
      { ino },
      below.map((each) => named(`d${each}`, each)),
    )
  }
  await store.root([named('old', 2n), named('new', 3n), ...above.map((ino) => named(`d${ino}`, ino))])

  const most = mostRows()
  const { rig: made, result } = await Rig.rebuilt(store.memory, true)
  rig = made
  expect(most()).toBeLessThan(MOST_ROWS)
  expect(result).toMatchObject({ files: FILES, directories: ABOVE * (BELOW + 1) + 3, failureCount: FILES })
  expect(made.catalog.outbox.length).toBeGreaterThanOrEqual(ABOVE * BELOW)
})
