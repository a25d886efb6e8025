import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const ROOT = /^1-0(\/|$)/

let rig: Rig

afterEach(() => rig.stop())

async function start(shardEntries = 1000): Promise<Client> {
  rig = await Rig.start({
    mode: 'drain',
    shardEntries,
    watchRecords: true,
    fill: (source) => {
      mkdirSync(join(source, 'a/c'), { recursive: true })
      for (const name of ['a/1', 'a/2', 'a/c/1', 'a/c/2']) writeFileSync(join(source, name), name)
    },
  })
  await rig.migrate()
  await rig.settle()
  return new Client(rig)
}

/** Lets the store's work go on as far as it can. */
async function passTime(): Promise<void> {
  await clock.until(new Promise((resolve) => setTimeout(resolve, 20_000)))
}

async function remove(client: Client, path: string, directory: boolean): Promise<void> {
  const { parent, name } = await client.place(path)
  await rig.perform((overlay, request) =>
    directory ? overlay.rmdir(request, parent, name) : overlay.unlink(request, parent, name),
  )
  client.forgetAll()
}

async function expectInOrder(): Promise<void> {
  await expectSettled(rig)
  expect(rig.catalog.departures.isEmpty).toBe(true)
  expect(rig.records?.violations).toEqual([])
}

const writtenTo = (directory: bigint): string[] =>
  rig.world.requests.filter((request) => request.startsWith(`put dirs ${directory.toString(16)}-`))

test('P2: a name stays in a record while the directory to which its file went is not named by one itself', async () => {
  const client = await start()
  rig.world.inject({ fault: 'rejected', on: ['put'], space: 'dirs', key: ROOT })
  const below = await client.mkdir('new')
  await client.mkdir('new/below')
  await client.rename('a/1', 'new/below/1')
  await passTime()
  expect(writtenTo(below)).not.toEqual([])
  expect(writtenTo(await client.node('a'))).not.toEqual([])
  expect(rig.records?.violations).toEqual([])
  await expectInOrder()
})

test('P2: a directory whose turn comes is written though the one that comes before it cannot be', async () => {
  const client = await start()
  const a = await client.node('a')
  const before = writtenTo(a).length
  const other = await client.mkdir('other')
  await rig.settle()
  rig.world.inject({
    fault: 'rejected',
    on: ['put'],
    space: 'dirs',
    key: new RegExp(`^${other.toString(16)}-`),
  })
  await client.rename('a/1', 'other/1')
  await client.create('a/new', 'new')
  await passTime()
  expect(writtenTo(a).length).toBeGreaterThan(before)
  const { rig: rebuilt } = await Rig.rebuilt(rig.world.memory)
  try {
    expect(await new Client(rebuilt).readPath('a/new')).toBe('new')
    expect(await new Client(rebuilt).readPath('a/1')).toBe('a/1')
  } finally {
    await rebuilt.stop()
  }
  await expectInOrder()
})

test('P2: crossing renames, an exchange, and directories moved into one another wait for each other at no time', async () => {
  const client = await start()
  for (const name of ['x', 'y', 'x/1', 'y/1']) await client.mkdir(name)
  await client.create('x/1/f', 'of x')
  await client.create('y/1/f', 'of y')
  await rig.settle()
  await client.rename('x/1', 'y/1', 2)
  await expectInOrder()
  await client.rename('x/1', 'y/2')
  await client.rename('y/1', 'x/2')
  await expectInOrder()
  // a/c, then c above a.
  await client.rename('a/c', 'c')
  await client.rename('a', 'c/a')
  await client.rename('c', 'x/2/c')
  await expectInOrder()
  expect(await client.readPath('x/2/c/a/1')).toBe('a/1')
})

test.each([1000, 2])(
  'P2: a chain of renames within and between directories, %i entries a shard',
  async (entries) => {
    const client = await start(entries)
    for (let step = 0; step < 30; step += 1) {
      await client.rename(`a/${step === 0 ? '1' : `s${step}`}`, `a/c/s${step}`)
      await turns(step % 7)
      await client.rename(`a/c/s${step}`, `a/s${step + 1}`)
      await turns(step % 5)
    }
    await expectInOrder()
  },
)

test('P2: a record that is split once more, after a crash that left its new header, is not written over', async () => {
  const client = await start(2)
  for (const name of ['3', '4', '5']) await client.create(`a/${name}`, name)
  rig.dieAt('content.directory.header-stored')
  rig.world.inject({ fault: 'unavailable', on: ['ping'], times: 1 })
  await rig.untilDead()
  await rig.restart('worker')
  rig.world.inject({ fault: 'rejected', on: ['put'], space: 'dirs' })
  for (let name = 10; name < 30; name += 1) await client.create(`a/${name}`, `${name}`)
  await passTime()
  rig.world.heal()
  await expectInOrder()
})

test('P2: a file renamed within a directory while its record is split is in one of the parts', async () => {
  const client = await start(2)
  const a = await client.node('a')
  for (let name = 10; name < 20; name += 1) await client.create(`a/${name}`, `${name}`)
  await rig.settle()
  rig.world.inject({ fault: 'rejected', on: ['put'], space: 'dirs' })
  for (let name = 20; name < 40; name += 1) await client.create(`a/${name}`, `${name}`)
  await passTime()
  const { memory } = rig.world
  const put = memory.put.bind(memory)
  let renamed = false
  memory.put = async (space, key, ...rest) => {
    await put(space, key, ...rest)
    // Once the first part is durable, what was in others is renamed to names that are of that one.
    if (renamed || space !== 'dirs' || !key.startsWith(`${a.toString(16)}-`) || !key.endsWith('.0')) return
    renamed = true
    for (let name = 10; name < 20; name += 1) {
      const from = Buffer.from(`${name}`)
      rig.overlay.rename(rig.request(), a, from, a, inFirstShard(`${name}x`), 0)
    }
  }
  rig.world.heal()
  await expectInOrder()
  expect(renamed).toBe(true)
})

/** A name that is in the first of up to 64 shards. */
function inFirstShard(start: string): Buffer {
  for (let suffix = 0; ; suffix += 1) {
    const name = Buffer.from(`${start}${suffix}`)
    if (rig.catalog.buckets.shard(name, 64) === 0) return name
  }
}

test('P2: while a record still leads to a tree that was removed nothing of it goes, then all of it does', async () => {
  const client = await start()
  rig.world.inject({ fault: 'rejected', on: ['put'], space: 'dirs', key: ROOT })
  for (const name of ['a/c/1', 'a/c/2', 'a/1', 'a/2']) {
    if (name === 'a/1') await remove(client, 'a/c', true)
    await remove(client, name, false)
  }
  await remove(client, 'a', true)
  await passTime()
  expect(rig.records?.violations).toEqual([])
  expect(rig.world.requests.filter((request) => /^delete (files|dirs)/.test(request))).toEqual([])
  await expectInOrder()
  expect(rig.world.requests.filter((request) => /^delete files/.test(request))).toHaveLength(4)
})

test('P2: nothing is recorded in the store that a power loss could take from the catalog', async () => {
  const client = await start()
  const flushed = Promise.withResolvers<void>()
  const flush = vi.spyOn(rig.catalog, 'flush').mockReturnValue(flushed.promise)
  const before = rig.world.requests.length
  await client.rename('a/1', 'a/c/3')
  await passTime()
  expect(rig.world.requests.slice(before).filter((request) => request.startsWith('put dirs'))).toEqual([])
  flush.mockRestore()
  flushed.resolve()
  await expectInOrder()
})
