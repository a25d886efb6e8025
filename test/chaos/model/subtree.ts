import { type Action, describeAction, type Reply } from '../actions.ts'
import { type Excuse, follow } from './follow.ts'
import { Past } from './past.ts'
import type { Tree } from './tree.ts'

const OBSERVES = new Set<Action['do']>([
  'read',
  'readHeld',
  'list',
  'stat',
  'readlink',
  'hold',
  'release',
  'walk',
])

/** An answer that no local file system would have given. */
export class Contradiction extends Error {}

/** The subtree of one client: every tree that it may be by what was answered so far. One, unless something failed. */
export class Subtree {
  #trees: readonly Tree[]
  #past: Past

  /** Of a tree that is on the disk. */
  constructor(tree: Tree) {
    this.#trees = [tree]
    this.#past = new Past(this.#trees)
  }

  get trees(): readonly Tree[] {
    return this.#trees
  }

  /** @throws Contradiction */
  answered(action: Action, reply: Reply, excuse: Excuse): void {
    const possible: Tree[] = []
    let why = ''
    for (const tree of this.#trees) {
      const outcome = follow(tree, action, reply, excuse)
      if ('trees' in outcome) possible.push(...outcome.trees)
      else why = why === '' ? outcome.wrong : why
    }
    if (possible.length === 0) throw new Contradiction(`${describeAction(action)}: ${why}`)
    this.#trees = distinct(possible)
    if (OBSERVES.has(action.do)) this.#past.observed(this.#trees)
    else this.#past.changed(this.#trees)
    if (reply.errno === undefined) this.#synced(syncedBy(action))
  }

  /** The answer never came, or nobody can say what it was about: the action took effect, or not. */
  unanswered(action: Action): void {
    const reply: Reply = { id: 0, errno: 'EIO', step: action.do === 'write' ? 'open' : 'write' }
    const late: Reply = { id: 0, errno: 'EIO', step: 'write' }
    const excuse = (): boolean => true
    const possible = this.#trees.flatMap((tree) =>
      [reply, late].flatMap((one) => {
        const outcome = follow(tree, action, one, excuse)
        return 'trees' in outcome ? outcome.trees : []
      }),
    )
    this.#trees = distinct([...this.#trees, ...possible])
    this.#past.changed(this.#trees)
  }

  /** The power went: what was synced is there, what was not may be. An observation of the whole has to follow. */
  cut(): void {
    this.#trees = distinct(this.#past.afterCut())
    this.#past = new Past(this.#trees)
  }

  /** What was observed after a cut is what the disk has. */
  settled(): void {
    this.#trees = this.#trees.map(onDisk)
    this.#past = new Past(this.#trees)
  }

  /** The bytes of a file cannot be had after a cut: it has to be one that was changed after its last sync. @throws Contradiction */
  lost(path: string): void {
    const possible = this.#trees.filter((tree) => tree.doubtful().includes(path))
    if (possible.length === 0)
      throw new Contradiction(`${JSON.stringify(path)} was synced and cannot be read`)
    this.#trees = possible
  }

  /** Every open file is gone with the mount. */
  releaseAll(): void {
    this.#trees = distinct(
      this.#trees.map((tree) => {
        const after = tree.copy()
        after.releaseAll()
        return after
      }),
    )
  }

  /** Keeps the trees that an observation of the whole agrees with. @throws Contradiction with what differs */
  observed(compare: (tree: Tree) => readonly string[]): void {
    const results = this.#trees.map((tree) => ({ tree, differences: compare(tree) }))
    const agreeing = results.filter(({ differences }) => differences.length === 0)
    if (agreeing.length === 0) {
      const fewest = results.reduce((a, b) => (b.differences.length < a.differences.length ? b : a))
      throw new Contradiction(fewest.differences.slice(0, 8).join('; '))
    }
    this.#trees = agreeing.map(({ tree }) => tree)
    this.#past.observed(this.#trees)
  }

  #synced(find: ((tree: Tree) => number | undefined) | undefined): void {
    if (!find) return
    this.#past.synced(find)
    this.#trees = this.#trees.map((tree) => {
      const id = find(tree)
      const node = id === undefined ? undefined : tree.node(id)
      if (id === undefined || node?.type !== 'file') return tree
      const after = tree.copy()
      after.set(id, { ...node, unsynced: [] })
      return after
    })
    this.#past.observed(this.#trees)
  }
}

/** What an action that succeeded has put on the disk, in a tree as it is then. */
function syncedBy(action: Action): ((tree: Tree) => number | undefined) | undefined {
  if (action.do === 'syncDirectory') return (tree) => tree.numberOf(action.path)
  if (action.do === 'write' && action.fsync) return (tree) => tree.numberOf(action.path)
  if (action.do === 'writeHeld' && action.fsync) return (tree) => tree.held(action.slot)
  return undefined
}

function onDisk(tree: Tree): Tree {
  const after = tree.copy()
  for (const [, node, id] of tree.paths()) if (node.type === 'file') after.set(id, { ...node, unsynced: [] })
  return after
}

/** Trees that nobody can tell apart count once. */
function distinct(trees: readonly Tree[]): Tree[] {
  if (trees.length < 2) return [...trees]
  const buffers = new Map<Buffer, number>()
  const number = (buffer: Buffer): number => {
    for (const [known, index] of buffers) if (known.equals(buffer)) return index
    buffers.set(buffer, buffers.size)
    return buffers.size - 1
  }
  const seen = new Map<string, Tree>()
  for (const tree of trees) {
    const parts = [...tree.paths()].map(([path, node, id]) => {
      if (node.type === 'dir') return [path, id, 'd', node.mode, node.mtime]
      if (node.type === 'symlink') return [path, 'l', node.target]
      return [path, id, node.mode, node.mtime, number(node.data), ...node.others.map(number)]
    })
    const key = JSON.stringify(parts)
    if (!seen.has(key)) seen.set(key, tree)
  }
  return [...seen.values()]
}
