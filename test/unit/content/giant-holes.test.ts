import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { writeSparse } from '../../support/sparse.ts'

const TIB = 2 ** 40
const SIZE = 8 * TIB
let rig: Rig

afterEach(() => rig.stop())

const PIECES = [9, TIB, 5 * TIB + 4096, SIZE - 3].map((at) => ({ at, bytes: Buffer.from('abc') }))

async function start(mode: 'mirror' | 'drain' | 'store-only'): Promise<{ client: Client; node: bigint }> {
  rig = await Rig.start({ mode, fill: (source) => writeSparse(join(source, 'f'), SIZE, PIECES) })
  const client = new Client(rig)
  return { client, node: await client.node('f') }
}

const staged = (node: bigint): number => [...rig.catalog.staged.rows(node)].length

test.each(['drain', 'store-only'] as const)(
  'P6: in %s a hole of 8 TiB costs what was in it',
  async (mode) => {
    const { client, node } = await start(mode)
    const punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    await rig.perform((overlay, request) => overlay.fallocate(request, node, 0n, punch, 10, SIZE - 11))
    expect(staged(node)).toBe(PIECES.length)
    expect((await client.read(node, 9, 5)).toString()).toBe('a\0\0\0\0')
    expect((await client.read(node, TIB, 3)).equals(Buffer.alloc(3))).toBe(true)
    expect((await client.read(node, SIZE - 3, 9)).toString()).toBe('\0\0c')
    await rig.settle()
    expect((await client.read(node, 9, 5)).toString()).toBe('a\0\0\0\0')
    expect((await rig.verify()).differences).toEqual([])
  },
)

test('P6: zeros beyond the end make a file longer and stage nothing', async () => {
  const { client, node } = await start('drain')
  await rig.perform((overlay, request) =>
    overlay.fallocate(request, node, 0n, FALLOC_FL_ZERO_RANGE, SIZE + 5, TIB),
  )
  expect(staged(node)).toBe(0)
  expect(rig.catalog.get(node)?.size).toBe(SIZE + 5 + TIB)
  expect((await client.read(node, SIZE - 3, 9)).toString()).toBe('abc\0\0\0\0\0\0')
})

test('P6: more chunks than one step takes are zeros in the end', async () => {
  const pieces = Array.from({ length: 200 }, (_, nth) => ({ at: nth * 2 ** 21 + 7, bytes: Buffer.from('x') }))
  rig = await Rig.start({ mode: 'drain', fill: (source) => writeSparse(join(source, 'f'), 2 ** 30, pieces) })
  const client = new Client(rig)
  const node = await client.node('f')
  await rig.perform((overlay, request) =>
    overlay.fallocate(request, node, 0n, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 2 ** 30),
  )
  for (const { at } of pieces) expect((await client.read(node, at, 1))[0]).toBe(0)
  await rig.settle()
  for (const { at } of pieces) expect((await client.read(node, at, 1))[0]).toBe(0)
})
