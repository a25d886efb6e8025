import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { DataRun } from '../../../src/content/seek.ts'
import { SEEK_DATA, SEEK_HOLE } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { type Piece, writeSparse } from '../../support/sparse.ts'

const MIB = 1024 * 1024
const TIB = MIB * MIB
const SIZE = 8 * TIB + 5
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

/** Every piece lies in a run, every run has a piece in it, and none is much longer than what is in it. */
function expectRunsOf(found: readonly DataRun[], pieces: readonly Piece[]): void {
  expect(found).toHaveLength(pieces.length)
  for (const [index, { at, bytes }] of pieces.entries()) {
    const { start, end } = found[index] ?? { start: 0, end: 0 }
    expect(start).toBeLessThanOrEqual(at)
    expect(end).toBeGreaterThanOrEqual(at + bytes.length)
    expect(end - start).toBeLessThanOrEqual(bytes.length + 2 * MIB)
  }
}

// The time that these take follows the eight million chunks of the file if anything looks at its holes.
describe.each(['mirror', 'prefer-store', 'drain'] as const)('%s', (mode) => {
  test('P6: a sparse file is copied, verified, read and searched for its holes at the cost of its data', async () => {
    await start(mode)
    expectRunsOf(await runs(), PIECES)
    await rig.migrate()
    await rig.settle()
    expect(existsSync(join(rig.source, 'f'))).toBe(mode !== 'drain')
    expect((await rig.verify()).differences).toEqual([])
    expectRunsOf(await runs(), PIECES)
    for (const { at, bytes } of PIECES) expect(await client.read(node, at, bytes.length)).toEqual(bytes)
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
  rig.catalog.transaction(() => rig.catalog.dropChunk(node, 3))
  expect((await rig.verify()).differences).toMatchObject([{ path: 'f', kind: 'differs' }])
})
