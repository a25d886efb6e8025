import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isBelow } from '../../../src/daemon/locate.ts'

const isRoot = process.geteuid?.() === 0

describe('P1: what lies in a directory', () => {
  let root: string
  const ends: (() => void)[] = []
  const at = (path: string): string => join(root, path)

  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-locate-')))
    mkdirSync(at('source/inner'), { recursive: true })
    mkdirSync(at('other'))
  })

  afterEach(() => {
    for (const end of ends.splice(0).reverse()) end()
    rmSync(root, { recursive: true })
  })

  it('is found by its path, there or not', async () => {
    for (const path of ['source', 'source/inner', 'source/new/one'])
      expect(await isBelow(at(path), at('source')), path).toBe(true)
    for (const path of ['other', 'source2', '.', 'other/new'])
      expect(await isBelow(at(path), at('source')), path).toBe(false)
    expect(await isBelow(at('source'), at('none'))).toBe(false)
    expect(await isBelow('/', '/')).toBe(true)
  })

  it('is found by another name of the same directory', async () => {
    // A symlink stands for what a volume does that folds case: none can be made on every machine.
    symlinkSync(at('source'), at('SOURCE'))
    for (const path of ['SOURCE', 'SOURCE/inner', 'SOURCE/new/one'])
      expect(await isBelow(at(path), at('source')), path).toBe(true)
    expect(await isBelow(at('SOURCE'), at('source/inner'))).toBe(false)
  })

  it.skipIf(!isRoot)('is found by a bind mount', async () => {
    execFileSync('mount', ['--bind', at('source'), at('other')])
    ends.push(() => void execFileSync('umount', [at('other')]))
    expect(await isBelow(at('other/new/one'), at('source'))).toBe(true)
    expect(await isBelow(at('other'), at('source/inner'))).toBe(false)
  })
})
