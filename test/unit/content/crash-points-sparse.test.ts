import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'
import { type Piece, writeSparse } from '../../support/sparse.ts'

const MIB = 1024 * 1024
const CHUNKS = 300
let rig: Rig

afterEach(() => rig.stop())

const pieces = (text: string): Piece[] =>
  Array.from({ length: CHUNKS }, (_, chunk) => ({ at: chunk * 2 * MIB + 9, bytes: Buffer.from(text) }))

async function expectBytes(client: Client, text: string): Promise<void> {
  const node = await client.node('f')
  for (const { at } of pieces(text))
    expect((await client.read(node, at - 1, 5)).toString()).toBe(`\0${text}\0`)
}

// More chunks than one transaction moves over: the catalog lists chunks of either version at that moment.
describe.each(['mirror', 'prefer-store', 'drain'] as const)('content.upload.moving in %s', (mode) => {
  test.each(gateShare(['worker', 'mount'] as const, 2, mode === 'drain' ? 1 : 0))(
    'P1: a crash (new %s) leaves nothing of the old version to be read',
    async (next) => {
      rig = await Rig.start({
        mode,
        fill: (source) => writeSparse(join(source, 'f'), 2 * CHUNKS * MIB, pieces('one')),
      })
      const client = new Client(rig)
      rig.dieAt('content.upload.moving')
      void rig.migrate().catch(() => undefined)
      await rig.untilDead()
      await rig.restart(next)
      await expectBytes(client, 'one')
      await rig.migrate()
      await rig.settle()
      await expectBytes(client, 'one')
      rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
      const node = await client.node('f')
      for (const { at } of pieces('two')) await client.write(node, at, 'two')
      rig.dieAt('content.upload.moving')
      rig.world.heal()
      await clock.until(rig.untilDead())
      await rig.restart(next)
      await expectBytes(client, 'two')
      await rig.settle()
      await expectBytes(client, 'two')
      expect((await rig.verify()).differences).toEqual([])
      await rig.settle()
      expect(await accountFor(rig.catalog, rig.world.memory)).toEqual({ missing: [], unowned: [] })
    },
  )
})
