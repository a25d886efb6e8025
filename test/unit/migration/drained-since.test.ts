import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { acceptLosses, isCompared, mayAccept } from '../../../src/migration/index.ts'
import { Client } from '../../support/rig/client.ts'
import { clock } from '../../support/rig/clock.ts'
import { DrainedCopy } from '../../support/rig/drained-copy.ts'
import { Rig } from '../../support/rig/rig.ts'
import { versionsOf } from '../../support/rig/state-copy.ts'
import { differences, diskTree } from '../../support/rig/trees.ts'

// A copy of the state directory is put back over a volume from which files and directories have gone since: what the copy knows by the
// volume alone is in the store alone.

let drained: DrainedCopy

afterEach(() => drained.rig.stop())

/** When the copy is made; where it is a fault point, at this passage. */
const MOMENTS: ReadonlyArray<readonly [string, number]> = [
  ['right behind the change of mode', 0],
  ['migration.reap.verified', 1],
  ['migration.reap.flushed', 5],
  ['migration.reap.removed', 1],
  ['migration.reap.removed', 4],
  ['migration.reap.removed', 8],
  ['migration.reap.synced', 3],
  ['migration.reap.directory-removed', 1],
  ['migration.reap.directory-removed', 4],
  ['migration.reap.directory-removed', 7],
]

describe('P2, P5: a copy from before or amid a drain that went on', () => {
  test.each(MOMENTS)(
    '%s (%i): has every file and directory as it was, whatever its level',
    async (point, nth) => {
      drained = await DrainedCopy.start()
      const wanted = await drained.tree()
      if (nth === 0) {
        await drained.copy()
        await drained.drain()
      } else expect(await drained.drainCopyingAt(point, nth)).toBe(true)
      expect([...diskTree(drained.rig.source).keys()]).toEqual([])
      await drained.putBack()
      await drained.expectAll(wanted)
    },
  )

  test('from before anything was stored: has it all the same', async () => {
    drained = await DrainedCopy.start(undefined, false)
    const wanted = await drained.tree()
    await drained.copy()
    await drained.drain()
    await drained.putBack()
    await drained.expectAll(wanted)
  })

  test.each(MOMENTS)('%s (%i): where only half has gone until it is put back', async (point, nth) => {
    drained = await DrainedCopy.start()
    const wanted = await drained.tree()
    const { rig } = drained
    if (nth === 0) await drained.copy()
    else drained.copyAt(point, nth)
    await drained.migrateUntil('migration.reap.directory-removed', 7)
    expect(drained.isCopied).toBe(true)
    await drained.putBack()
    if (rig.catalog.doubts.any) await drained.expectAll(wanted)
    else expect(await drained.lacking(wanted)).toEqual([])
  })

  const afterwards: ReadonlyArray<readonly [string, (drained: DrainedCopy) => Promise<void>]> = [
    ['a directory was renamed', ({ client }) => client.rename('a/b', 'a/moved')],
    [
      'one was moved into one that is new, below it',
      async ({ client }) => {
        await client.mkdir('new')
        await client.mkdir('new/deep')
        await client.rename('a/b', 'new/deep/b')
        await client.create('new/deep/b/c/later', 'later')
      },
    ],
    [
      'what was above one was moved into it',
      async ({ client }) => {
        await client.rename('a/b/c', 'c')
        await client.rename('a', 'c/a')
      },
    ],
    [
      'attributes were changed',
      async ({ client, rig }) => {
        for (const [path, mode] of [
          ['a', 0o700],
          ['a/b/c', 0o755],
          ['l2/y', 0o600],
        ] as const) {
          const node = await client.node(path)
          await rig.perform((overlay, request) => overlay.setattr(request, node, { mode, uid: 7, gid: 8 }))
        }
      },
    ],
    [
      'a tree was removed, and made anew in part',
      async ({ client, rig }) => {
        for (const path of ['a/b/c/h', 'a/b/g', 'a/b/long', 'a/b/to-g']) await client.unlink(path)
        for (const path of ['a/b/c', 'a/b']) {
          const { parent, name } = await client.place(path)
          await rig.perform((overlay, request) => overlay.rmdir(request, parent, name))
        }
        await rig.settle()
        await client.mkdir('a/b')
        await client.create('a/b/g', 'another')
      },
    ],
    [
      'files were changed, moved, replaced and got more names',
      async ({ client }) => {
        await client.overwrite('a/f', 0, 'changed')
        await client.rename('top', 'a/b/c/top')
        await client.overwrite('a/b/c/top', 0, 'moved')
        await client.rename('a/b/g', 'a/b/c/h')
        await client.link('l1/x', 'a/empty/w')
        await client.unlink('l2/y')
      },
    ],
    [
      'directories and files were made',
      async ({ client }) => {
        for (const path of ['n', 'n/m', 'a/b/c/d', 'a/b/c/d/e']) await client.mkdir(path)
        for (const path of ['n/m/1', 'a/b/c/d/e/2', 'a/b/3']) await client.create(path, path)
        await client.symlink('n/m/s', 'nowhere')
      },
    ],
  ]

  describe.each([true, false])('where the changes come before the drain: %s', (before) => {
    test.each(afterwards)('since the copy %s', async (_, change) => {
      drained = await DrainedCopy.start()
      await drained.copy()
      if (!before) await drained.drain()
      await change(drained)
      await drained.rig.settle()
      await drained.drain()
      const wanted = await drained.tree()
      await drained.putBack()
      await drained.expectAll(wanted)
    })
  })

  test('that is mounted without the store: errors, nothing is removed, and the losses cannot be accepted', async () => {
    drained = await DrainedCopy.start()
    const { rig, client } = drained
    await drained.copy()
    const wanted = await drained.tree()
    await drained.drain()
    const objects = await versionsOf(rig)
    // The lease is known to be ahead, and then the store says nothing of what it has.
    for (const space of ['dirs', 'files'] as const) rig.world.inject({ fault: 'unavailable', space })
    await drained.putBack()
    expect(rig.catalog.doubts.any).toBe(true)
    for (const path of ['a', 'l1', 'top']) {
      await expect(client.lookup(path)).rejects.toMatchObject({ code: 'EIO' })
    }
    expect((await client.list(1n)).map(String).sort()).toEqual(['a', 'l1', 'l2', 'top'])
    expect([isCompared(rig.context), mayAccept(rig.context)]).toEqual([false, false])
    rig.world.heal()
    await rig.restart('mount')
    expect(isCompared(rig.context)).toBe(true)
    expect(await versionsOf(rig)).toEqual(objects)
    await drained.expectAll(wanted)
  })
})

/** Parts of records are written anew, under other keys. */
const lasts = (key: string): boolean => !/^dirs .*\//.test(key)

describe('P2, P3: of what a copy needs the store has lost', () => {
  const FEW = (source: string): void => {
    for (const path of ['a', 'a/b', 'a/b/c']) mkdirSync(join(source, path))
    for (const path of ['a/f', 'a/b/g', 'a/b/c/h']) writeFileSync(join(source, path), `of ${path}`)
  }

  test('one object, whichever: it is listed, asked for it is an error, and all else stays; accepted, it is over', async () => {
    drained = await DrainedCopy.start(FEW)
    const keys = Object.keys(await versionsOf(drained.rig))
    await drained.rig.stop()
    expect(keys.length).toBeGreaterThan(9)
    for (const lost of keys.keys()) {
      drained = await DrainedCopy.start(FEW)
      const { rig } = drained
      await drained.copy()
      await drained.drain()
      const objects = await versionsOf(rig)
      const key = Object.keys(objects).sort()[lost]
      if (key === undefined) continue
      const [space = '', name = ''] = key.split(/ (.*)/s)
      await drained.loseObject(space as 'files' | 'dirs', name)
      delete objects[key]
      await drained.putBack()
      const errors = await drained.errors(['a', 'a/f', 'a/b', 'a/b/g', 'a/b/c', 'a/b/c/h'])
      const { differences } = await rig.verify()
      expect(differences.filter(({ kind }) => kind === 'missing').length, key).toBeGreaterThan(0)
      // A file that is lost, by its name; of a directory what was not known to be in it.
      if (space === 'files') expect(errors, key).toHaveLength(1)
      else expect(errors, key).toEqual([])
      const leftOut = await drained.accept()
      expect(Object.keys(await versionsOf(rig)), key).toEqual(
        expect.arrayContaining(Object.keys(objects).filter(lasts)),
      )
      expect(await drained.errors(['a', 'a/f', 'a/b', 'a/b/g', 'a/b/c', 'a/b/c/h']), key).toEqual(
        errors.map((error) => error.replace('EIO', 'ENOENT')),
      )
      expect(leftOut, key).toEqual(errors.map((error) => error.replace(': EIO', '')))
      await expectWhole(key)
      await rig.stop()
    }
    drained = await DrainedCopy.start(FEW)
  })

  /** Nothing is owed or listed, what was not known to be in a directory is free to be made, and the store alone has it all. */
  async function expectWhole(key: string): Promise<void> {
    const { rig, client } = drained
    expect((await rig.verify()).differences, key).toEqual([])
    for (const path of ['new', 'a/new', 'a/b/new', 'a/b/c/new']) await client.create(path, path)
    await rig.settle()
    expect(rig.catalog.lists.failures(undefined, 10), key).toEqual([])
    expect(await rig.migrate(), key).toMatchObject({ remaining: 0 })
    await rig.setMode('store-only')
    const shown = await drained.tree()
    const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
    try {
      expect(result.failures, key).toEqual([])
      expect(differences(shown, await new Client(rebuilt).tree()), key).toEqual([])
    } finally {
      await rebuilt.stop()
    }
  }

  test('of a tree that was made out of the store: a part of a record that is lost is written anew once that is accepted', async () => {
    drained = await DrainedCopy.start(FEW)
    const before = drained
    await before.drain()
    const shard = Object.keys(await versionsOf(before.rig)).find((key) => /^dirs [0-9a-f]{2,}-.*\//.test(key))
    await before.loseObject('dirs', (shard ?? '').slice('dirs '.length))
    const { rig } = await Rig.rebuilt(before.rig.world.memory)
    try {
      expect((await rig.verify()).differences).toEqual([expect.objectContaining({ kind: 'missing' })])
      await clock.until(acceptLosses(rig.context))
      await rig.settle()
      expect((await rig.verify()).differences).toEqual([])
      const { rig: again, result } = await Rig.rebuilt(rig.world.memory)
      await again.stop()
      expect(result.failures).toEqual([])
    } finally {
      await rig.stop()
    }
  })
})
