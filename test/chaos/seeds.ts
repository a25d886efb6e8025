import { chmodSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pattern } from './actions.ts'
import { FAULT_POINTS } from './faults/points.ts'
import { Subtree } from './model/subtree.ts'
import { type FileNode, Tree } from './model/tree.ts'
import { CLIENTS, type Phase } from './script.ts'

const MiB = 1 << 20

/** What lies on the volume before the first mount: a tree for each client, and files that nobody changes. */
export function seedVolume(
  legacy: string,
  phases: readonly Phase[],
): { readonly subtrees: Subtree[]; readonly untouched: Map<string, Buffer> } {
  mkdirSync(join(legacy, 'shared'), { mode: 0o755 })
  const untouched = new Map<string, Buffer>()
  for (const [index, { fault = '' }] of phases.entries()) {
    for (let file = 0; file < 4; file += 1) {
      // Small enough to lie in the store as they are: what is missing from the volume is looked for there.
      untouched.set(`seed/${index}/k${file}`, pattern(index * 100 + file, 700 + file * 1900))
    }
    untouched.set(`seed/${index}/large`, pattern(index * 100 + 50, 40_000))
    if (fault.split('+').includes('changed-past')) {
      for (const nth of [0, 1]) untouched.set(`seed/past/${index}-${nth}`, pattern(index * 10 + nth, 5000))
    }
    if (fault === 'kill-at-points') {
      for (const round of FAULT_POINTS.keys()) {
        untouched.set(`seed/points/${round}`, pattern(9000 + round, 3000))
      }
    }
  }
  for (const [path, content] of untouched) {
    const file = join(legacy, path)
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 })
    writeFileSync(file, content)
  }
  const subtrees = Array.from({ length: CLIENTS }, (_, client) => {
    const tree = clientTree(client)
    materialize(tree, join(legacy, `c${client}`))
    return new Subtree(tree)
  })
  return { subtrees, untouched }
}

function file(seed: number, size: number): FileNode {
  const data = pattern(seed, size)
  return { type: 'file', data, others: [], unsynced: [], mode: 0o644, mtime: undefined, links: 1 }
}

function clientTree(client: number): Tree {
  const tree = new Tree()
  const dir = { type: 'dir', entries: new Map(), mode: 0o755, mtime: undefined } as const
  tree.add('a', file(client + 11, 5000))
  tree.add('d0', dir)
  tree.add('d0/b', file(client + 21, MiB + 4321))
  tree.add('d0/e', dir)
  const linked = tree.add('d0/e/a', { ...file(client + 31, 20_000), links: 2 })
  const { parent, name } = tree.place('d0/e/c')
  tree.enter(parent, name, linked)
  tree.add('s0', { type: 'symlink', target: 'a' })
  tree.add('n\xff\xfe', file(client + 41, 300))
  return tree
}

/** Writes a tree of the model to a real directory. */
function materialize(tree: Tree, root: string): void {
  const first = new Map<number, Buffer>()
  for (const [path, node, id] of tree.paths()) {
    const absolute = Buffer.concat([
      Buffer.from(path === '' ? root : `${root}/`),
      Buffer.from(path, 'latin1'),
    ])
    const link = first.get(id)
    first.set(id, absolute)
    if (link !== undefined) linkSync(link, absolute)
    else if (node.type === 'dir') mkdirSync(absolute)
    else if (node.type === 'symlink') symlinkSync(Buffer.from(node.target, 'latin1'), absolute)
    else writeFileSync(absolute, node.data)
    if (node.type !== 'symlink') chmodSync(absolute, node.mode)
  }
}
