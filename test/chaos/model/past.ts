import type { FileNode, Node, Tree } from './tree.ts'

/**
 * What a subtree was after each change, back to the last that is certain to survive a power cut. Names and attributes reach the
 * disk in the order in which they were changed: a cut leaves one of these states. Bytes come in any order: of each file any
 * that it had since its last sync, as the local file system would.
 */
export class Past {
  #states: (readonly Tree[])[]

  constructor(now: readonly Tree[]) {
    this.#states = [now]
  }

  /** An action has changed the subtree: what it may be now. */
  changed(now: readonly Tree[]): void {
    this.#states.push(now)
  }

  /** What it may be now is known better. */
  observed(now: readonly Tree[]): void {
    this.#states[this.#states.length - 1] = now
  }

  /**
   * A file or directory was synced: its last change is on the disk, and what came before that. (Of what came after it nobody
   * can say: another file's fsync does not wait for it.)
   */
  synced(find: (tree: Tree) => number | undefined): void {
    const now = this.#states.at(-1) ?? []
    const certain = now.map((tree) => {
      const id = find(tree)
      if (id === undefined) return 0
      let state = this.#states.length - 1
      while (state > 0 && this.#states[state - 1]?.some((before) => isSame(before, tree, id))) state -= 1
      return state
    })
    this.#states = this.#states.slice(Math.min(...certain))
  }

  /** Every tree that a power cut may leave. */
  afterCut(): Tree[] {
    const versions = new Map<number, Buffer[]>()
    const possible: Tree[] = []
    for (const state of this.#states.toReversed()) {
      const files = state.flatMap((tree) =>
        [...tree.paths()].flatMap(([, node, id]) => (node.type === 'file' ? [{ node, id }] : [])),
      )
      const first = files.filter(({ id }) => !versions.has(id))
      for (const { node, id } of files) {
        versions.set(id, [...(versions.get(id) ?? []), node.data, ...node.others])
      }
      // The last that was known of the file says what it was before its last sync.
      for (const { node, id } of first) versions.set(id, [...(versions.get(id) ?? []), ...node.unsynced])
      for (const tree of state) possible.push(cut(tree, versions))
    }
    return possible
  }
}

/** The tree as the cut leaves it: nothing is open, and each file is made of what it may have on the disk. */
function cut(tree: Tree, versions: ReadonlyMap<number, readonly Buffer[]>): Tree {
  const left = tree.copy()
  left.releaseAll()
  for (const [, node, id] of tree.paths()) {
    if (node.type === 'file') left.set(id, withVersions(node, versions.get(id) ?? []))
  }
  return left
}

function withVersions(node: FileNode, versions: readonly Buffer[]): FileNode {
  const others: Buffer[] = []
  for (const one of versions) {
    if (![node.data, ...others].some((known) => known === one || known.equals(one))) others.push(one)
  }
  return { ...node, others, unsynced: [] }
}

/** Whether a node has not been changed between two states, nor what leads to it. */
function isSame(before: Tree, after: Tree, id: number): boolean {
  if (!before.has(id)) return false
  const [old, now] = [before.node(id), after.node(id)]
  return (old === now || isSameNode(old, now)) && before.places(id).join('\0') === after.places(id).join('\0')
}

function isSameNode(old: Node, now: Node): boolean {
  if (old.type === 'symlink' || now.type === 'symlink') return old === now
  if (old.mode !== now.mode || old.mtime !== now.mtime) return false
  if (old.type === 'dir') return now.type === 'dir' && old.entries === now.entries
  if (now.type !== 'file' || old.links !== now.links) return false
  // A doubt that an observation has ended is no change.
  return old.data === now.data || old.others.length > 0
}
