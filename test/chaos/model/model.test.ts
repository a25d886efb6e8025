import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Action } from '../actions.ts'
import { Client } from '../clients/client.ts'
import { walkTree } from '../clients/walk.ts'
import { scripts } from '../script.ts'
import { seedVolume } from '../seeds.ts'
import { differences } from './compare.ts'
import { Subtree } from './subtree.ts'

const CALL_MS = 30_000
const SHARED = new Set<Action['do']>(['record', 'publish'])
let directory = ''

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-chaos-model-'))
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

const never = (): boolean => false

test('P1: the model answers as a local file system does', async () => {
  const [script] = fc.sample(scripts(['none', 'none', 'none', 'none']), { seed: 4711, numRuns: 1 })
  const { subtrees } = seedVolume(directory, [])
  for (const [index, subtree] of subtrees.entries()) {
    const root = join(directory, `c${index}`)
    const client = new Client(`c${index}`, root)
    try {
      for (const { before, during, after } of script?.phases ?? []) {
        for (const action of [before, during, after].flatMap((turns) => turns[index] ?? [])) {
          if (SHARED.has(action.do)) continue
          // Direct I/O of a local disk wants aligned buffers; of a FUSE mount it does not.
          const plain = action.do === 'read' ? { ...action, direct: false } : action
          subtree.answered(plain, await client.call(plain, CALL_MS), never)
        }
      }
      const walked = walkTree(Buffer.from(root), { content: true })
      subtree.observed((tree) => differences(tree, walked, { content: true }))
    } finally {
      await client.end()
    }
  }
})

test('P1: an excused failure leaves both outcomes open until one is seen', () => {
  const { subtrees } = seedVolume(directory, [])
  const [subtree] = subtrees
  if (!subtree) throw new Error('no subtree')
  const excused = (_action: Action, errno: string): boolean => errno === 'EIO'
  const stat = (size: number) => ({
    id: 0,
    stat: { type: 'file' as const, mode: 0o644, size, links: 1, mtime: 0, ino: '1' },
  })
  subtree.answered({ do: 'unlink', path: 'a' }, { id: 0, errno: 'EIO', step: 'unlink' }, excused)
  expect(subtree.trees).toHaveLength(2)
  const look: Action = { do: 'stat', path: 'a' }
  const [untouched] = subtree.trees
  if (!untouched) throw new Error('no tree')
  const seen = new Subtree(untouched)
  expect(() => seen.answered(look, stat(5000), never)).not.toThrow()
  subtree.answered(look, { id: 0, errno: 'ENOENT', step: 'stat' }, never)
  expect(subtree.trees).toHaveLength(1)
  expect(() => subtree.answered(look, stat(5000), never)).toThrow('expected ENOENT')
})

test('P1: bytes that neither the old nor the new content has are noticed although a write failed', () => {
  const { subtrees } = seedVolume(directory, [])
  const [subtree] = subtrees
  if (!subtree) throw new Error('no subtree')
  const write: Action = { do: 'write', path: 'a', offset: 0, length: 5000, seed: 99 }
  const failed = { id: 0, errno: 'EIO', step: 'write', written: 0 }
  subtree.answered(write, failed, (_action, errno) => errno === 'EIO')
  const wrong = Buffer.alloc(5000, 0x7f).toString('base64')
  const read: Action = { do: 'read', path: 'a', offset: 0, length: 9000, direct: false }
  expect(() => subtree.answered(read, { id: 0, data: wrong }, never)).toThrow('which nobody wrote')
})
