import {
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Finding, selectionOf } from '../../../../src/migration/index.ts'
import { byDescriptor } from '../../../../src/sys/index.ts'
import { MemoryTree } from '../../../support/restore/memory-tree.ts'
import { describeDirectory, describeTree } from '../../../support/restore/plain-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'

const WORK = '.ferryfs-restore'

let root: string
let dest: string
let tree: MemoryTree

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-restore-')))
  dest = join(root, 'dest')
  tree = new MemoryTree()
  const sub = tree.directory()
  const linked = tree.regular('with two names', { nlink: 2, uid: 9 })
  tree.put('plain', tree.regular('some bytes'))
  tree.put('other', tree.regular('more bytes'))
  tree.put('link', tree.symlink('plain'))
  tree.put('one', linked)
  tree.put('sub', sub)
  tree.put('two', linked, sub)
  tree.put('deeper', tree.directory(), sub)
})

afterEach(() => rmSync(root, { recursive: true, force: true }))

const at = (...names: string[]): string => join(dest, ...names)
const lines = (findings: readonly Finding[]): string[] =>
  findings.map(({ path, kind, reason }) => `${kind} ${path}: ${reason}`).sort()
const others = (...paths: string[]): unknown[] =>
  paths.map((path) => expect.stringMatching(`^missing ${path}: DEST has something else there`))

/** As a run leaves DEST that is killed when all but the end of it is done. */
async function restoreToTheEnd(...paths: string[]): Promise<void> {
  const selection = selectionOf(paths.map((path) => [Buffer.from(path)]))
  expect((await restoreTo(tree, dest, { selection })).finished).toBe(true)
  const descriptor = openSync(dest, 'r')
  byDescriptor.setXattr(descriptor, Buffer.from('trusted.ferryfs.restore'), Buffer.from('test'))
  closeSync(descriptor)
}

describe('a DEST that a restore had opened, but did not come to its end', () => {
  test('P5: what a part had left out comes with the whole, and DEST is as if in one run', async () => {
    await restoreToTheEnd('sub')
    const { findings, files } = await restoreTo(tree, dest)
    expect(lines(findings)).toEqual([])
    expect(files).toBe(5)
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
    await expect(restoreTo(tree, dest)).rejects.toThrow(/is not empty/)
  })

  test('P1 P5: what is not as in the tree is told of, each time, and stays until it is removed', async () => {
    await restoreToTheEnd()
    for (const name of ['plain', 'link', 'one', 'other', 'sub/deeper']) rmSync(at(name), { recursive: true })
    writeFileSync(at('plain'), 'newer')
    symlinkSync('elsewhere', at('link'))
    writeFileSync(at('one'), 'with one name.')
    mkdirSync(at('other'))
    writeFileSync(at('sub', 'deeper'), 'a file now')
    writeFileSync(at('mine'), 'not in the tree')
    for (const run of ['first', 'second']) {
      const { findings, finished } = await restoreTo(tree, dest)
      expect(finished, run).toBe(false)
      expect(lines(findings), run).toEqual([
        'extra mine: it is in DEST and not in the tree; remove it in DEST, and run the same command again',
        ...others('link', 'one', 'other', 'plain', 'sub/deeper'),
      ])
    }
    expect(readFileSync(at('plain'), 'utf8')).toBe('newer')
    expect(readlinkSync(at('link'))).toBe('elsewhere')
    expect(readFileSync(at('one'), 'utf8')).toBe('with one name.')
    expect(readdirSync(at('other'))).toEqual([])
    expect(readFileSync(at('sub', 'deeper'), 'utf8')).toBe('a file now')
    expect(statSync(dest).mode & 0o7777).toBe(0o700)
    for (const name of ['plain', 'link', 'one', 'other', 'sub/deeper', 'mine'])
      rmSync(at(name), { recursive: true })
    expect(lines((await restoreTo(tree, dest)).findings)).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })

  test('P1: nobody is given a file that is not his by a name that he made of it there', async () => {
    await restoreToTheEnd()
    const outside = join(root, 'outside of DEST')
    writeFileSync(outside, 'with two names')
    chownSync(outside, 77, 77)
    for (const name of ['one', 'sub/two']) {
      rmSync(at(name))
      linkSync(outside, at(name))
    }
    expect(lines((await restoreTo(tree, dest)).findings)).toEqual([])
    expect(statSync(outside)).toMatchObject({ uid: 77, gid: 77, nlink: 1 })
    expect(statSync(at('one'))).toMatchObject({ uid: 9, nlink: 2 })
  })

  test('a restore of another namespace is refused in one line, and changes nothing', async () => {
    await restoreToTheEnd('sub')
    const before = statSync(dest)
    await expect(restoreTo(tree, dest, { namespace: 'another' })).rejects.toThrow(
      'in DEST a restore of namespace test is under way, not of another; give another DEST',
    )
    expect(existsSync(at(WORK))).toBe(false)
    expect(statSync(dest)).toMatchObject({ mode: before.mode, ctimeMs: before.ctimeMs })
  })
})
