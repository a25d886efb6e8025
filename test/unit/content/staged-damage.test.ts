import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { isPlainFile } from '../../../src/base/plain-file.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'

const MiB = 1024 * 1024
const BYTES = Array.from({ length: 2000 }, (_, at) => `line ${at}\n`).join('')

let rig: Rig

afterEach(() => rig.stop())

const stagingFile = (): string => {
  const directory = join(rig.stateDir, 'staging')
  return join(directory, readdirSync(directory)[0] ?? 'none')
}

/** A file that is staged and has its checksums, behind a store that is away. */
async function staged(bytes = BYTES): Promise<Client> {
  rig = await Rig.start({ mode: 'drain', powerCuts: true })
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  const client = new Client(rig)
  const node = await client.create('f', bytes)
  await rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false))
  await clock.until(rig.context.writer.seal(node))
  return client
}

/** A file that the store has, which is away from then on. */
async function stored(bytes: string): Promise<Client> {
  rig = await Rig.start({ mode: 'drain', powerCuts: true })
  const client = new Client(rig)
  await client.create('f', bytes)
  await rig.settle()
  rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
  return client
}

const damages: Record<string, (path: string) => void> = {
  'is missing': (path) => rmSync(path),
  'is short': (path) => truncateSync(path, 100),
  'is empty': (path) => truncateSync(path, 0),
  'is a directory': (path) => {
    rmSync(path)
    mkdirSync(path)
    writeFileSync(join(path, 'in it'), 'somebody has put this here')
  },
  'is a symlink to a copy of it': (path) => {
    copyFileSync(path, join(rig.root, 'copy'))
    rmSync(path)
    symlinkSync(join(rig.root, 'copy'), path)
  },
  'is a fifo': (path) => {
    rmSync(path)
    execFileSync('mkfifo', [path])
  },
  'has a flipped bit': (path) => {
    const bytes = readFileSync(path)
    bytes[5000] = (bytes[5000] ?? 0) ^ 4
    writeFileSync(path, bytes)
  },
}

describe.each(Object.entries(damages))('P1 P2: a staging file that %s', (_, damage) => {
  test('is an error, a failure and a difference, never other bytes', async () => {
    const client = await staged()
    rig.die()
    damage(stagingFile())
    await rig.restart('mount')
    await expect(client.readPath('f')).rejects.toMatchObject({ code: 'EIO' })
    expect(rig.catalog.lists.failures(undefined, 10)).toMatchObject([
      { reason: expect.stringMatching(/staged|staging/) },
    ])
    expect((await rig.verify()).differences).toMatchObject([{ path: 'f', kind: 'unreadable' }])
  })

  test('is not uploaded, and is not blessed by a change or a sync', async () => {
    const client = await staged()
    rig.die()
    damage(stagingFile())
    await rig.restart('mount')
    rig.world.heal()
    const node = await client.node('f')
    await expect(client.write(node, 10, 'x')).rejects.toMatchObject({ code: 'EIO' })
    await expect(
      rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false)),
    ).rejects.toMatchObject({ code: 'EIO' })
    clock.advance(60_000)
    await expect(client.readPath('f')).rejects.toMatchObject({ code: 'EIO' })
    expect(rig.world.requests.filter((request) => request.startsWith('put files'))).toEqual([])
  })

  test('is a file again once it is replaced', async () => {
    const client = await staged()
    rig.die()
    damage(stagingFile())
    await rig.restart('mount')
    rig.world.heal()
    const node = await client.node('f')
    await client.truncate(node, 0)
    await client.write(node, 0, 'new')
    expect(await client.readPath('f')).toBe('new')
    await rig.settle()
    expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
    expect((await rig.verify()).differences).toEqual([])
    await clock.untilTrue(() => !isPlainFile(stagingFile()))
  })
})

// A bit that flips before there are checksums is not to be told from a write.
const losses = Object.entries(damages).filter(([name]) => name !== 'has a flipped bit')

describe.each(losses)('P2: a staging file that %s', (_, damage) => {
  test.each([64, MiB])(
    'is taken from the store, which has the same (inline up to %i)',
    async (inlineLimit) => {
      rig = await Rig.start({ mode: 'drain', inlineLimit })
      const client = new Client(rig)
      rig.dieAt('content.upload.object-stored')
      // With blocks of zeros, which the object leaves out.
      const content = `${BYTES}${'\0'.repeat(9000)}${BYTES}`
      const node = await client.create('f', content)
      await rig.untilDead()
      damage(stagingFile())
      // What a crash cut short is listed as garbage: it is not to go before it is asked for.
      rig.world.inject({ fault: 'unavailable', on: ['put', 'delete'] })
      await rig.restart('mount')
      expect(await client.readPath('f')).toBe(content)
      rig.world.heal()
      await rig.settle()
      expect(rig.catalog.get(node)).toMatchObject({ dirty: 0, failure: undefined })
      expect((await rig.verify()).differences).toEqual([])
      expect(await client.readPath('f')).toBe(content)
    },
  )
})

describe('P2: after a power loss', () => {
  test('what was appended and not synced is gone, what was synced is there', async () => {
    const client = await staged()
    const node = await client.node('f')
    await client.write(node, BYTES.length, 'and not synced')
    await rig.catalog.flush()
    await rig.powerCut('lost')
    expect(await client.readPath('f')).toBe(BYTES)
    expect((await client.lookup('f'))?.attributes.size).toBe(BYTES.length)
  })

  test('a hole that a truncation made is zeros, and is no damage', async () => {
    const client = await staged()
    const node = await client.node('f')
    await client.truncate(node, BYTES.length + 100)
    await rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false))
    await rig.powerCut('lost')
    expect(await client.readPath('f')).toBe(BYTES + '\0'.repeat(100))
    expect((await rig.verify()).differences).toEqual([])
  })

  test('a file that nobody had synced is an error, not zeros', async () => {
    const client = await staged()
    await client.create('g', 'g'.repeat(3000))
    await rig.catalog.flush()
    await rig.powerCut('lost')
    await expect(client.readPath('g')).rejects.toMatchObject({ code: 'EIO' })
    expect(await client.readPath('f')).toBe(BYTES)
  })

  test('P1: what was appended to a stored file and not synced is gone: no zeros are behind what the store has', async () => {
    const client = await stored(BYTES)
    const node = await client.node('f')
    await client.write(node, BYTES.length, 'and not synced')
    await rig.catalog.flush()
    await rig.powerCut('lost')
    expect(await client.readPath('f')).toBe(BYTES)
    rig.world.heal()
    await rig.settle()
    expect(await client.readPath('f')).toBe(BYTES)
    expect((await rig.verify()).differences).toEqual([])
  })

  test('P2: what was appended to a synced change of a stored file is gone, and the rest of it can be read', async () => {
    const client = await stored(BYTES)
    const node = await client.node('f')
    await client.write(node, 10, 'X')
    await rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false))
    await client.write(node, BYTES.length, 'and not synced')
    await rig.catalog.flush()
    await rig.powerCut('lost')
    expect(await client.readPath('f')).toBe(`${BYTES.slice(0, 10)}X${BYTES.slice(11)}`)
    expect((await client.lookup('f'))?.attributes.size).toBe(BYTES.length)
  })

  test('P1: the same where whole chunks of it are gone, and one before them was synced', async () => {
    const bytes = 'b'.repeat(2 * MiB + 100)
    const client = await stored(bytes)
    const node = await client.node('f')
    await client.write(node, 10, 'X')
    await rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false))
    for (let at = bytes.length; at < 5 * MiB; at += MiB / 2) await client.write(node, at, 'c'.repeat(MiB / 2))
    await rig.catalog.flush()
    await rig.powerCut('lost')
    expect(await client.readPath('f')).toBe(`${bytes.slice(0, 10)}X${bytes.slice(11)}`)
  })

  test('P2: zeros that a truncation added and a sync vouched for stay, also where a write behind it is lost', async () => {
    const client = await stored(BYTES)
    const node = await client.node('f')
    await client.truncate(node, BYTES.length + 100)
    await rig.perform((overlay, request) => overlay.fsync(request, node, 0n, false))
    await client.write(node, 5, 'X')
    await client.write(node, BYTES.length + 100, 'and not synced')
    await rig.catalog.flush()
    await rig.powerCut('lost')
    expect(await client.readPath('f')).toBe(BYTES + '\0'.repeat(100))
  })

  test('P2: a file that is written all the time is on the disk after a while, though nobody syncs it', async () => {
    const client = await staged()
    const node = await client.create('log', 'line\n')
    for (let second = 1; second < 40; second += 1) {
      await clock.until(new Promise((resolve) => setTimeout(resolve, 1000)))
      await client.write(node, second * 5, 'line\n')
    }
    await rig.catalog.flush()
    await rig.powerCut('lost')
    expect((await client.readPath('log')).length).toBeGreaterThan(25 * 5)
  })

  test('a synced byte that was changed since is what the disk got of it', async () => {
    const client = await staged()
    const node = await client.node('f')
    await client.write(node, 20, 'X')
    await rig.powerCut('kept')
    expect(await client.readPath('f')).toBe(`${BYTES.slice(0, 20)}X${BYTES.slice(21)}`)
  })
})

test('P1: checksums are given up before a sealed chunk is changed, and a crash in between is no damage', async () => {
  const client = await staged('a'.repeat(2 * MiB))
  const node = await client.node('f')
  await rig
    .cutShort('content.write.staged', (overlay, request) =>
      overlay.write(request, node, 0n, 100, Buffer.from('torn'), { killSuidGid: false, flags: 0 }),
    )
    .catch(() => undefined)
  await rig.restart('mount')
  expect((await client.readPath('f')).length).toBe(2 * MiB)
})

test('P2: a file whose bytes are lost does not keep others from being synced', async () => {
  const client = await staged()
  rig.die()
  rmSync(stagingFile())
  await rig.restart('mount')
  const node = await client.create('whole', BYTES)
  await expect(rig.perform((overlay) => overlay.syncfs())).rejects.toMatchObject({ code: 'EIO' })
  expect([...rig.catalog.staged.rows(node)]).toMatchObject([{ index: 0, synced: BYTES.length }])
})
