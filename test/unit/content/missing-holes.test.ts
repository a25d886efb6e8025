import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, SEEK_DATA, SEEK_HOLE } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'

/**
 * What says where a file has holes has to look whether the file is still what it was, as what reads does: a hole is a promise of
 * zeros, and whoever copies by SEEK_DATA, an upload, restore, cp, makes zeros of what is missing. So is a file without blocks, and
 * an error: GNU tar then looks for zeros by reading, and takes what cannot be read for the end of all data.
 */

const MIB = 1024 * 1024
const SIZE = 8 * MIB
const DATA_AT = 5 * MIB

let rig: Rig
let client: Client

afterEach(() => rig.stop())

const seek = (node: bigint, offset: number, whence: number): Promise<number> =>
  rig.perform((overlay, request) => overlay.lseek(request, node, 0n, offset, whence))

const blocks = async (path: string): Promise<number> => (await client.lookup(path))?.attributes.blocks ?? -1

const putOfFiles = (): string[] => rig.world.requests.filter((request) => request.startsWith('put files'))

describe.each<[string, (path: string) => void]>([
  ['is empty', (path) => truncateSync(path, 0)],
  ['ends before the data', (path) => truncateSync(path, DATA_AT)],
  [
    'has a hole in the place of the data',
    (path) => {
      truncateSync(path, DATA_AT)
      truncateSync(path, DATA_AT + MIB)
    },
  ],
])('P1 P2: a staging file of a sparse file that %s', (_, damage) => {
  test('has no hole where its data was, and blocks: whoever reads it gets EIO', async () => {
    rig = await Rig.start({ mode: 'drain', powerCuts: true })
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    client = new Client(rig)
    const created = await client.create('f', '')
    await client.truncate(created, SIZE)
    await client.write(created, DATA_AT, Buffer.alloc(8192, 'Q'))
    await rig.perform((overlay, request) => overlay.fsync(request, created, 0n, false))
    await clock.until(rig.context.writer.seal(created))
    rig.die()
    const directory = join(rig.stateDir, 'staging')
    damage(join(directory, readdirSync(directory)[0] ?? 'none'))
    await rig.restart('mount')
    const node = await client.node('f')
    expect(await seek(node, 0, SEEK_DATA)).toBe(DATA_AT)
    expect(await seek(node, DATA_AT, SEEK_HOLE)).toBeGreaterThan(DATA_AT)
    await expect(client.read(node, DATA_AT, 8192)).rejects.toMatchObject({ code: 'EIO' })
    expect(await blocks('f')).toBeGreaterThanOrEqual(16)
    expect((await rig.verify()).differences).toMatchObject([{ path: 'f', kind: 'unreadable' }])
    rig.world.heal()
    clock.advance(60_000)
    expect(putOfFiles()).toEqual([])
  })
})

test('P1: a staging file that is cut while it is in use leaves the file blocks', async () => {
  rig = await Rig.start({ mode: 'drain' })
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  client = new Client(rig)
  const node = await client.create('f', '')
  await client.truncate(node, SIZE)
  await client.write(node, DATA_AT, Buffer.alloc(8192, 'Q'))
  const directory = join(rig.stateDir, 'staging')
  truncateSync(join(directory, readdirSync(directory)[0] ?? 'none'), 0)
  await client.truncate(node, SIZE - 1)
  expect(await blocks('f')).toBeGreaterThan(0)
})

test('P1: a file that lost one of two pieces to a hole has blocks for the other', async () => {
  const piece = Buffer.alloc(8192, 'L')
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      const file = openSync(join(source, 'f'), 'w')
      ftruncateSync(file, SIZE)
      writeSync(file, piece, 0, piece.length, MIB)
      writeSync(file, piece, 0, piece.length, DATA_AT)
      closeSync(file)
    },
  })
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  client = new Client(rig)
  const node = await client.node('f')
  const punched = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
  await rig.perform((overlay, request) => overlay.fallocate(request, node, 0n, punched, MIB, MIB))
  expect(await blocks('f')).toBe(16)
  await client.write(node, 7 * MIB, piece)
  expect(await blocks('f')).toBe(32)
})

test('P1: the holes of a staged file are where they were, after a crash as well', async () => {
  rig = await Rig.start({ mode: 'drain', powerCuts: true })
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  client = new Client(rig)
  const created = await client.create('f', '')
  await client.truncate(created, SIZE)
  await client.write(created, DATA_AT + 8192, Buffer.alloc(8192, 'Q'))
  rig.die()
  await rig.restart('mount')
  const node = await client.node('f')
  expect(await seek(node, 0, SEEK_DATA)).toBe(DATA_AT + 8192)
  expect(await seek(node, DATA_AT + 8192, SEEK_HOLE)).toBe(DATA_AT + 16_384)
  await expect(seek(node, DATA_AT + 16_384, SEEK_DATA)).rejects.toMatchObject({ code: 'ENXIO' })
})

describe.each<[string, (path: string) => void]>([
  ['is empty', (path) => truncateSync(path, 0)],
  [
    'has a hole in the place of the data',
    (path) => {
      truncateSync(path, DATA_AT)
      truncateSync(path, SIZE)
    },
  ],
  ['is gone', (path) => rmSync(path)],
  [
    'is another file',
    (path) => {
      writeFileSync(`${path}-other`, '')
      rmSync(path)
      truncateSync(`${path}-other`, SIZE)
      writeFileSync(path, '')
    },
  ],
])('P1 P2: the legacy file that a changed file still needs %s', (_, damage) => {
  test('what it had is EIO and a difference, and is neither a hole nor uploaded as one', async () => {
    rig = await Rig.start({
      mode: 'drain',
      sourceReadonly: true,
      powerCuts: true,
      fill: (source) => {
        const file = openSync(join(source, 'f'), 'w')
        ftruncateSync(file, SIZE)
        writeSync(file, Buffer.alloc(8192, 'L'), 0, 8192, DATA_AT)
        closeSync(file)
      },
    })
    rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
    client = new Client(rig)
    const before = await client.node('f')
    await client.write(before, 7 * MIB, Buffer.alloc(8192, 'Q'))
    await rig.perform((overlay, request) => overlay.fsync(request, before, 0n, false))
    await clock.until(rig.context.writer.seal(before))
    rig.die()
    damage(join(rig.source, 'f'))
    await rig.restart('mount')
    const node = await client.node('f')
    expect(await seek(node, 0, SEEK_DATA)).toBeLessThanOrEqual(DATA_AT)
    await expect(client.read(node, DATA_AT, 8192)).rejects.toMatchObject({ code: 'EIO' })
    rig.world.heal()
    await clock.untilTrue(() => rig.catalog.lists.failures(undefined, 10).length > 0)
    expect(putOfFiles()).toEqual([])
    expect((await rig.verify()).differences).toMatchObject([{ path: 'f', kind: 'unreadable' }])
  })
})
