import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { isStored } from '../../../src/catalog/totals.ts'
import { StoreSuperseded } from '../../../src/store/errors.ts'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const LONG = 'l'.repeat(500)
const MiB = 1024 * 1024
let rig: Rig

afterEach(() => rig.stop())

const chunksOf = (node: bigint) =>
  rig.catalog.content.hashes(rig.catalog.get(node)?.generation ?? -1, 0, 0, 10)

describe('a file that changes while it is stored', () => {
  const POINTS = ['content.upload.chunks-stored', 'content.upload.object-stored', 'content.upload.recorded']

  test.each(POINTS)('P1: through the overlay at %s is never taken for stored', async (point) => {
    for (const mode of ['mirror', 'drain'] as const) {
      rig = await Rig.start({ mode, fill: (source) => writeFileSync(join(source, 'f'), LONG) })
      const client = new Client(rig)
      const node = await client.node('f')
      let change: Promise<unknown> | undefined
      atPoint(point, () => {
        change ??= client.write(node, 3, 'CHANGED')
      })
      await clock.until(rig.context.uploader.upload(node))
      await change
      // Whatever is called stored by now is compared with the file byte for byte.
      expect((await rig.verify()).differences).toEqual([])
      expect((await client.read(node)).toString()).toBe(`lllCHANGED${LONG.slice(10)}`)
      await expectSettled(rig)
      const { rig: rebuilt } = await Rig.rebuilt(rig.world.memory)
      expect(await new Client(rebuilt).readPath('f')).toBe(`lllCHANGED${LONG.slice(10)}`)
      await rebuilt.stop()
      if (mode === 'mirror') await rig.stop()
    }
  })

  test.each(POINTS.slice(0, 2))('P1: past the overlay at %s is never taken for stored', async (point) => {
    rig = await Rig.start({ fill: (source) => writeFileSync(join(source, 'f'), LONG) })
    const client = new Client(rig)
    const node = await client.node('f')
    let changes = 0
    atPoint(point, () => {
      changes += 1
      if (changes <= 4) writeFileSync(join(rig.source, 'f'), `${LONG}${changes}`)
    })
    expect(await clock.until(rig.context.uploader.upload(node))).toBe('behind')
    const inode = rig.catalog.get(node)
    expect(inode && isStored(inode) && readFileSync(join(rig.source, 'f'), 'utf8') === LONG).toBe(false)
    await rig.migrate()
    expect((await rig.verify()).differences).toEqual([])
    expect(await client.readPath('f')).toBe(`${LONG}4`)
    await expectSettled(rig)
  })
})

// Nothing is ever written at rest: a log, a download, a process that writes line after line.
describe('a file that is appended to all the time', () => {
  const LENGTH = 2 * MiB + 1000

  /**
   * Changes the file at each of the points, as often as that is come to, until told to end: that waits for the changes, and so does
   * what is stored next.
   */
  function changingAt(
    points: readonly string[],
    change: (nth: number) => Promise<unknown>,
  ): () => Promise<unknown[]> {
    const changes: Promise<unknown>[] = []
    for (const point of points) atPoint(point, () => void changes.push(change(changes.length)))
    const { memory } = rig.world
    const put = memory.put.bind(memory)
    Object.assign(memory, {
      put: async (...args: Parameters<typeof put>) => {
        await Promise.all(changes)
        return put(...args)
      },
    })
    return () => {
      for (const point of points) atPoint(point, undefined)
      return Promise.all(changes)
    }
  }

  /** Uploaded once while lines are appended; the file as it was before and as it is then. */
  async function uploadedBeside(mode: 'mirror' | 'prefer-store' | 'drain') {
    const before = Buffer.alloc(LENGTH, 'abcdefg')
    before.write('abcdefg', LENGTH - 7)
    rig = await Rig.start({ mode, fill: (source) => writeFileSync(join(source, 'log'), before) })
    const client = new Client(rig)
    const node = await client.node('log')
    await client.write(node, 0, 'abc')
    await rig.settle()
    await client.write(node, LENGTH - 7, 'abcdefg')
    const LINE = 'a line; '
    const points = ['content.upload.claimed', 'content.upload.chunk-listed', 'content.upload.chunks-stored']
    const end = changingAt(points, (nth) => client.write(node, LENGTH + nth * LINE.length, LINE))
    expect(await clock.until(rig.context.uploader.upload(node))).toBe('behind')
    const lines = await end()
    const inode = rig.catalog.get(node)
    expect(inode && isStored(inode)).toBe(false)
    const after = Buffer.concat([before, Buffer.from(LINE.repeat(lines.length))])
    return { client, node, after }
  }

  test.each(['mirror', 'prefer-store', 'drain'] as const)(
    'P1, P4: in %s the store has it as it was at a moment',
    async (mode) => {
      const { after } = await uploadedBeside(mode)
      rig.die()
      const { rig: rebuilt } = await Rig.rebuilt(rig.world.memory)
      const stored = await new Client(rebuilt).readPath('log')
      await rebuilt.stop()
      expect(stored.length).toBeGreaterThanOrEqual(LENGTH)
      expect(after.toString().startsWith(stored)).toBe(true)
    },
  )

  test.each(['mirror', 'prefer-store', 'drain'] as const)(
    'P1, P4: in %s it is read as it is, and is stored so in the end',
    async (mode) => {
      const { client, node, after } = await uploadedBeside(mode)
      const isRead = async () => (await client.read(node, 0, after.length)).equals(after)
      expect(await isRead()).toBe(true)
      await rig.settle()
      expect((await rig.verify()).differences).toEqual([])
      expect(await isRead()).toBe(true)
      await expectSettled(rig)
    },
  )

  test('P1: one that is written to in place meanwhile is not taken for that', async () => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    const node = await client.create('log', 'l'.repeat(LENGTH))
    const end = changingAt(['content.upload.chunk-listed'], (nth) =>
      client.write(node, nth % 2 === 0 ? LENGTH + nth : nth, 'changed'),
    )
    expect(await clock.until(rig.context.uploader.upload(node))).toBe('busy')
    expect(rig.catalog.get(node)?.version).toBe(0)
    await end()
    await expectSettled(rig)
  })
})

test('P4: lost acknowledgements of every write end in the same objects', async () => {
  rig = await Rig.start({ mode: 'drain' })
  const client = new Client(rig)
  await client.mkdir('d')
  rig.world.inject({ fault: 'lost-ack', on: ['put'], chance: 0.6, times: 40 })
  for (let file = 0; file < 5; file += 1) await client.create(`d/${file}`, `${LONG}${file}`)
  await clock.untilTrue(() => rig.catalog.outbox.length === 0)
  await expectSettled(rig)
})

describe('P2: an inline object that is replaced while the file still takes bytes from it', () => {
  const shapes = {
    'by a longer one': (client: Client, node: bigint) => client.truncate(node, 60),
    'by a manifest, because the file grew': (client: Client, node: bigint) =>
      client.write(node, 2 * MiB, 'end'),
    'by a manifest, because its attributes grew': (_: Client, node: bigint) =>
      rig.perform((overlay, request) =>
        overlay.setxattr(request, node, Buffer.from('user.long'), Buffer.alloc(3500, 1), 0),
      ),
  }
  test.each(Object.entries(shapes))('%s, survives a lost acknowledgement and a crash', async (_, change) => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    const node = await client.create('f', 'precious')
    await rig.settle()
    rig.world.inject({ fault: 'lost-ack', on: ['put'], space: 'files', times: 2 })
    await change(client, node)
    await clock.untilTrue(() => rig.catalog.outbox.length === 0)
    expect((await client.read(node, 0, 8)).toString()).toBe('precious')
    await client.truncate(node, 8)
    await rig.perform((overlay, request) => overlay.setattr(request, node, { mode: 0o600 }))
    await rig.settle()
    rig.dieAt('content.upload.object-stored')
    await change(client, node)
    await rig.untilDead()
    await rig.restart('mount')
    expect((await client.read(await client.node('f'), 0, 8)).toString()).toBe('precious')
    await expectSettled(rig)
  })
})

test('P6: chunks that a new version replaced leave the store', async () => {
  rig = await Rig.start({ mode: 'drain' })
  const client = new Client(rig)
  const node = await client.create('f', LONG)
  await rig.settle()
  for (let version = 0; version < 4; version += 1) {
    await client.overwrite('f', 0, `version ${version}`)
    await rig.settle()
  }
  const chunks = await accountFor(rig.catalog, rig.world.memory)
  expect(chunks).toEqual({ missing: [], unowned: [] })
  expect(chunksOf(node)).toHaveLength(1)
  await client.truncate(node, 0)
  await rig.settle()
  expect(chunksOf(node)).toHaveLength(0)
  await expectSettled(rig)
})

test('a sparse file of more chunks than one manifest lists costs what is in it', async () => {
  rig = await Rig.start({ mode: 'drain' })
  const client = new Client(rig)
  const node = await client.create('sparse')
  const end = 1030 * MiB
  await client.write(node, end - 3, 'end')
  await client.write(node, 5 * MiB + 7, 'middle')
  await rig.settle()
  let chunks = 0
  for await (const key of rig.world.memory.keys('chunks')) if (!key.includes('/m')) chunks += 1
  expect(chunks).toBe(2)
  expect((await client.read(node, end - 4, 10)).toString()).toBe('\0end')
  expect((await client.read(node, 5 * MiB + 6, 8)).toString()).toBe('\0middle\0')
  expect((await client.read(node, 700 * MiB, 4)).equals(Buffer.alloc(4))).toBe(true)
  const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
  expect(result.failures).toEqual([])
  const second = new Client(rebuilt)
  expect((await second.read(await second.node('sparse'), end - 4, 10)).toString()).toBe('\0end')
  await rebuilt.stop()
})

test('P7: recovery cuts what a write that never took place left in the staging file', async () => {
  rig = await Rig.start({ mode: 'drain' })
  const client = new Client(rig)
  const node = await client.create('f', LONG)
  await rig.settle()
  await rig.cutShort('content.write.staged', (overlay, request) =>
    overlay.write(request, node, 0n, 2 * MiB, Buffer.from(LONG), { killSuidGid: false, flags: 0 }),
  )
  writeFileSync(join(rig.stateDir, 'staging', 'dead-beef'), LONG)
  await rig.restart('worker')
  const directory = join(rig.stateDir, 'staging')
  const left = readdirSync(directory)
  expect(left).not.toContain('dead-beef')
  for (const name of left) expect(statSync(join(directory, name)).blocks).toBe(0)
  await client.truncate(node, 3 * MiB)
  expect((await client.read(node, 2 * MiB, 600)).equals(Buffer.alloc(600))).toBe(true)
  expect((await client.read(node, 0, 500)).toString()).toBe(LONG)
  await expectSettled(rig)
})

describe('the carrier', () => {
  test('P4: an outage stops all work but a ping now and then, and everything is carried after it', async () => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    rig.world.inject({ fault: 'unavailable' })
    for (let file = 0; file < 10; file += 1) await client.create(`${file}`, LONG)
    await clock.untilTrue(() => rig.world.requests.some((request) => request.startsWith('ping')))
    const before = rig.world.requests.length
    clock.advance(60_000)
    await turns(50)
    expect(rig.world.requests.slice(before).filter((request) => !request.startsWith('ping'))).toEqual([])
    await expectSettled(rig)
    expect(rig.catalog.lists.totals().stored).toBe(10)
  })

  test('P4: a file that the store will not take blocks no other, is listed, and is stored when it can be', async () => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    rig.world.inject({ fault: 'rejected', on: ['put'], space: 'files', key: /^bad/ })
    await client.create('bad', LONG)
    for (let file = 0; file < 5; file += 1) await client.create(`good-${file}`, LONG)
    await clock.untilTrue(
      () => rig.catalog.lists.totals().stored === 5 && rig.catalog.lists.totals().failed === 1,
    )
    expect(rig.catalog.lists.failures(undefined, 10)[0]?.reason).toMatch(/bad/)
    await expectSettled(rig)
    expect(rig.catalog.lists.totals()).toMatchObject({ stored: 6, failed: 0 })
  })

  test('P1: a daemon that lost the namespace writes nothing more and goes on serving what it has', async () => {
    rig = await Rig.start({ mode: 'mirror', fill: (source) => writeFileSync(join(source, 'f'), LONG) })
    const client = new Client(rig)
    await rig.migrate()
    await rig.settle()
    const { rig: second } = await Rig.rebuilt(rig.world.memory, true)
    await expect(rig.lease.check(rig.catalog, rig.epoch)).rejects.toThrow(/taken over/)
    await new Client(second).overwrite('f', 0, 'second')
    await second.settle()
    await client.overwrite('f', 0, 'first')
    await client.create('g', LONG)
    await clock.untilTrue(() => rig.context.carrier.fenced !== undefined)
    const before = rig.world.requests.length
    await client.create('h', LONG)
    clock.advance(100_000)
    await turns(50)
    expect(rig.world.requests.slice(before)).toEqual([])
    expect(await client.readPath('f')).toBe(`first${LONG.slice(5)}`)
    expect(await new Client(second).readPath('f')).toBe(`second${LONG.slice(6)}`)
    await second.stop()
  })

  test('P1: one that loses it in the middle of a file, of many and of deletions sends nothing more', async () => {
    rig = await Rig.start({ mode: 'drain', inlineLimit: 64 })
    const client = new Client(rig)
    await client.create('gone', LONG)
    await rig.settle()
    await client.unlink('gone')
    await client.create('large', 'large '.repeat(1_000_000))
    for (let file = 0; file < 20; file += 1) await client.create(`${file}`, `${file}${LONG}`)
    const written = (): string[] => rig.world.requests.filter((request) => /^(put|delete)/.test(request))
    const before = written().length
    await clock.untilTrue(() => written().length > before)
    rig.context.carrier.noteFailure(new StoreSuperseded('a newer epoch is there'))
    const then = written()
    clock.advance(100_000)
    await turns(500)
    expect(written()).toEqual(then)
    // And it is no outage.
    expect(rig.world.requests.filter((request) => request.startsWith('ping'))).toEqual([])
    expect(await client.readPath('3')).toBe(`3${LONG}`)
  })

  test('P4: a file just opened for writing is stored once, when it is quiet', async () => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    const { entry, open } = await rig.perform((overlay, request) =>
      overlay.create(request, 1n, Buffer.from('f'), 0o644, 2),
    )
    await turns(50)
    await client.write(entry.nodeId, 0, LONG)
    await client.close(entry.nodeId, open.handle)
    await rig.settle()
    expect(rig.world.requests.filter((request) => request === 'put files f')).toHaveLength(1)
  })
})
