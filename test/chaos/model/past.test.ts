import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { describePower } from '../../support/power/power-ferry.ts'
import { PowerDisks } from '../../support/power/power-disks.ts'
import type { Action, Reply } from '../actions.ts'
import { pattern } from '../actions.ts'
import { Client } from '../clients/client.ts'
import { walkTree } from '../clients/walk.ts'
import { type Script, scripts } from '../script.ts'
import { seedVolume } from '../seeds.ts'
import { differences } from './compare.ts'
import { Subtree } from './subtree.ts'
import { Tree } from './tree.ts'

const CALL_MS = 30_000
const WHOLE_FILE = 8 << 20
const SHARED = new Set<Action['do']>(['record', 'publish'])
const done: Reply = { id: 0 }
const never = (): boolean => false

function write(path: string, length: number, seed: number, more: object = {}): Action {
  return { do: 'write', path, offset: 0, length, seed, ...more }
}

/** An empty subtree after these actions, and a power cut. */
function cutAfter(...actions: readonly Action[]): Subtree {
  const subtree = new Subtree(new Tree())
  for (const action of actions) subtree.answered(action, done, never)
  subtree.cut()
  return subtree
}

const namesOf = (subtree: Subtree): string[] =>
  subtree.trees.map((tree) => [...tree.paths()].map(([path]) => path).join(' ')).sort()

function reads(subtree: Subtree, path: string, data: Buffer): () => void {
  const action: Action = { do: 'read', path, offset: 0, length: WHOLE_FILE, direct: true }
  return () => subtree.answered(action, { id: 0, data: data.toString('base64') }, never)
}

describe('what a power cut may leave', () => {
  test('P2: names are there as far as some moment, from the last sync on', () => {
    const subtree = cutAfter(
      { do: 'mkdir', path: 'd0', mode: 0o755 },
      write('a', 10, 1, { fsync: true }),
      write('b', 10, 2),
      { do: 'rename', from: 'b', to: 'c' },
    )
    expect(namesOf(subtree)).toEqual([' a b d0', ' a c d0', ' a d0'])
  })

  test('P2: what was synced is there byte for byte, and nothing else is', () => {
    const content = pattern(1, 5000)
    const synced = cutAfter(write('a', 5000, 9), write('a', 5000, 1, { fsync: true }))
    expect(reads(synced, 'a', pattern(9, 5000))).toThrow('other bytes')
    expect(reads(synced, 'a', Buffer.alloc(5000))).toThrow('zeros')
    expect(reads(synced, 'a', content)).not.toThrow()
    expect(() => synced.lost('a')).toThrow('was synced')
  })

  test('P2: a write over synced bytes leaves the old or the new ones, never zeros', () => {
    const actions = [write('a', 8192, 1, { fsync: true }), write('a', 8192, 2)]
    const [old, fresh] = [pattern(1, 8192), pattern(2, 8192)]
    const torn = Buffer.concat([fresh.subarray(0, 4096), old.subarray(4096)])
    for (const data of [old, fresh, torn]) expect(reads(cutAfter(...actions), 'a', data)).not.toThrow()
    expect(reads(cutAfter(...actions), 'a', Buffer.alloc(8192))).toThrow('which nobody wrote')
  })

  test('P2: what was never synced may be lost, and the sync of another file does not save its bytes', () => {
    const subtree = cutAfter(write('a', 100, 1), write('b', 100, 2, { fsync: true }))
    expect(namesOf(subtree)).toEqual([' a b'])
    expect(() => subtree.lost('a')).not.toThrow()
    expect(() => subtree.lost('b')).toThrow('was synced')
  })

  test('P2: a file that was unlinked may be back, with what was synced of it', () => {
    const actions = [write('a', 100, 1, { fsync: true }), { do: 'unlink', path: 'a' } as const]
    expect(namesOf(cutAfter(...actions))).toEqual(['', ' a'])
    expect(namesOf(cutAfter(...actions, { do: 'syncDirectory', path: '' }))).toEqual([''])
    expect(reads(cutAfter(...actions), 'a', Buffer.alloc(100))).toThrow()
  })
})

/** What a script has one client do, but for what takes others. */
function actionsOf({ phases }: Script, client: number): Action[] {
  return phases.flatMap(({ before, during, after }) =>
    [before, during, after].flatMap((turns) => turns[client] ?? []).filter((one) => !SHARED.has(one.do)),
  )
}

async function observe(subtree: Subtree, client: Client, root: string): Promise<void> {
  const walked = walkTree(Buffer.from(root), { content: false })
  subtree.observed((tree) => differences(tree, walked, { content: false }))
  for (const path of new Set(subtree.trees.flatMap((tree) => tree.doubtful()))) {
    const action: Action = { do: 'read', path, offset: 0, length: WHOLE_FILE, direct: false }
    subtree.answered(action, await client.call(action, CALL_MS), never)
  }
  subtree.settled()
}

// What ext4 itself does is allowed: whoever is served by the overlay has the same right to complain as there.
describePower('a local file system', () => {
  test.each([1, 2])('P2: leaves after a power cut what the model allows (seed %i)', async (seed) => {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-chaos-past-')))
    const mounted = join(root, 'disk')
    const disks = await PowerDisks.make(join(root, 'images'), [mounted])
    const clients: Client[] = []
    try {
      const { subtrees } = seedVolume(mounted, [])
      await disks.sync()
      const drawn = fc.sample(scripts(Array(4).fill('power-cut')), { seed, numRuns: 2 })
      for (const script of drawn) {
        for (const [index, subtree] of subtrees.entries()) {
          const directory = join(mounted, `c${index}`)
          const client = new Client(`c${index}`, directory)
          clients.push(client)
          for (const action of actionsOf(script, index)) {
            const plain = action.do === 'read' ? { ...action, direct: false } : action
            subtree.answered(plain, await client.call(plain, CALL_MS), never)
          }
          if (index === 0) disks.commitJournals()
        }
        const comeBack = await disks.cut()
        for (const client of clients.splice(0)) await client.end()
        await comeBack()
        for (const [index, subtree] of subtrees.entries()) {
          subtree.releaseAll()
          subtree.cut()
          const client = new Client(`c${index}`, join(mounted, `c${index}`))
          await observe(subtree, client, join(mounted, `c${index}`))
          await client.end()
        }
      }
    } finally {
      for (const client of clients) await client.end()
      await disks.remove()
      rmSync(root, { recursive: true, force: true })
    }
  })
})
