import { closeSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { selectionOf } from '../../../../src/migration/index.ts'
import { byDescriptor } from '../../../../src/sys/index.ts'
import { MemoryTree } from '../../../support/restore/memory-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'

const MARK = Buffer.from('trusted.ferryfs.owner')

describe('a DEST that is a drained SOURCE', () => {
  let root: string
  let dest: string
  let tree: MemoryTree

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-restore-')))
    dest = join(root, 'dest')
    mkdirSync(dest)
    onDest((descriptor) => byDescriptor.setXattr(descriptor, MARK, Buffer.from('mark')))
    tree = new MemoryTree()
    tree.put('part', tree.regular('some bytes'))
    tree.put('other', tree.regular('more bytes'))
  })

  afterEach(() => rmSync(root, { recursive: true, force: true }))

  function onDest<T>(look: (descriptor: number) => T): T {
    const descriptor = openSync(dest, 'r')
    try {
      return look(descriptor)
    } finally {
      closeSync(descriptor)
    }
  }

  const isMarked = (): boolean =>
    onDest((descriptor) => byDescriptor.listXattrs(descriptor).some((name) => name.equals(MARK)))

  test('P5: keeps its mark where a part of the tree is written, and loses it with the whole', async () => {
    const selection = selectionOf([[Buffer.from('part')]])
    expect((await restoreTo(tree, dest, { selection })).finished).toBe(true)
    expect(isMarked()).toBe(true)
    rmSync(join(dest, 'part'))
    expect((await restoreTo(tree, dest)).finished).toBe(true)
    expect(isMarked()).toBe(false)
  })

  test('P5: keeps it while something is missing, accepted or not, and while something is there that is not in the tree', async () => {
    tree.put('lost', 'its object is lost')
    expect((await restoreTo(tree, dest)).finished).toBe(false)
    expect(isMarked()).toBe(true)
    writeFileSync(join(dest, 'mine'), 'not yours')
    const { missing, extra, finished } = await restoreTo(tree, dest, { acceptMissing: true })
    expect([missing, extra, finished]).toEqual([1, 1, true])
    expect(isMarked()).toBe(true)
  })
})
