import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf } from '../../../src/base/errors.ts'
import { rebuildOutOf } from '../../../src/daemon/rebuild-state.ts'
import { createLog } from '../../../src/observe/log.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { EmbeddedStore } from '../../../src/store/embedded/store.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { turns } from '../../support/rig/clock.ts'
import type { History, Moment, Tree } from '../app/history.ts'
import { wait } from '../machine/time.ts'
import { Daemon } from '../product/daemon.ts'
import { Kernel } from '../product/kernel.ts'
import { DistantStore } from '../recording/logged-store.ts'
import type { Problem } from './compare.ts'
import { differences } from './serving.ts'

const LONG_RUN = { onProgress: () => undefined, signal: new AbortController().signal }
const SPACES = ['files', 'chunks', 'dirs', 'meta'] as const

/** A copy of a store, to be taken over and written to. */
export async function copyOfStore(store: KeyValueStore): Promise<MemoryStore> {
  const copy = new MemoryStore()
  for (const space of SPACES) {
    for await (const key of store.keys(space)) {
      const object = await store.get(space, key)
      if (object) await copy.put(space, key, object)
    }
  }
  return copy
}

/** The same of an embedded store, which nobody has open. */
export async function copyOfEmbedded(directory: string): Promise<MemoryStore> {
  const log = createLog({ level: 'error', name: 'power-cut', write: () => undefined })
  const store = await wait(EmbeddedStore.open(directory, { url: 'embedded:', log }), 'the store')
  try {
    return await wait(copyOfStore(store), 'a copy of the store')
  } finally {
    await wait(store.close(), 'the end of the store')
  }
}

/** What `ferryfs rebuild` and a mount of what it made show, out of the store alone. */
async function rebuild(memory: MemoryStore, root: string, inlineLimit: number): Promise<Tree> {
  rmSync(root, { recursive: true, force: true })
  for (const volume of ['state', 'volume']) mkdirSync(join(root, volume), { recursive: true, mode: 0o700 })
  const store = new DistantStore(
    memory,
    () => undefined,
    () => turns(1),
  )
  const log = createLog({ level: 'error', name: 'power-cut', write: () => undefined })
  const request = {
    store: 'distant:',
    namespace: 'ns',
    stateDir: join(root, 'state'),
    opTimeout: 30_000,
    concurrency: 4,
    log,
  }
  await wait(
    rebuildOutOf(() => Promise.resolve(store), request, LONG_RUN),
    'rebuild',
  )
  const daemon = await Daemon.start({ root, mode: undefined, inlineLimit, store })
  try {
    return await new Kernel(daemon).tree()
  } finally {
    await daemon.stop()
    rmSync(root, { recursive: true, force: true })
  }
}

interface Known {
  readonly history: History
  readonly moment: Moment
  /** What was shown after a first cut: of what nobody had synced, pages of several moments, and stored like that since. */
  readonly seen: Tree | undefined
}

interface Place {
  readonly root: string
  readonly inlineLimit: number
}

/** The way back at the moment of the cut: every file that the store has had is found from the root directory's record. */
export async function checkStoreAlone(
  memory: MemoryStore,
  { root, inlineLimit }: Place,
  { history, moment, seen }: Known,
): Promise<Problem[]> {
  const stored = history.storedBefore(moment)
  if (!stored) return []
  let tree: Tree
  try {
    tree = await rebuild(memory, root, inlineLimit)
  } catch (error) {
    return [{ kind: 'rebuild fails', path: '/', detail: reasonOf(error) }]
  }
  const problems: Problem[] = []
  for (const { node, paths, contents: had } of stored) {
    const contents = [...had, ...[...paths].flatMap((path) => seen?.get(path)?.content ?? [])]
    const found = [...paths].flatMap((path) => tree.get(path) ?? [])
    const path = [...paths].join(' or ')
    if (found.length === 0) problems.push({ kind: 'rebuild loses', path, detail: 'no record leads to it' })
    else if (node.type === 'symlink') continue
    else if (
      !found.some(({ content, lost }) => lost.size === 0 && contents.some((each) => content?.equals(each)))
    ) {
      const why = found.flatMap(({ lost }) => [...lost.values()]).join(', ')
      problems.push({ kind: 'rebuild mixes', path, detail: why || 'has bytes that it never had' })
    }
  }
  return problems
}

/** The way back when everything is in the store: it gives the tree that was shown. */
export async function checkRebuilt(
  memory: MemoryStore,
  { root, inlineLimit }: Place,
  shown: Tree,
): Promise<Problem[]> {
  let tree: Tree
  try {
    tree = await rebuild(memory, root, inlineLimit)
  } catch (error) {
    return [{ kind: 'rebuild fails', path: '/', detail: reasonOf(error) }]
  }
  const isWhole = (path: string): boolean => (shown.get(path)?.lost.size ?? 0) === 0
  return differences(shown, tree)
    .filter(({ path }) => isWhole(path))
    .map(({ path, detail }) => ({ kind: 'rebuild differs', path, detail }))
}
