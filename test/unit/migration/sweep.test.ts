import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { contentKey, fileId } from '../../../src/catalog/index.ts'
import { sha256 } from '../../../src/content/index.ts'
import { StoreSuperseded, StoreUnavailable } from '../../../src/store/errors.ts'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'
import { fileObject, leaveStrays } from '../../support/rig/strays.ts'

const LONG = 'l'.repeat(500)
let rig: Rig
let client: Client

afterEach(() => rig.stop())

async function start(options: RigOptions = {}): Promise<void> {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      writeFileSync(join(source, 'a'), LONG)
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/b'), 'beta')
    },
    ...options,
  })
  client = new Client(rig)
  await rig.migrate()
  await rig.settle()
}

const unowned = async (): Promise<string[]> =>
  (await accountFor(rig.catalog, rig.world.memory)).unowned.sort()
const named = (strays: ReadonlyArray<{ space: string; key: string }>): string[] =>
  strays.map(({ space, key }) => `${space} ${key}`).sort()

describe.each(['mirror', 'prefer-store', 'drain', 'store-only'] as const)('in %s', (mode) => {
  test('objects that no path names are found, listed by a dry run, and swept; nothing else goes', async () => {
    await start({ mode })
    const left = await leaveStrays(rig.world.memory, rig.epoch)
    const before = await client.tree()
    const found = await rig.sweep({ dryRun: true })
    expect([found.found, found.swept, named(found.strays)]).toEqual([left.length, 0, left])
    expect(await unowned()).toEqual(left)
    const swept = await rig.sweep()
    expect([swept.found, swept.swept, swept.refused]).toEqual([left.length, left.length, undefined])
    expect(await unowned()).toEqual([])
    expect(await rig.sweep()).toMatchObject({ found: 0, objects: swept.objects - left.length })
    expect(await client.tree()).toEqual(before)
    client.forgetAll()
    await expectSettled(rig)
  })
})

test('P2: a chunk of a file that is changed stays: the object may be of a version that the catalog has lost', async () => {
  await start()
  const node = await client.create('f', LONG)
  await rig.settle()
  const inode = rig.catalog.get(node)
  if (!inode) throw new Error('no inode')
  const key = contentKey(fileId(inode), 0, 0, sha256(Buffer.from('another version')))
  const object = {
    value: Buffer.from('x'),
    metadata: {},
    contentType: 'a/b',
    version: { epoch: 0, version: 0 },
  }
  await rig.world.memory.put('chunks', key, object)
  rig.world.inject({ fault: 'unavailable', on: ['put'] })
  await client.overwrite('f', 0, 'changed')
  const { found, swept, strays } = await rig.sweep()
  expect([found, swept, strays[0]?.reason]).toEqual([1, 0, expect.stringContaining('is being written')])
  expect(await rig.world.memory.get('chunks', key)).toBeDefined()
  client.forgetAll()
  await rig.settle()
  expect(await rig.sweep()).toMatchObject({ found: 1, swept: 1 })
  await expectSettled(rig)
})

test('P2: of a file that was removed, while a record in the store may still name it, nothing is swept', async () => {
  await start()
  await client.create('d/f', LONG)
  await rig.settle()
  client.forgetAll()
  rig.world.inject({ fault: 'unavailable', on: ['put'] })
  await client.unlink('d/f')
  const { memory } = rig.world
  const all = async () => (await Promise.all([memory.get('files', 'd/f')])).filter((one) => one !== undefined)
  await rig.sweep()
  expect(await all()).toHaveLength(1)
  await rig.settle()
  expect(await all()).toHaveLength(0)
  await expectSettled(rig)
})

test('P2: a catalog made by rebuild lists what it does not know, and takes it only when told to', async () => {
  await start()
  const left = await leaveStrays(rig.world.memory, rig.epoch)
  const { rig: second } = await Rig.rebuilt(rig.world.memory)
  try {
    await second.settle()
    const found = await second.sweep()
    expect([named(found.strays), found.swept]).toEqual([left, 0])
    expect(found.refused).toMatch(/has not known the namespace from its beginning.*--all/)
    expect(await second.sweep({ all: true })).toMatchObject({ found: left.length, swept: left.length })
  } finally {
    await second.stop()
  }
})

test('P2: while the store has lost something of the tree nothing is swept, whatever is asked for', async () => {
  await start()
  const { memory } = rig.world
  const object = await memory.get('files', 'a')
  if (!object) throw new Error('no object')
  await memory.delete('files', 'a', object.version)
  const { rig: second } = await Rig.rebuilt(memory)
  try {
    await second.settle().catch(() => undefined)
    const chunks = (await accountFor(second.catalog, second.world.memory)).unowned
    expect(chunks.length).toBeGreaterThan(0)
    const found = await second.sweep({ all: true })
    expect(found).toMatchObject({ swept: 0, refused: expect.stringContaining('has lost some') })
    expect((await accountFor(second.catalog, second.world.memory)).unowned).toEqual(chunks)
  } finally {
    await second.stop()
  }
})

test('P2: an older copy of a state directory that is put back has not known everything', async () => {
  await start()
  const lease = await rig.lease.read()
  if (!lease) throw new Error('no lease')
  const value = Buffer.from(JSON.stringify({ ...lease, epoch: lease.epoch + 2 ** 20 }))
  const version = { epoch: lease.epoch + 2 ** 20, version: 0 }
  await rig.world.memory.put('meta', 'namespace', { value, version, metadata: {}, contentType: 'a/b' })
  await rig.restart('mount')
  const left = await leaveStrays(rig.world.memory, rig.epoch)
  expect(await rig.sweep()).toMatchObject({ found: left.length, swept: 0, refused: expect.any(String) })
})

test('P1: who has lost the namespace sweeps nothing of the one who has it', async () => {
  await start()
  await leaveStrays(rig.world.memory, rig.epoch)
  const before = await unowned()
  const { rig: second } = await Rig.rebuilt(rig.world.memory, true)
  try {
    await expect(rig.sweep()).rejects.toThrow(StoreSuperseded)
    expect(await unowned()).toEqual(expect.arrayContaining(before))
  } finally {
    await second.stop()
  }
})

test('a damaged object that nobody knows is listed and left; one that is newer than this mount ends the sweep', async () => {
  await start()
  const { memory } = rig.world
  const bad = fileObject(0xfffffn, { epoch: rig.epoch, version: 1 })
  await memory.put('files', 'bad', { ...bad, metadata: { ...bad.metadata, 'ferry-sha256': '0'.repeat(64) } })
  const { found, swept, strays } = await rig.sweep()
  expect([found, swept, strays[0]?.reason]).toEqual([
    1,
    0,
    expect.stringMatching(/nobody can say what it was/),
  ])
  expect(await memory.get('files', 'bad')).toBeDefined()
})

test('P4: a store that does not answer ends the sweep; what was listed goes when it is back', async () => {
  await start()
  const left = await leaveStrays(rig.world.memory, rig.epoch)
  rig.world.inject({ fault: 'unavailable', on: ['delete'] })
  await expect(rig.sweep()).rejects.toThrow(StoreUnavailable)
  expect((await unowned()).length).toBeGreaterThan(0)
  await rig.settle()
  expect(await rig.sweep()).toMatchObject({ found: left.length - 1, swept: left.length - 1 })
  expect(await unowned()).toEqual([])
})

test('P6: a million keys are looked at a page at a time', async () => {
  await start()
  let most = 0
  let inTheAir = 0
  const { memory } = rig.world
  const { keys } = memory
  memory.keys = async function* (space, options) {
    yield* keys.call(memory, space, options)
    if (space !== 'chunks') return
    for (let index = 0; index < 20_000; index += 1) {
      inTheAir += 1
      most = Math.max(most, inTheAir)
      yield `fffff-7/${index}-${'0'.repeat(64)}`
      inTheAir -= 1
    }
  }
  const { found, strays } = await rig.sweep({ dryRun: true })
  expect([found, strays.length, most]).toEqual([20_000, 1000, 1])
})
