import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT_INO } from '../../../src/catalog/index.ts'
import {
  hasMarkFile,
  isSameRoot,
  LegacyTree,
  type OwnerMark,
  readMark,
  removeMark,
  rootIdentity,
  writeMark,
} from '../../../src/legacy/index.ts'
import { MadeMounts } from '../../support/volume/known-mounts.ts'

const isRoot = process.geteuid?.() === 0
const FILE = '.ferryfs-owner'

let directory: string
let volume: string
let root: number

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-mark-'))
  volume = join(directory, 'volume')
  mkdirSync(volume)
  root = openSync(volume, 'r')
})

afterEach(() => {
  closeSync(root)
  rmSync(directory, { recursive: true, force: true })
})

const markOf = (descriptor: number): OwnerMark => ({
  id: '7f1b8f2e-4e0e-4d0b-9a55-0c2f2f0f6a11',
  namespace: 'ferryfs',
  store: 'riak://host:8087/',
  stateDir: '/var/lib/ferryfs/state',
  source: '/srv/data',
  root: rootIdentity(descriptor),
})

/** Mounts a file system of a test's own on a directory; what unmounts it. */
function mountedOn(...args: string[]): () => void {
  execFileSync('mount', args, { stdio: 'ignore' })
  const target = args.at(-1) ?? ''
  return () => execFileSync('umount', [target])
}

describe('P3: the mark of a volume', () => {
  it('says who knows the rest, until it is removed; files and times of the root stay as they are', () => {
    const { mtimeNs } = statSync(volume, { bigint: true })
    expect(readMark(root)).toBeUndefined()
    writeMark(root, markOf(root))
    expect(readMark(root)).toEqual({ kind: 'whole', id: markOf(root).id, mark: markOf(root) })
    writeMark(root, { ...markOf(root), stateDir: '/moved' })
    expect(readMark(root)).toMatchObject({ mark: { stateDir: '/moved' } })
    removeMark(root)
    removeMark(root)
    expect(readMark(root)).toBeUndefined()
    expect(statSync(volume, { bigint: true }).mtimeNs).toBe(mtimeNs)
  })

  it('tells the directory that was marked from a copy of it', () => {
    writeMark(root, markOf(root))
    cpSync(volume, join(directory, 'copy'), { recursive: true })
    const copy = openSync(join(directory, 'copy'), 'r')
    try {
      expect(isSameRoot(markOf(root).root, rootIdentity(root))).toBe(true)
      expect(isSameRoot(markOf(root).root, rootIdentity(copy))).toBe(false)
      expect(isSameRoot({ ...rootIdentity(root), btimeNs: '0' }, rootIdentity(root))).toBe(true)
    } finally {
      closeSync(copy)
    }
  })

  it.skipIf(!isRoot)(
    'where the file system has no attributes is a file, which nobody sees or reaches',
    () => {
      const unmount = mountedOn('-t', 'ramfs', 'none', volume)
      const there = openSync(volume, 'r')
      const placesOf = () => ({ places: [], legacyIno: undefined })
      const tree = new LegacyTree(volume, ROOT_INO, {
        placesOf,
        follow: () => 'other',
        mounts: new MadeMounts(),
      })
      try {
        writeFileSync(join(volume, 'data'), '')
        mkdirSync(join(volume, 'below'))
        writeFileSync(join(volume, 'below', FILE), "an application's own")
        const { mtimeNs } = statSync(volume, { bigint: true })
        writeMark(there, markOf(there))
        expect(hasMarkFile(there)).toBe(true)
        expect(readMark(there)).toMatchObject({ kind: 'whole', mark: { namespace: 'ferryfs' } })
        expect(statSync(join(volume, FILE)).mode & 0o777).toBe(0o600)
        expect(readFileSync(join(volume, FILE), 'utf8')).toMatch(/Do not remove this mark/)
        expect(statSync(volume, { bigint: true }).mtimeNs).toBe(mtimeNs)
        tree.hidesOwnFiles = true
        expect([...tree.batches(ROOT_INO)].flat().map(({ name }) => name.toString())).toEqual(
          ['data', 'below'].sort(),
        )
        expect(() => tree.find({ parent: ROOT_INO, name: Buffer.from(FILE) })).toThrow(/kept by ferryfs/)
        expect(tree.find({ parent: ROOT_INO, name: Buffer.from('data') })).toBeDefined()
        removeMark(there)
        expect(existsSync(join(volume, FILE))).toBe(false)
      } finally {
        tree.close()
        closeSync(there)
        unmount()
      }
    },
  )

  it.skipIf(!isRoot)(
    "a file of that name that is somebody else's is no mark, and is not written over",
    () => {
      const unmount = mountedOn('-t', 'ramfs', 'none', volume)
      const there = openSync(volume, 'r')
      try {
        const file = join(volume, FILE)
        for (const make of [
          () => {
            writeFileSync(file, JSON.stringify(markOf(there)))
            chownSync(file, 12_345, 12_345)
          },
          () => {
            writeFileSync(file, JSON.stringify(markOf(there)))
            chmodSync(file, 0o666)
          },
          () => symlinkSync('/etc/passwd', file),
          () => mkdirSync(file),
        ]) {
          make()
          expect(readMark(there)).toBeUndefined()
          expect(() => writeMark(there, markOf(there))).toThrow(/in the way of its mark/)
          rmSync(file, { recursive: true })
        }
      } finally {
        closeSync(there)
        unmount()
      }
    },
  )

  it.skipIf(!isRoot)('has room on a volume that is full to the last block', () => {
    const image = join(directory, 'image')
    execFileSync('truncate', ['-s', '16M', image])
    execFileSync('mkfs.ext4', ['-q', '-m', '0', '-b', '1024', '-I', '256', image])
    const unmount = mountedOn('-o', 'loop', image, volume)
    const there = openSync(volume, 'r')
    try {
      for (const bytes of [1 << 20, 1024, 1]) fill(join(volume, `filler${bytes}`), bytes)
      writeMark(there, markOf(there))
      expect(readMark(there)).toEqual({ kind: 'short', id: markOf(there).id })
      rmSync(join(volume, `filler${1024}`))
      rmSync(join(volume, `filler${1 << 20}`))
      writeMark(there, markOf(there))
      expect(readMark(there)).toMatchObject({ kind: 'whole' })
    } finally {
      closeSync(there)
      unmount()
    }
  })

  it.each(['', '{', '[]', '{"id":7}', '{"id":"x","format":2,"namespace":"n"}'])(
    'that is not understood is a mark all the same: %j',
    (text) => {
      if (!isRoot) return
      const hex = `0x${Buffer.from(text).toString('hex')}`
      execFileSync('setfattr', ['-n', 'trusted.ferryfs.owner', '-v', hex, volume])
      expect(readMark(root)).toMatchObject({ kind: 'unreadable' })
    },
  )
})

/** Writes pieces of this size until there is no room for one more. */
function fill(path: string, bytes: number): void {
  const piece = Buffer.alloc(bytes)
  const file = openSync(path, 'w')
  try {
    for (;;) writeFileSync(file, piece)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
  } finally {
    closeSync(file)
  }
}
