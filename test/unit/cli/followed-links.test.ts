import { chmodSync, lchownSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { followedBySelf } from '../../../src/cli/followed-links.ts'

const SOMEBODY = 12345
const isRoot = process.getuid?.() === 0
let root: string

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-links-')))
  mkdirSync(join(root, 'disk/sub'), { recursive: true })
})

afterEach(() => rmSync(root, { recursive: true }))

const at = (path: string): string => join(root, path)
const followed = (path: string): string => followedBySelf('DEST', at(path))

describe('a place that is to be written to', () => {
  test('P1: is itself no symlink, whoever made it, whether it leads to something or not', () => {
    symlinkSync(at('disk'), at('link'))
    symlinkSync(at('disk/new'), at('dangling'))
    expect(() => followed('link')).toThrow(
      `DEST ${at('link')}: it is a symlink to ${at('disk')}; give the directory by a path without it`,
    )
    expect(() => followed('dangling')).toThrow('it is a symlink')
    // Nor where a symlink on the way leads to one.
    symlinkSync(at('disk'), at('way'))
    symlinkSync(at('disk/sub'), at('disk/inner'))
    expect(() => followed('way/inner')).toThrow('it is a symlink')
  })

  test('P1: is reached by the symlinks on the way that nobody else can change', () => {
    symlinkSync('disk', at('link'))
    symlinkSync('../disk/./sub', at('disk/up'))
    symlinkSync(at('disk/up'), at('chain'))
    expect(followed('link/sub')).toBe(at('disk/sub'))
    expect(followed('link/up/new/dir')).toBe(at('disk/sub/new/dir'))
    expect(followed('chain/new')).toBe(at('disk/sub/new'))
    expect(followed('disk/sub')).toBe(at('disk/sub'))
    expect(followed('not/there')).toBe(at('not/there'))
  })

  test.runIf(isRoot)('P1: is not reached by a symlink in a directory of somebody else', () => {
    mkdirSync(at('home/dir'), { recursive: true })
    symlinkSync(at('disk'), at('home/link'))
    lchownSync(at('home'), SOMEBODY, SOMEBODY)
    expect(() => followed('home/link/new')).toThrow(`${at('home/link')} is a symlink that others can change`)
    // He can put another directory in the place of one that is not his.
    symlinkSync(at('disk'), at('home/dir/link'))
    expect(() => followed('home/dir/link/new')).toThrow('is a symlink that others can change')
    expect(followed('home/dir/new')).toBe(at('home/dir/new'))
  })

  test.runIf(isRoot)(
    'P1: nor in one that others may write to, unless it keeps their hands off what is ours',
    () => {
      mkdirSync(at('open'))
      symlinkSync(at('disk'), at('open/link'))
      chmodSync(at('open'), 0o777)
      expect(() => followed('open/link/new')).toThrow('is a symlink that others can change')
      chmodSync(at('open'), 0o1777)
      expect(followed('open/link/new')).toBe(at('disk/new'))
      lchownSync(at('open/link'), SOMEBODY, SOMEBODY)
      expect(() => followed('open/link/new')).toThrow('is a symlink that others can change')
    },
  )

  test('P6: does not lead round and round', () => {
    symlinkSync(at('b'), at('a'))
    symlinkSync(at('a'), at('b'))
    expect(() => followed('a/new')).toThrow('too many symlinks are on the way')
  })
})
