import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database } from '../../../src/base/database.ts'
import { FileIds } from '../../../src/store/embedded/file-ids.ts'
import { GroupCommit } from '../../../src/store/embedded/group-commit.ts'
import { APPLICATION_ID, FORMAT, SCHEMA } from '../../../src/store/embedded/schema.ts'

let directory: string
let database: Database

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ferryfs-ids-'))
  database = Database.open(join(directory, 'index.sqlite'), {
    applicationId: APPLICATION_ID,
    format: FORMAT,
    schema: SCHEMA,
  })
})

afterEach(async () => {
  await database.close()
  await rm(directory, { recursive: true })
})

describe('ids of value files', () => {
  test('P1: are used once, and only inside the range that is reserved in the index', async () => {
    const ids = new FileIds(database, new GroupCommit(database))
    const saved = database.prepare('SELECT reserved, settled FROM file_ids')
    const seen = new Set<number>()
    const inUse = new Set<number>()
    await Promise.all(
      Array.from({ length: 8 }, async (_, worker) => {
        for (let round = 0; round < 1600; round += 1) {
          const id = await ids.take()
          expect(seen.has(id)).toBe(false)
          seen.add(id)
          inUse.add(id)
          const { reserved, settled } = saved.get() ?? {}
          expect(Number(reserved)).toBeGreaterThan(id)
          expect(Number(settled)).toBeLessThanOrEqual(Math.min(...inUse))
          // Some are held for long, and all are given back in another order.
          if (round % (worker + 2) === 0) await new Promise((resolve) => setImmediate(resolve))
          ids.settle(id)
          inUse.delete(id)
        }
      }),
    )
    // As after a kill: what is saved is all that is known.
    const next = new FileIds(database, new GroupCommit(database))
    expect(await next.take()).toBeGreaterThan(Math.max(...seen))
    expect(next.unsettled.to - next.unsettled.from).toBeLessThan(4 * 4096)
  })

  test('P1: saving what is settled does not take back a reservation that waits for its sync', async () => {
    const ids = new FileIds(database, new GroupCommit(database))
    const taken: number[] = []
    for (let count = 0; count < 4096; count += 1) taken.push(await ids.take())
    const next = ids.take()
    // The reservation is committed in a microtask and then waits.
    await Promise.resolve()
    for (const id of taken) ids.settle(id)
    const id = await next
    const { reserved, settled } = database.prepare('SELECT reserved, settled FROM file_ids').get() ?? {}
    expect(Number(reserved)).toBeGreaterThan(id)
    expect(Number(settled)).toBeGreaterThan(0)
  })

  test('after an orderly end there is nothing to look for', async () => {
    const ids = new FileIds(database, new GroupCommit(database))
    const taken = [await ids.take(), await ids.take(), await ids.take()]
    for (const id of taken) ids.settle(id)
    ids.saveClosed()
    const next = new FileIds(database, new GroupCommit(database))
    expect(next.unsettled).toEqual({ from: 3, to: 3 })
    expect(await next.take()).toBe(3)
  })

  test('an id that is still in use keeps the range open', async () => {
    const ids = new FileIds(database, new GroupCommit(database))
    await ids.take()
    ids.settle(await ids.take())
    ids.saveClosed()
    expect(new FileIds(database, new GroupCommit(database)).unsettled).toEqual({ from: 0, to: 4096 })
  })
})
