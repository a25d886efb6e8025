import { execFileSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { S_IFDIR, S_IFREG } from '../../../../src/base/attributes.ts'
import { FLAG_APPEND, FLAG_IMMUTABLE } from '../../../../src/base/inode-flags.ts'
import { closeDescriptor, flagsOf, openAt } from '../../../../src/sys/index.ts'
import { MemoryTree } from '../../../support/restore/memory-tree.ts'
import { describeDirectory, describeTree } from '../../../support/restore/plain-tree.ts'
import { restoreTo } from '../../../support/restore/restore-to.ts'
import { ImageVolume, whyNoImage } from '../../../support/volume/image-volume.ts'

const EXT4 = ['mkfs.ext4', '-q', '-F'] as const
const reason = process.getuid?.() === 0 ? whyNoImage(EXT4) : 'needs root'
if (reason !== undefined) console.warn(`restore of guarded files: ${reason}`)

const NAMES = ['', 'imm', 'app', 'dir', 'dir/inside', 'dir/sub', 'dir/sub/deep', 'two', 'dir/too', 'free']

describe.skipIf(reason !== undefined)('files that chattr(1) guards, on an ext4 of their own', () => {
  let root: string
  let disk: string
  let volume: ImageVolume
  let tree: MemoryTree

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-guards-')))
    disk = join(root, 'disk')
    volume = new ImageVolume(join(root, 'image'), disk, EXT4)
    tree = new MemoryTree({ mode: S_IFDIR | 0o755, flags: FLAG_IMMUTABLE })
    const linked = tree.regular('with two names', { nlink: 2, flags: FLAG_IMMUTABLE })
    const directory = tree.directory({ flags: FLAG_IMMUTABLE })
    const sub = tree.directory({ flags: FLAG_APPEND })
    tree.put('imm', tree.regular('immutable', { mode: S_IFREG | 0o444, flags: FLAG_IMMUTABLE }))
    tree.put('app', tree.regular('to append to', { flags: FLAG_APPEND }))
    tree.put('two', linked)
    tree.put('dir', directory)
    tree.put('inside', tree.regular('in it'), directory)
    tree.put('too', linked, directory)
    tree.put('sub', sub, directory)
    tree.put('deep', tree.regular('deep', { flags: FLAG_APPEND }), sub)
    tree.put('free', tree.regular('free'))
  })

  afterEach(() => {
    volume.remove()
    rmSync(root, { recursive: true, force: true })
  })

  const flags = (path: string): string => {
    const descriptor = openAt(-100, Buffer.from(path), 0)
    try {
      const now = flagsOf(descriptor)
      return (now & FLAG_IMMUTABLE ? 'i' : '') + (now & FLAG_APPEND ? 'a' : '')
    } finally {
      closeDescriptor(descriptor)
    }
  }

  const allFlags = (dest: string): string[] => NAMES.map((name) => `${name} ${flags(join(dest, name))}`)
  const WANTED = [
    ' i',
    'imm i',
    'app a',
    'dir i',
    'dir/inside ',
    'dir/sub a',
    'dir/sub/deep a',
    'two i',
    'dir/too i',
    'free ',
  ]

  test('P5: are guarded again, directories and DEST itself with them', async () => {
    const dest = join(disk, 'back')
    const result = await restoreTo(tree, dest)
    expect(result.findings).toEqual([])
    expect(result).toMatchObject({ missing: 0, lacking: 0, finished: true })
    expect(allFlags(dest)).toEqual(WANTED)
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })

  test('P5: a run onto what an earlier one has guarded goes on, and mends what is not right there', async () => {
    const dest = join(disk, 'back')
    tree.put('late', 'it cannot be had yet')
    expect(await restoreTo(tree, dest)).toMatchObject({ missing: 1, finished: false })
    expect(allFlags(dest)).toEqual(WANTED.with(0, ' '))
    for (const name of ['imm', 'two']) {
      execFileSync('chattr', ['-i', join(dest, name)])
      writeFileSync(join(dest, name), 'what nobody')
      execFileSync('chattr', ['+i', join(dest, name)])
    }
    tree.top.entries.pop()
    tree.put('late', tree.regular('here', { flags: FLAG_IMMUTABLE }))
    expect(await restoreTo(tree, dest)).toMatchObject({ missing: 0, lacking: 0, finished: true })
    expect(allFlags(dest)).toEqual(WANTED)
    expect(flags(join(dest, 'late'))).toBe('i')
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })

  test('P5: what was a guarded file, and is a directory in the tree, gives way to it; and the other way round', async () => {
    const dest = join(disk, 'back')
    const other = new MemoryTree({ mode: S_IFDIR | 0o755 })
    other.put('imm', other.directory({ flags: FLAG_IMMUTABLE }))
    other.put('dir', other.regular('a file', { flags: FLAG_APPEND }))
    other.put('two', other.regular('another file', { flags: FLAG_IMMUTABLE }))
    other.put('late', 'it cannot be had')
    expect(await restoreTo(other, dest)).toMatchObject({ finished: false })
    expect(await restoreTo(tree, dest)).toMatchObject({ missing: 0, lacking: 0, finished: true })
    expect(allFlags(dest)).toEqual(WANTED)
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })
})

test.skipIf(reason !== undefined)('P5: a DEST without such flags is told of, file by file', async () => {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-guards-')))
  execFileSync('mount', ['-t', 'ramfs', 'none', root])
  try {
    const tree = new MemoryTree({ mode: S_IFDIR | 0o755 })
    const linked = tree.regular('with two names', { nlink: 2, flags: FLAG_APPEND })
    tree.put('imm', tree.regular('immutable', { flags: FLAG_IMMUTABLE }))
    tree.put('one', linked)
    tree.put('two', linked)
    tree.put('dir', tree.directory({ flags: FLAG_IMMUTABLE }))
    const { findings, finished } = await restoreTo(tree, join(root, 'back'))
    expect(finished).toBe(true)
    expect(
      findings.map(({ kind, path, reason }) => `${kind} ${path}: ${reason.split(' (')[0]}`).sort(),
    ).toEqual([
      'lacking dir: flags: the immutable flag is not set: DEST has nothing like it',
      'lacking imm: flags: the immutable flag is not set: DEST has nothing like it',
      'lacking one: flags: the append-only flag is not set: DEST has nothing like it',
    ])
  } finally {
    execFileSync('umount', [root])
    rmSync(root, { recursive: true })
  }
})
