import { linkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { fingerprintOf, legacyStat } from '../../../src/content/index.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

/** The store has `new bytes`; the volume's disk had the file's size and times before the power went, and not its bytes. */
async function cut(mode: 'mirror' | 'prefer-store', proven: boolean): Promise<Client> {
  rig = await Rig.start({
    mode,
    powerCuts: true,
    fill: (source) => writeFileSync(join(source, 'f'), 'new bytes'),
  })
  await rig.migrate()
  await rig.settle()
  if (proven) await clock.until(rig.context.proof.sync())
  writeFileSync(join(rig.source, 'f'), 'old bytes')
  const { catalog } = rig
  const node = await new Client(rig).node('f')
  const inode = catalog.get(node)
  if (!inode) throw new Error('f is not in the catalog')
  catalog.transaction(() => {
    inode.fingerprint = fingerprintOf(legacyStat(rig.context, inode))
    catalog.save(inode)
  })
  await catalog.flush()
  await rig.powerCut('kept')
  return new Client(rig)
}

test.each(['mirror', 'prefer-store'] as const)(
  'P1 P5: in %s a power loss takes a copy’s proof with it, and the volume wins',
  async (mode) => {
    const client = await cut(mode, false)
    expect(await client.readPath('f')).toBe('old bytes')
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
    expect(await client.readPath('f')).toBe('old bytes')
  },
)

test('P6: a copy from before the volume was synced last is not made again', async () => {
  await cut('mirror', true)
  expect(rig.catalog.unproven.upTo(1000n)).toEqual([])
  expect(rig.catalog.lists.totals().dirty).toBe(0)
})

test('P1: a file is reached by a name that the volume has, where a power loss took another', async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      writeFileSync(join(source, 'b'), 'bytes')
      linkSync(join(source, 'b'), join(source, 'a'))
    },
  })
  const client = new Client(rig)
  await client.node('a')
  const node = await client.node('b')
  unlinkSync(join(rig.source, 'a'))
  await rig.perform((overlay, request) =>
    overlay.setxattr(request, node, Buffer.from('user.x'), Buffer.from('1'), 0),
  )
  expect((await rig.perform((overlay, request) => overlay.listxattr(request, node))).map(String)).toEqual([
    'user.x',
  ])
  expect((await client.read(node)).toString()).toBe('bytes')
})
