import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { S_IFREG } from '../../../src/base/attributes.ts'
import { ROOT_INO } from '../../../src/catalog/index.ts'
import { walk } from '../../../src/migration/walker.ts'
import { newInode } from '../../../src/overlay/new-inode.ts'
import { Rig } from '../../support/rig/rig.ts'

const NAMES = ['a', 'b', 'c']

// The second is the story of a migration that said "1 file not in the store" of a directory that a process, which had it open, had
// removed: found by the loss of nodes, with an application that lists and removes directories beside the migration.
test.each([
  ['', false],
  [' while it is open', true],
])(
  'P4: a directory that an application removes before its turn%s is nothing that could not be read',
  async (_, open) => {
    const rig = await Rig.start({
      mode: 'mirror',
      fill: (source) => {
        writeFileSync(join(source, 'file'), 'x')
        for (const name of NAMES) mkdirSync(join(source, name))
      },
    })
    try {
      for (const name of open ? NAMES : []) {
        const { nodeId } = await rig.perform(async (overlay, request) =>
          overlay.lookup(request, 1n, Buffer.from(name)),
        )
        await rig.perform(async (overlay, request) => overlay.opendir(request, nodeId))
      }
      const errors: unknown[] = []
      let files = 0
      for await (const batch of walk(rig.context, rig.overlay, (path, error) =>
        errors.push([path.toString(), error]),
      )) {
        files += batch.length
        for (const name of NAMES)
          await rig.perform(async (overlay, request) => overlay.rmdir(request, 1n, Buffer.from(name)))
      }
      expect({ files, errors }).toEqual({ files: 1, errors: [] })
    } finally {
      await rig.stop()
    }
  },
)

// The story of "1 file not in the store: ENOTDIR": a file had got the number of a directory that was removed before its turn.
test('P4: a file that has got the number of a directory before its turn is listed by nobody', async () => {
  const rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      writeFileSync(join(source, 'file'), 'x')
      mkdirSync(join(source, 'a'))
    },
  })
  try {
    const { catalog } = rig
    const errors: unknown[] = []
    for await (const _ of walk(rig.context, rig.overlay, (...error) => errors.push(error))) {
      const ino = catalog.dirents.get(ROOT_INO, Buffer.from('a'))?.ino
      if (ino === undefined) continue
      await rig.perform(async (overlay, request) => overlay.rmdir(request, ROOT_INO, Buffer.from('a')))
      const file = newInode(ino, catalog.numbers.nextGeneration())
      Object.assign(file, { mode: S_IFREG | 0o644, nlink: 1, authority: 'catalog' })
      catalog.transaction(() => {
        catalog.save(file)
        catalog.dirents.set(ROOT_INO, Buffer.from('again'), ino, undefined)
      })
    }
    expect(errors).toEqual([])
  } finally {
    await rig.stop()
  }
})
