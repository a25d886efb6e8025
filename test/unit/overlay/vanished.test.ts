import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { letVanishedGo } from '../../../src/catalog/index.ts'
import { accountFor } from '../../support/rig/accounts.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

let rig: Rig

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'prefer-store',
    powerCuts: true,
    fill: (source) => {
      mkdirSync(join(source, 'old/deep'), { recursive: true })
      mkdirSync(join(source, 'beside'))
      for (const name of ['old/b', 'old/deep/c', 'single']) writeFileSync(join(source, name), name)
    },
  })
  await rig.migrate()
  await rig.settle()
  await rig.catalog.flush()
})

afterEach(() => rig.stop())

/** Which of the paths a catalog made from the store alone has, with the content that they were made with. */
async function rebuilt(...paths: string[]): Promise<string[]> {
  const { rig: other } = await Rig.rebuilt(rig.world.memory)
  try {
    const client = new Client(other)
    const found: string[] = []
    for (const path of paths)
      if (await client.exists(path)) found.push(`${path}: ${await client.readPath(path)}`)
    return found
  } finally {
    await other.stop()
  }
}

async function generationOf(path: string): Promise<number | undefined> {
  return rig.catalog.get(await new Client(rig).node(path))?.generation
}

/** Both go from the volume past the overlay, and a power cut follows. */
async function loseForGood(): Promise<void> {
  rmSync(join(rig.source, 'old'), { recursive: true })
  rmSync(join(rig.source, 'single'))
  await rig.powerCut('kept')
  const client = new Client(rig)
  for (const gone of ['old', 'single']) expect(await client.exists(gone)).toBe(false)
  await rig.settle()
}

/** The store and the catalog have nothing of them. */
async function expectNothingLeft(): Promise<void> {
  expect(await rebuilt('old', 'single')).toEqual([])
  expect([...rig.catalog.lists.orphans()]).toEqual([])
  expect((await accountFor(rig.catalog, rig.world.memory)).unowned).toEqual([])
}

// What a power cut leaves where the volume's journal was ahead of the catalog, or behind it: names that the catalog does not know.
describe('a power cut, and the volume has files under other names than the catalog', () => {
  test('P5: nothing that has moved goes from the store before it is met again; then it is the file that it was', async () => {
    const before = [await generationOf('old'), await generationOf('old/b'), await generationOf('single')]
    renameSync(join(rig.source, 'old'), join(rig.source, 'beside/new'))
    renameSync(join(rig.source, 'single'), join(rig.source, 'beside/other'))
    await rig.powerCut('kept')
    const client = new Client(rig)
    for (const gone of ['old', 'single']) expect(await client.exists(gone)).toBe(false)
    await rig.settle()
    expect(await rebuilt('old/b', 'old/deep/c', 'single')).toEqual([
      'old/b: old/b',
      'old/deep/c: old/deep/c',
      'single: single',
    ])
    expect(await client.readPath('beside/new/b')).toBe('old/b')
    expect(await client.readPath('beside/other')).toBe('single')
    const after = ['beside/new', 'beside/new/b', 'beside/other']
    expect(await Promise.all(after.map(generationOf))).toEqual(before)
    await rig.settle()
    expect(await rebuilt('old/b', 'single', 'beside/new/b', 'beside/new/deep/c', 'beside/other')).toEqual([
      'beside/new/b: old/b',
      'beside/new/deep/c: old/deep/c',
      'beside/other: single',
    ])
  })

  test('P4: of what was met again no note is left that its old name is still in a record', async () => {
    const client = new Client(rig)
    // An object of the version before is held while a record may lead to it.
    await client.write(await client.node('single'), 0, 'twice ')
    renameSync(join(rig.source, 'single'), join(rig.source, 'beside/other'))
    await rig.powerCut('kept')
    expect(await new Client(rig).exists('single')).toBe(false)
    await rig.settle()
    expect(await new Client(rig).exists('beside/other')).toBe(true)
    await rig.migrate()
    await rig.settle()
    expect(rig.catalog.departures.isEmpty).toBe(true)
    await expectSettled(rig)
  })

  test.each(['at once', 'after another mount'])(
    'P4: what has gone for good leaves the store once everything has been looked at, %s',
    async (when) => {
      await loseForGood()
      if (when === 'after another mount') await rig.restart('mount')
      expect(await rebuilt('old/b', 'single')).toEqual(['old/b: old/b', 'single: single'])
      await rig.migrate()
      await rig.settle()
      await expectNothingLeft()
    },
  )

  test('P4: and where a crash came once everything had been, and before any of it went', async () => {
    await loseForGood()
    rig.catalog.transaction(() => letVanishedGo(rig.catalog))
    await rig.restart('mount')
    await rig.settle()
    await expectNothingLeft()
  })
})
