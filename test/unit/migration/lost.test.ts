import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { KeySpace } from '../../../src/store/contract.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

// The store lost or damaged what it had acknowledged. `verify` listed it, the reaper kept the legacy copy, readers were served
// from it, and nobody ever wrote the object again: a migration could not end, and the copy in the store was none.

const MIB = 1024 * 1024
const SHORT = 'inline'
const LONG = `${'first chunk '.repeat(MIB / 12 + 1).slice(0, MIB)}second`
let rig: Rig
let client: Client

afterEach(() => rig.stop())

async function start(mode: 'prefer-store' | 'drain' | 'store-only'): Promise<void> {
  rig = await Rig.start({
    mode,
    fill: (source) => {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/short'), SHORT)
      writeFileSync(join(source, 'd/long'), LONG)
      symlinkSync('target', join(source, 'd/link'))
    },
  })
  client = new Client(rig)
  if (mode === 'drain') await chmodAll()
  else await rig.migrate()
  await rig.settle()
}

/** The catalog takes the files over and they are copied; nobody has come to remove them from the volume. */
async function chmodAll(): Promise<void> {
  for (const name of ['d/short', 'd/long', 'd/link']) {
    const node = await client.node(name)
    await rig.perform((overlay, request) => overlay.setattr(request, node, { uid: 7 }))
  }
}

async function keysOf(space: KeySpace, part: string): Promise<string[]> {
  const keys: string[] = []
  for await (const key of rig.world.memory.keys(space)) if (key.includes(part)) keys.push(key)
  return keys.sort()
}

type Harm = (space: KeySpace, key: string) => Promise<void>

const damage: Harm = async (space, key) => {
  const object = await rig.world.memory.get(space, key)
  if (object) await rig.world.memory.put(space, key, rig.world.damage(object))
}

const lose: Harm = (space, key) =>
  rig.world.memory.delete(space, key, { epoch: 2 ** 50, version: Number.MAX_SAFE_INTEGER })

const HARMS = [
  { harm: 'damaged', act: damage },
  { harm: 'lost', act: lose },
]
const OBJECTS = [
  { what: 'a file', space: 'files', part: 'd/short' },
  { what: 'a manifest', space: 'files', part: 'd/long' },
  { what: 'a chunk', space: 'chunks', part: '/1-' },
  { what: 'a symlink', space: 'files', part: 'd/link' },
] as const

async function harm(act: Harm, { space, part }: { space: KeySpace; part: string }): Promise<void> {
  const [key, ...others] = await keysOf(space, part)
  expect([key, others]).toEqual([expect.any(String), []])
  if (key !== undefined) await act(space, key)
}

async function expectWhole(): Promise<void> {
  expect((await rig.verify()).differences).toEqual([])
  expect(rig.catalog.lists.failures(undefined, 10)).toEqual([])
  expect(await client.readPath('d/short')).toBe(SHORT)
  expect(await client.readPath('d/long')).toBe(LONG)
  await expectSettled(rig)
}

describe.each(HARMS)('what the store has $harm is written again', ({ act }) => {
  describe.each(['prefer-store', 'drain'] as const)('in %s', (mode) => {
    test.each(OBJECTS)('P4: $what that verify finds', async (object) => {
      await start(mode)
      await harm(act, object)
      const { differences } = await rig.verify()
      expect(differences).toEqual([
        expect.objectContaining({ detail: expect.stringMatching(/is written again$/) }),
      ])
      await rig.settle()
      await expectWhole()
    })
  })

  test.each(OBJECTS)(
    'P3 P4: $what that is read back before the legacy copy goes, which then goes',
    async (object) => {
      await start('drain')
      await harm(act, object)
      await rig.reap()
      await rig.settle()
      await rig.reap()
      expect(rig.catalog.lists.drainable(undefined, 10)).toEqual([])
      await expectWhole()
    },
  )

  test.each([
    { what: 'a header', part: '-' },
    { what: 'a shard', part: '/1.0' },
  ])("P4: $what of a directory's record, in any mode", async ({ part }) => {
    await start('store-only')
    const id = (await client.node('d')).toString(16)
    const [key] = (await keysOf('dirs', id)).filter((one) => one.includes('/') === part.includes('/'))
    if (key !== undefined) await act('dirs', key)
    expect((await rig.verify()).differences).toHaveLength(1)
    await rig.settle()
    await expectWhole()
  })
})

describe.each(['prefer-store', 'drain'] as const)('in %s', (mode) => {
  test.each([OBJECTS[0], OBJECTS[2]])(
    'P1 P4: $what that is found damaged when it is read',
    async (object) => {
      await start(mode)
      await harm(damage, object)
      expect(await client.readPath('d/short')).toBe(SHORT)
      expect(await client.readPath('d/long')).toBe(LONG)
      await rig.settle()
      await expectWhole()
    },
  )
})

test('P4: a directory record that says something else than the catalog is found and written again', async () => {
  await start('store-only')
  const id = (await client.node('d')).toString(16)
  const [, shard] = await keysOf('dirs', id)
  const before = shard === undefined ? undefined : await rig.world.memory.get('dirs', shard)
  await client.unlink('d/short')
  await client.create('d/other', 'other')
  await rig.settle()
  const now = shard === undefined ? undefined : await rig.world.memory.get('dirs', shard)
  if (shard !== undefined && before && now)
    await rig.world.memory.put('dirs', shard, { ...before, version: now.version })
  const { differences } = await rig.verify()
  expect(differences).toMatchObject([{ path: 'd', kind: 'corrupt' }])
  expect(differences[0]?.detail).toMatch(/it has "short" .*; it is written again$/)
  await rig.settle()
  expect((await rig.verify()).differences).toEqual([])
})

test('P1: what only the store had stays listed, is no work that is owed, and the rest goes on', async () => {
  await start('store-only')
  await harm(lose, OBJECTS[0])
  for (let time = 0; time < 2; time += 1) {
    const { differences } = await rig.verify()
    expect(differences).toMatchObject([{ path: 'd/short', kind: 'corrupt' }])
    expect(differences[0]?.detail).not.toMatch(/written again/)
  }
  expect(rig.catalog.outbox.length).toBe(0)
  await expect(client.readPath('d/short')).rejects.toMatchObject({ code: 'EIO' })
  expect(await client.readPath('d/long')).toBe(LONG)
})

test('P4: what is only away is not written again', async () => {
  await start('prefer-store')
  rig.world.inject({ fault: 'unavailable', on: ['get'] })
  expect((await rig.verify()).differences.map(({ kind }) => kind)).toContain('missing')
  expect(rig.catalog.outbox.length).toBe(0)
})

test('P4: a legacy file that was changed meanwhile is no source of what was stored, but newer', async () => {
  await start('prefer-store')
  await harm(damage, OBJECTS[0])
  writeFileSync(join(rig.source, 'd/short'), 'newer')
  await rig.verify()
  expect(await client.readPath('d/short')).toBe('newer')
  await rig.settle()
  expect((await rig.verify()).differences).toEqual([])
})

// One such file after the other failed at the head of the list, the store seemed to be down, and nothing else had its turn.
test('P4: files that need a part that the store does not find are not in the way of others', async () => {
  await start('store-only')
  const names = Array.from({ length: 12 }, (_, index) => `p${String(index).padStart(2, '0')}`)
  for (const name of names) await client.create(name, SHORT)
  await rig.settle()
  rig.world.inject({ fault: 'not-found', on: ['get'], space: 'files', key: /^p/ })
  for (const name of names) await client.write(await client.node(name), MIB, 'more')
  await client.create('other', 'other')
  const other = await client.node('other')
  await clock.untilTrue(() => rig.catalog.get(other)?.dirty === 0)
  await rig.settle()
  expect((await rig.verify()).differences).toEqual([])
})
