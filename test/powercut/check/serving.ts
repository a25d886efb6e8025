import { join } from 'node:path'
import { policyOf } from '../../../src/base/modes.ts'
import type { Tree } from '../app/history.ts'
import { contentOf } from '../disk/image.ts'
import { wait } from '../machine/time.ts'
import type { Daemon } from '../product/daemon.ts'
import { Kernel } from '../product/kernel.ts'
import { snapshot } from '../recording/snapshot.ts'
import type { Problem } from './compare.ts'

const LONG_RUN = { onProgress: () => undefined, signal: new AbortController().signal }
const SETTLE_MS = 120_000

/** What a product that serves again shows, at once and when all is done that it owes. */
export async function checkServing(
  daemon: Daemon,
  root: string,
  isPossible: (seen: Tree) => Problem[],
): Promise<Problem[]> {
  const kernel = new Kernel(daemon)
  const first = await kernel.tree()
  const problems = isPossible(first)
  if (problems.length > 0) return problems
  const policy = policyOf(daemon.engine.status().mode, false)
  await wait(daemon.engine.settle(SETTLE_MS), 'what is owed to the store')
  if (policy.copies) {
    await wait(daemon.engine.migrate({}, LONG_RUN), 'the migration')
    const { outboxLeft } = await wait(daemon.engine.settle(SETTLE_MS), 'what is owed to the store')
    if (outboxLeft > 0) return [{ kind: 'owed', path: '/', detail: `${outboxLeft} left for the store` }]
  }
  const settled = await kernel.tree()
  const changed = differences(first, settled)
  if (changed.length > 0) return changed
  const { differences: found } = await wait(daemon.engine.verify(LONG_RUN), 'verify')
  // A mode that copies nothing says so of what is to be copied.
  const wrong = found.filter(({ kind }) => policy.copies || kind !== 'pending')
  if (wrong.length > 0)
    return wrong.map(({ path, kind, detail }) => ({ kind: `verify ${kind}`, path, detail }))
  if (policy.writeTo === 'legacy') return compareVolume(settled, join(root, 'volume'))
  return []
}

/** Names and content are what they were. */
function differences(before: Tree, after: Tree): Problem[] {
  const problems: Problem[] = []
  for (const path of new Set([...before.keys(), ...after.keys()])) {
    const [one, other] = [before.get(path), after.get(path)]
    if (!one || !other) problems.push({ kind: 'changed by itself', path, detail: one ? 'is gone' : 'came' })
    else if (!isSame(one.content, other.content) || one.target !== other.target) {
      problems.push({ kind: 'changed by itself', path, detail: 'has other content once all is in the store' })
    }
  }
  return problems
}

type Content = Buffer | string | undefined
const isSame = (one: Content, other: Content): boolean =>
  Buffer.isBuffer(one) && Buffer.isBuffer(other) ? one.equals(other) : one === other

/** P5: the volume has what the overlay shows. */
function compareVolume(seen: Tree, path: string): Problem[] {
  const volume = snapshot(path)
  const problems: Problem[] = []
  const left = new Set(seen.keys())
  const visit = (ino: number, at: string): void => {
    const file = volume.files.get(ino)
    for (const [name, child] of file?.children ?? []) {
      const below = `${at}/${name}`
      left.delete(below)
      const there = seen.get(below)
      const own = volume.files.get(child)
      if (!there || !own) problems.push({ kind: 'volume', path: below, detail: 'is on the volume only' })
      else if (Buffer.isBuffer(there.content) && !there.content.equals(contentOf(own))) {
        problems.push({ kind: 'volume', path: below, detail: 'has other bytes on the volume' })
      }
      visit(child, below)
    }
  }
  visit(volume.root, '')
  for (const path of left) problems.push({ kind: 'volume', path, detail: 'is not on the volume' })
  return problems
}
