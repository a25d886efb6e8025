import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { isStored } from '../../../src/catalog/index.ts'
import { listAsFormat1 } from '../../support/format-1.ts'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { writeSparse } from '../../support/sparse.ts'

const MIB = 1024 * 1024
const chunk = (byte: number): Buffer => Buffer.alloc(MIB, byte)
let rig: Rig

afterEach(() => rig.stop())

test.each([
  ['a manifest', 7 * MIB + 3],
  ['pages', 9000 * MIB],
])(
  'P1: a file whose chunks format 1 listed in %s is read, and listed anew when it changes',
  async (_, size) => {
    const pieces = [
      { at: MIB, bytes: chunk(1) },
      { at: Math.floor(size / MIB / 2) * MIB, bytes: chunk(2) },
    ]
    const last = pieces[1]?.at ?? 0
    const old = await Rig.start({
      mode: 'drain',
      fill: (source) => writeSparse(join(source, 'f'), size, pieces),
    })
    await old.migrate()
    await old.settle()
    const { memory } = old.world
    await listAsFormat1(memory)
    await old.stop()
    rig = (await Rig.rebuilt(memory)).rig
    const client = new Client(rig)
    const node = await client.node('f')
    const expectBytes = async (at: number, byte: number): Promise<void> =>
      expect((await client.read(node, at, MIB)).equals(chunk(byte))).toBe(true)
    await expectBytes(MIB, 1)
    await expectBytes(last, 2)
    await expectBytes(2 * MIB, last === 2 * MIB ? 2 : 0)
    expect((await rig.verify()).differences).toEqual([])
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    await rig.settle()
    await client.write(node, 5 * MIB, chunk(5))
    await rig.settle()
    const inode = rig.catalog.get(node)
    expect(inode && isStored(inode)).toBe(true)
    expect((await rig.verify()).differences).toEqual([])
    expect(await accountFor(rig.catalog, rig.world.memory)).toEqual({ missing: [], unowned: [] })
    for (const [at, byte] of [
      [MIB, 1],
      [last, 2],
      [5 * MIB, 5],
    ] as const)
      await expectBytes(at, byte)
    const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
    expect(result.failures).toEqual([])
    const second = new Client(rebuilt)
    expect((await second.read(await second.node('f'), last, MIB)).equals(chunk(2))).toBe(true)
    await rebuilt.stop()
  },
)
