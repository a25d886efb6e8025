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
  { root, isReadonly }: { readonly root: string; readonly isReadonly: boolean },
  isPossible: (seen: Tree) => Problem[],
): Promise<{ problems: Problem[]; settled: Tree | undefined }> {
  const kernel = new Kernel(daemon)
  const first = await kernel.tree()
  const problems = isPossible(first)
  if (problems.length > 0) return { problems, settled: undefined }
  const lost = new Set([...first].filter(([, file]) => file.lost.size > 0).map(([path]) => path))
  const policy = policyOf((await daemon.engine.status()).mode, isReadonly)
  const owed = await settle(daemon, policy.copies)
  // What is lost cannot be stored, and is no reason to hold up the rest.
  if (owed.length > lost.size) {
    return { problems: [{ kind: 'owed', path: '/', detail: owed.join('; ') }], settled: undefined }
  }
  // Whatever the cut has left in the store that nobody knows of goes, and nothing that is needed with it.
  if (policy.copies) await stage(daemon, 'sweep', daemon.engine.sweep({ dryRun: false, all: true }, LONG_RUN))
  const settled = await kernel.tree()
  const changed = differences(first, settled)
  if (changed.length > 0) return { problems: changed, settled: undefined }
  const found = await verified(daemon, policy.copies, lost, first)
  if (found.length > 0) return { problems: found, settled: undefined }
  const onVolume = policy.writeTo === 'legacy' ? compareVolume(settled, join(root, 'volume')) : []
  return { problems: onVolume, settled: policy.copies ? settled : undefined }
}

/** Has all done that is owed; what is left. */
async function settle(daemon: Daemon, copies: boolean): Promise<string[]> {
  const { engine } = daemon
  await stage(daemon, 'settle', engine.settle(SETTLE_MS))
  if (!copies) return []
  await stage(daemon, 'migrate', engine.migrate({}, LONG_RUN))
  const { outboxLeft } = await stage(daemon, 'settle', engine.settle(SETTLE_MS))
  const failures = (await engine.status()).failures.map(({ path, reason }) => `${path}: ${reason}`)
  return [...Array(outboxLeft).keys()].map((number) => failures[number] ?? 'nothing says why')
}

/** `verify` finds everything in order but what is lost, and that it lists. */
async function verified(
  daemon: Daemon,
  copies: boolean,
  lost: ReadonlySet<string>,
  shown: Tree,
): Promise<Problem[]> {
  const { differences: found } = await stage(daemon, 'verify', daemon.engine.verify(LONG_RUN))
  // A mode that copies nothing says so of what is to be copied.
  const listed = found.filter(({ kind }) => copies || kind !== 'pending')
  const wrong = listed.filter(({ path }) => !lost.has(`/${path}`))
  // A file of several names is listed under one of them.
  const inodes = new Set(listed.map(({ path }) => shown.get(`/${path}`)?.attributes.ino))
  const unlisted = [...lost].filter((path) => !inodes.has(shown.get(path)?.attributes.ino))
  return [
    ...wrong.map(({ path, kind, detail }) => ({ kind: `verify ${kind}`, path, detail })),
    ...unlisted.map((path) => ({
      kind: 'not listed',
      path,
      detail: 'cannot be read, and verify says nothing of it',
    })),
  ]
}

/** @throws Error that says what failed */
async function stage<T>(daemon: Daemon, what: string, work: Promise<T>): Promise<T> {
  try {
    return await wait(work, what)
  } catch (error) {
    const failures = (await daemon.engine.status()).failures.map(({ path }) => path)
    throw new Error(`${what} failed (${failures.join(', ')})`, { cause: error })
  }
}

/** Names and content are what they were. */
export function differences(before: Tree, after: Tree): Problem[] {
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

type Content = Buffer | undefined
const isSame = (one: Content, other: Content): boolean => (one && other ? one.equals(other) : one === other)

/** P5: the volume has what the overlay shows. */
export function compareVolume(seen: Tree, path: string): Problem[] {
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
      else if (there.content && !there.content.equals(contentOf(own))) {
        problems.push({ kind: 'volume', path: below, detail: 'has other bytes on the volume' })
      }
      visit(child, below)
    }
  }
  visit(volume.root, '')
  for (const path of left) problems.push({ kind: 'volume', path, detail: 'is not on the volume' })
  return problems
}
