import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readdirSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { type OwnerMark, readMark, rootIdentity, writeMark } from '../../../src/legacy/index.ts'

let isFull = false
vi.mock('../../../src/sys/index.ts', async (original) => {
  const sys = await original<typeof import('../../../src/sys/index.ts')>()
  return {
    ...sys,
    writeNow: (...args: Parameters<typeof sys.writeNow>) => {
      if (isFull) throw new FsError('ENOSPC')
      return sys.writeNow(...args)
    },
  }
})

// ramfs has no extended attributes, so the mark is a file.
describe.skipIf(process.geteuid?.() !== 0)(
  'P3: the mark of a full volume without extended attributes',
  () => {
    let volume: string
    let root: number

    beforeEach(() => {
      volume = mkdtempSync(join(tmpdir(), 'ferryfs-mark-'))
      execFileSync('mount', ['-t', 'ramfs', 'none', volume], { stdio: 'ignore' })
      root = openSync(volume, 'r')
    })

    afterEach(() => {
      isFull = false
      closeSync(root)
      execFileSync('umount', [volume])
      rmdirSync(volume)
    })

    const markOf = (epoch: number, stateDir = '/state'): OwnerMark => ({
      id: 'id',
      namespace: 'ferryfs',
      store: 'embedded:/store',
      stateDir,
      source: '/srv/data',
      root: rootIdentity(root),
      epoch,
    })

    test('stays that of an earlier mount, and says all but the epoch', () => {
      writeMark(root, markOf(1))
      isFull = true
      writeMark(root, markOf(2))
      expect(readMark(root)).toMatchObject({ kind: 'whole', mark: markOf(1) })
      expect(readdirSync(volume)).toEqual(['.ferryfs-owner'])
    })

    test('is refused where it says something else', () => {
      writeMark(root, markOf(1))
      isFull = true
      expect(() => writeMark(root, markOf(2, '/other'))).toThrow('ENOSPC')
      expect(readMark(root)).toMatchObject({ kind: 'whole', mark: markOf(1) })
    })
  },
)
