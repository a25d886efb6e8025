import { linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { DrainedCopy } from '../../support/rig/drained-copy.ts'
import { contentOf } from '../../support/rig/state-copy.ts'

// A copy of the state directory from the beginning of a drain is put back. What the volume still has may be newer than the store, where
// the drain was given up, or older, where it went on: which of them was changed last says the time of change.

let drained: DrainedCopy

afterEach(() => drained.rig.stop())

const FILES = ['a/f', 'a/b/g', 'top', 'kept', 'moved']

function fill(source: string): void {
  for (const path of ['a', 'a/b']) mkdirSync(join(source, path))
  for (const path of FILES) writeFileSync(join(source, path), `of ${path}`)
  linkSync(join(source, 'top'), join(source, 'a/linked'))
  symlinkSync('top', join(source, 'link'))
}

describe.each(['mirror', 'prefer-store'] as const)('drain is given up for %s', (mode) => {
  test('P1, P2: what was renamed over a file, or elsewhere, and written to since is the volume’s', async () => {
    drained = await DrainedCopy.start(fill)
    const { rig, client } = drained
    await drained.copy()
    await rig.setMode(mode)
    await client.create('new', 'version 1')
    await client.rename('new', 'a/f')
    await client.rename('kept', 'a/b/g')
    await client.rename('moved', 'a/moved')
    await rig.settle()
    await rig.tell()
    // What the store is never told of.
    rig.world.inject({ fault: 'unavailable', on: ['put'] })
    const changed = ['a/f', 'a/b/g', 'a/moved']
    for (const path of changed) await client.overwrite(path, 0, 'NEWEST')
    rig.die()
    rig.world.heal()
    const wanted = Object.fromEntries(
      changed.map((path) => [path, readFileSync(join(rig.source, path), 'latin1')]),
    )
    await drained.putBack()
    expect(rig.catalog.doubts.any).toBe(true)
    expect(await contentOf(client)).toMatchObject(wanted)
    await drained.accept()
    expect(await contentOf(client)).toMatchObject(wanted)
    expect((await rig.verify()).differences).toEqual([])
  })
})

describe('drain goes on, and the volume still has the old files', () => {
  const setattr = async (path: string, mode: number): Promise<void> => {
    const node = await drained.client.node(path)
    await drained.rig.perform((overlay, request) => overlay.setattr(request, node, { mode, uid: 7 }))
  }
  const CHANGES: ReadonlyArray<readonly [string, () => Promise<void>]> = [
    [
      'content',
      async () => {
        for (const path of FILES) await drained.client.overwrite(path, 0, 'NEWEST')
      },
    ],
    [
      'attributes',
      async () => {
        for (const path of ['a', 'a/b', 'top', 'a/f']) await setattr(path, 0o700)
      },
    ],
    [
      'what was renamed and written to',
      async () => {
        await drained.client.rename('kept', 'a/kept')
        await drained.client.rename('moved', 'a/f')
        for (const path of ['a/kept', 'a/f']) await drained.client.overwrite(path, 0, 'NEWEST')
      },
    ],
    [
      'what is another file by now',
      async () => {
        await drained.client.create('new', 'NEWEST')
        await drained.client.rename('new', 'top')
        await drained.client.unlink('a/f')
        await drained.client.create('a/f', 'NEWEST')
      },
    ],
  ]

  test.each(CHANGES)('P2: %s is as it was acknowledged', async (_, change) => {
    drained = await DrainedCopy.start(fill)
    const { rig } = drained
    await drained.copy()
    await change()
    await rig.settle()
    await rig.tell()
    const wanted = await drained.tree()
    await drained.putBack()
    await drained.expectAll(wanted)
  })

  test.each([1, 2])('P2: a file that has lost %i of its names on the volume', async (nth) => {
    drained = await DrainedCopy.start(fill)
    const { rig, client } = drained
    await drained.copy()
    await client.overwrite('top', 0, 'NEWEST')
    await client.overwrite('kept', 0, 'NEWEST')
    await rig.settle()
    const wanted = await contentOf(client)
    await drained.migrateUntil('migration.reap.removed', nth)
    await rig.tell()
    await drained.putBack()
    // But for the times of directories on the volume, from which names have gone.
    expect(await contentOf(client)).toEqual(wanted)
    await drained.accept()
    expect(await contentOf(client)).toEqual(wanted)
    expect((await rig.verify()).differences).toEqual([])
  })
})
