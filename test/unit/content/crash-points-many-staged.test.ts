import { afterEach, describe, expect, test } from 'vitest'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'

const MIB = 1024 * 1024
// More rows than one transaction drops.
const CHUNKS = 600
const LEFT = 7
let rig: Rig

afterEach(() => rig.stop())

/** A file with one byte staged in each of its chunks, which the store does not have. */
async function startStaged(options: RigOptions = {}): Promise<{ client: Client; node: bigint }> {
  rig = await Rig.start({ mode: 'store-only', ...options })
  const client = new Client(rig)
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  await client.write(await client.create('f'), 0, 'x')
  const node = await client.node('f')
  for (let chunk = 1; chunk < CHUNKS; chunk += 1) await client.write(node, chunk * MIB + 9, 'x')
  await client.truncate(node, CHUNKS * MIB)
  return { client, node }
}

async function expectBytes(client: Client, chunks: number): Promise<void> {
  const node = await client.node('f')
  for (let chunk = 1; chunk < CHUNKS; chunk += 1) {
    const wanted = chunk < chunks ? '\0x\0' : '\0\0\0'
    expect((await client.read(node, chunk * MIB + 8, 3)).toString(), `chunk ${chunk}`).toBe(wanted)
  }
}

async function expectAccounts(): Promise<void> {
  await rig.settle()
  expect((await rig.verify()).differences).toEqual([])
  await rig.settle()
  expect(await accountFor(rig.catalog, rig.world.memory)).toEqual({ missing: [], unowned: [] })
}

const rows = (node: bigint): boolean => rig.catalog.staged.hasRows(node)

describe('content.truncate.dropping', () => {
  test.each(['worker', 'mount'] as const)(
    'P1: a truncation of many staged chunks is whole after a crash (new %s)',
    async (next) => {
      const { client, node } = await startStaged()
      rig.dieAt('content.truncate.dropping')
      void client.truncate(node, LEFT * MIB).catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      const again = await client.node('f')
      expect((await client.lookup('f'))?.attributes.size).toBe(LEFT * MIB)
      expect([...rig.catalog.staged.rows(again)].length).toBe(LEFT)
      await client.truncate(again, CHUNKS * MIB)
      await client.write(again, (CHUNKS - 1) * MIB + 4096, 'y')
      await expectBytes(client, LEFT)
      rig.world.heal()
      await expectAccounts()
      await expectBytes(client, LEFT)
    },
  )

  test.each(['worker', 'mount'] as const)(
    'P2: an upload of many staged chunks leaves the stored ones in force after a crash (new %s)',
    async (next) => {
      const { client } = await startStaged()
      rig.dieAt('content.truncate.dropping')
      rig.world.heal()
      await clock.until(rig.untilDead())
      await rig.restart(next)
      const node = await client.node('f')
      expect(rig.catalog.get(node)?.dirty).toBe(0)
      await expectBytes(client, CHUNKS)
      await client.write(node, 3 * MIB + 4096, 'y')
      expect([...rig.catalog.staged.rows(node)].map(({ index }) => index)).toEqual([3])
      await expectBytes(client, CHUNKS)
      await expectAccounts()
      await expectBytes(client, CHUNKS)
    },
  )

  test.each(['kept', 'lost'] as const)(
    'P2: a power cut in the middle brings nothing back (unsynced bytes %s)',
    async (unsynced) => {
      const { client, node } = await startStaged({ powerCuts: true })
      await rig.perform((overlay) => overlay.syncfs())
      rig.dieAt('content.truncate.dropping')
      void client.truncate(node, LEFT * MIB).catch(() => undefined)
      await rig.untilDead()
      await rig.powerCut(unsynced)
      const after = new Client(rig)
      const again = await after.node('f')
      expect((await after.lookup('f'))?.attributes.size).toBe(LEFT * MIB)
      await after.truncate(again, CHUNKS * MIB)
      await expectBytes(after, LEFT)
      rig.dieAt('content.truncate.dropping')
      for (let chunk = 1; chunk < CHUNKS; chunk += 1) await after.write(again, chunk * MIB + 9, 'x')
      rig.world.heal()
      await clock.until(rig.untilDead())
      await rig.powerCut(unsynced)
      await expectBytes(new Client(rig), CHUNKS)
    },
  )
})

test('P6: what is staged of a file with very many chunks goes without being waited for in one turn', async () => {
  const { client, node } = await startStaged()
  await client.truncate(node, LEFT * MIB)
  expect([...rig.catalog.staged.rows(node)].length).toBe(LEFT)
  await client.truncate(node, CHUNKS * MIB)
  await expectBytes(client, LEFT)
  for (let chunk = 1; chunk < CHUNKS; chunk += 1) await client.write(node, chunk * MIB + 9, 'x')
  rig.world.heal()
  await rig.settle()
  expect(rows(node)).toBe(false)
  expect(rig.catalog.get(node)).toMatchObject({ staged: 0, truncating: undefined, dirty: 0 })
  await expectBytes(client, CHUNKS)
  // Cut to nothing while more rows are there than one turn drops.
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  for (let chunk = 1; chunk < CHUNKS; chunk += 1) await client.write(node, chunk * MIB + 9, 'z')
  await client.truncate(node, 0)
  expect(rows(node)).toBe(false)
  await client.truncate(node, CHUNKS * MIB)
  await expectBytes(client, 0)
  rig.world.heal()
  await expectAccounts()
})
