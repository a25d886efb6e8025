import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { DataRun } from '../../../src/content/seek.ts'
import { SEEK_DATA, SEEK_HOLE } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { type Piece, writeLarge, writeSparse } from '../../support/sparse.ts'

const MIB = 1024 * 1024
const TIB = MIB * MIB
const SIZE = 4096 * TIB + 5
const PIECES: readonly Piece[] = [
  { at: 3 * MIB + 7, bytes: Buffer.from('near the beginning') },
  { at: 4 * TIB - 10, bytes: Buffer.alloc(MIB + 20, 'm') },
  { at: SIZE - 1, bytes: Buffer.from('z') },
]

let rig: Rig
let client: Client
let node: bigint

afterEach(() => rig.stop())

async function start(mode: 'mirror' | 'prefer-store' | 'drain'): Promise<void> {
  rig = await Rig.start({ mode, fill: (source) => writeSparse(join(source, 'f'), SIZE, PIECES) })
  client = new Client(rig)
  node = await client.node('f')
}

async function runs(from = 0): Promise<DataRun[]> {
  const found: DataRun[] = []
  for await (const run of rig.context.reader.dataRuns(node, from)) found.push(run)
  return found
}

const seek = (offset: number, whence: number): Promise<number> =>
  rig.perform((overlay, request) => overlay.lseek(request, node, 0n, offset, whence))

/** Every piece lies in a run, every run has a piece in it, and none is longer than the blocks that it is in. */
function expectRunsOf(found: readonly DataRun[], pieces: readonly Piece[]): void {
  expect(found).toHaveLength(pieces.length)
  for (const [index, { at, bytes }] of pieces.entries()) {
    const { start, end } = found[index] ?? { start: 0, end: 0 }
    expect(start).toBeLessThanOrEqual(at)
    expect(end).toBeGreaterThanOrEqual(at + bytes.length)
    expect(end - start).toBeLessThan(bytes.length + 2 * 4096)
  }
}

// The time that these take follows the four thousand million chunks of the file if anything looks at its holes.
describe.each(['mirror', 'prefer-store', 'drain'] as const)('%s', (mode) => {
  test('P6: a sparse file is copied, verified, read and searched for its holes at the cost of its data', async () => {
    await start(mode)
    expectRunsOf(await runs(), PIECES)
    await rig.migrate()
    await rig.settle()
    expect(existsSync(join(rig.source, 'f'))).toBe(mode !== 'drain')
    expect((await rig.verify()).differences).toEqual([])
    expectRunsOf(await runs(), PIECES)
    for (const { at, bytes } of PIECES)
      expect((await client.read(node, at, bytes.length)).equals(bytes)).toBe(true)
    expect(await client.read(node, 2 * TIB, 4096)).toEqual(Buffer.alloc(4096))
    expect(await seek(2 * TIB, SEEK_HOLE)).toBe(2 * TIB)
    await expect(seek(SIZE, SEEK_DATA)).rejects.toMatchObject({ code: 'ENXIO' })
    await expect(seek(SIZE, SEEK_HOLE)).rejects.toMatchObject({ code: 'ENXIO' })
  })
})

test('P1: data in staging, in the store and on the volume is data; what is truncated or punched is a hole', async () => {
  await start('drain')
  await client.write(node, TIB, 'on the way to the store')
  expectRunsOf(await runs(), [
    ...PIECES.slice(0, 1),
    { at: TIB, bytes: Buffer.from('on the way to the store') },
    ...PIECES.slice(1),
  ])
  await rig.migrate()
  await rig.settle()
  await client.write(node, 2 * TIB + 5 * MIB, 'staged')
  const staged = { at: 2 * TIB + 5 * MIB, bytes: Buffer.from('staged') }
  const stored = { at: TIB, bytes: Buffer.from('on the way to the store') }
  expectRunsOf(await runs(), [...PIECES.slice(0, 1), stored, staged, ...PIECES.slice(1)])
  expectRunsOf(await runs(TIB + 2 * MIB), [staged, ...PIECES.slice(1)])
  await rig.perform((overlay, request) => overlay.setattr(request, node, { size: 3 * TIB }))
  await rig.perform((overlay, request) => overlay.setattr(request, node, { size: SIZE }))
  expectRunsOf(await runs(), [...PIECES.slice(0, 1), stored, staged])
  await rig.settle()
  expectRunsOf(await runs(), [...PIECES.slice(0, 1), stored, staged])
  expect(await seek(3 * TIB, SEEK_HOLE)).toBe(3 * TIB)
  await expect(seek(3 * TIB, SEEK_DATA)).rejects.toMatchObject({ code: 'ENXIO' })
})

test('P3: verify finds data on the volume where the store has a hole', async () => {
  await start('mirror')
  await rig.migrate()
  await rig.settle()
  const file = rig.catalog.get(node)?.generation ?? -1
  const hole = { level: 0, index: 3, hash: undefined, zeros: undefined }
  rig.catalog.transaction(() => rig.catalog.content.list(file, [hole]))
  expect((await rig.verify()).differences).toMatchObject([{ path: 'f', kind: 'differs' }])
})

describe.each(['mirror', 'drain'] as const)('a file in the store (%s)', (mode) => {
  test.each([
    ['one object', 320 * 1024],
    ['chunks', 100 * MIB],
  ])('%s: one byte is one block of data, the rest is holes', async (_, size) => {
    const pieces = [{ at: size / 2 + 1, bytes: Buffer.from('x') }]
    rig = await Rig.start({
      mode,
      inlineLimit: MIB,
      fill: (source) => {
        writeSparse(join(source, 'f'), size, pieces)
        writeSparse(join(source, 'empty'), size, [])
      },
    })
    client = new Client(rig)
    node = await client.node('f')
    await rig.migrate()
    await rig.settle()
    const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
    expect(result.failures).toEqual([])
    const second = new Client(rebuilt)
    const there = await second.node('f')
    for await (const run of rebuilt.context.reader.dataRuns(there)) {
      expect(run).toEqual({ start: size / 2, end: size / 2 + 4096 })
    }
    expect((await second.lookup('f'))?.attributes.blocks).toBe(8)
    expect((await second.lookup('empty'))?.attributes.blocks).toBe(0)
    expect(await second.read(there, size / 2, 3)).toEqual(Buffer.from('\0x\0'))
    const empty = await second.node('empty')
    for await (const run of rebuilt.context.reader.dataRuns(empty)) expect(run).toBeUndefined()
    await rebuilt.stop()
  })

  test('P6: a byte in each of many chunks takes no more room in the store than its blocks', async () => {
    const pieces = Array.from({ length: 50 }, (_, nth) => ({
      at: nth * 3 * MIB + 5,
      bytes: Buffer.from('y'),
    }))
    rig = await Rig.start({ mode, fill: (source) => writeSparse(join(source, 'f'), 200 * MIB, pieces) })
    await rig.migrate()
    await rig.settle()
    let bytes = 0
    for await (const key of rig.world.memory.keys('chunks'))
      bytes += (await rig.world.memory.get('chunks', key))?.value.length ?? 0
    expect(bytes).toBeLessThan(50 * 5000)
  })
})

test('a file that is larger than ferryfs can serve says so, is listed as left over and keeps nobody else', async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      writeLarge(join(source, 'large'))
      writeFileSync(join(source, 'other'), 'other')
    },
  })
  client = new Client(rig)
  await expect(client.lookup('large')).rejects.toMatchObject({ code: 'EOVERFLOW' })
  await rig.migrate()
  await rig.settle()
  expect(existsSync(join(rig.source, 'large'))).toBe(true)
  expect(existsSync(join(rig.source, 'other'))).toBe(false)
  expect(rig.built.mover.unreadable.items.map(({ reason }) => reason).join()).toMatch(/up to 8 PiB/)
  expect(await client.readPath('other')).toBe('other')
})

test('P6: files up to 8 PiB can be made and changed; a larger one is refused', async () => {
  rig = await Rig.start({ mode: 'drain' })
  client = new Client(rig)
  node = await client.create('f', 'begin')
  const largest = 2 ** 53 - 4096
  const resize = (size: number) => rig.perform((overlay, request) => overlay.setattr(request, node, { size }))
  await resize(largest)
  await rig.settle()
  expect((await client.lookup('f'))?.attributes.size).toBe(largest)
  expect(await runs()).toEqual([{ start: 0, end: 4096 }])
  await expect(resize(largest + 1)).rejects.toMatchObject({ code: 'EFBIG' })
  await client.write(node, 9 * MIB, 'middle')
  await rig.settle()
  expect((await client.read(node, 0, 5)).toString()).toBe('begin')
  await resize(10)
  await rig.settle()
  expect((await rig.verify()).differences).toEqual([])
})

test('P2: a file that fallocate made longer is whole after a restart', async () => {
  rig = await Rig.start({ mode: 'drain' })
  client = new Client(rig)
  rig.world.inject({ fault: 'unavailable' })
  node = await client.create('f', 'begin')
  await rig.perform((overlay, request) => overlay.fallocate(request, node, 0n, 0, MIB, 5))
  await rig.restart('worker')
  expect((await client.read(node)).equals(Buffer.concat([Buffer.from('begin')], MIB + 5))).toBe(true)
})
