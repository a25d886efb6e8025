import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { selectionOf } from '../../../../src/migration/index.ts'
import { MemoryTree } from '../../../support/restore/memory-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'

let root: string
let dest: string
let tree: MemoryTree

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-restore-')))
  dest = join(root, 'dest')
  tree = new MemoryTree()
  const sub = tree.directory()
  tree.put('plain', tree.regular('some bytes'))
  tree.put('link', tree.symlink('sub/../plain'))
  tree.put('sub', sub)
  tree.put('file', tree.regular('x'), sub)
  tree.put('deeper', tree.directory(), sub)
})

afterEach(() => rmSync(root, { recursive: true, force: true }))

describe('P5: a PATH leads by names of the tree alone', () => {
  const part = (...paths: string[]) =>
    selectionOf(paths.map((path) => path.split('/').map((name) => Buffer.from(name))))

  test.each([
    { paths: ['link/x/y', 'link/z'], missing: ['link/x/y: link is a symlink', 'link/z: link is a symlink'] },
    { paths: ['plain/x'], missing: ['plain/x: plain is no directory'] },
    { paths: ['sub/nothing', 'none/x'], missing: ['none: it is not in', 'sub/nothing: it is not in'] },
    { paths: ['link', 'link/x'], missing: ['link/x: link is a symlink'], there: ['link'] },
    { paths: ['link/x', 'link'], missing: ['link/x: link is a symlink'], there: ['link'] },
    {
      paths: ['sub', 'sub/none', 'sub/deeper/none/x'],
      missing: ['sub/deeper/none: it is', 'sub/none: it is'],
    },
  ])('$paths', async ({ paths, missing, there }) => {
    const { findings, finished } = await restoreTo(tree, dest, { selection: part(...paths) })
    const lines = findings.map(({ path, kind, reason }) => `${path}: ${reason} (${kind})`).sort()
    expect(lines).toHaveLength(missing.length)
    for (const [index, line] of lines.entries())
      expect(line.startsWith(missing[index] ?? '-'), line).toBe(true)
    expect(lines.every((line) => line.endsWith('(missing)'))).toBe(true)
    expect(finished).toBe(false)
    const [top = ''] = paths[0]?.split('/') ?? []
    expect(readdirSync(dest)).toEqual(['.ferryfs-restore', ...(there ?? (top === 'sub' ? ['sub'] : []))])
  })
})
