import { createHash } from 'node:crypto'
import type { Walked } from '../actions.ts'
import { sizeBounds } from './content.ts'
import type { FileNode, Node, Tree } from './tree.ts'

const sums = new WeakMap<Buffer, string>()

function sumOf(data: Buffer): string {
  const known = sums.get(data)
  if (known !== undefined) return known
  const sum = createHash('sha256').update(data).digest('hex')
  sums.set(data, sum)
  return sum
}

interface Comparison {
  /** False where the walk did not read the files. */
  readonly content: boolean
}

/** What differs between a walked tree and the model, one line each; `root` is left out, it belongs to the harness. */
export function differences(tree: Tree, walked: readonly Walked[], options: Comparison): string[] {
  const found: string[] = []
  const left = new Map(walked.map((entry) => [entry.path, entry]))
  const inodes = new Map<number, string>()
  for (const [path, node, id] of tree.paths()) {
    const entry = left.get(path)
    left.delete(path)
    const shown = JSON.stringify(path)
    if (!entry) {
      found.push(`${shown} is missing`)
      continue
    }
    if (path === '') continue
    const problem = differs(node, entry, options)
    if (problem !== undefined) found.push(`${shown}: ${problem}`)
    if (node.type !== 'file') continue
    const inode = inodes.get(id)
    if (inode !== undefined && inode !== entry.ino)
      found.push(`${shown} is no longer the same file as its link`)
    inodes.set(id, entry.ino)
  }
  for (const path of left.keys()) found.push(`${JSON.stringify(path)} should not be there`)
  return found
}

function differs(node: Node, entry: Walked, options: Comparison): string | undefined {
  if (entry.type !== node.type) return `a ${entry.type}, expected a ${node.type}`
  if (node.type === 'symlink') {
    return entry.target === node.target ? undefined : `target ${entry.target}, expected ${node.target}`
  }
  if (entry.mode !== node.mode) return `mode ${entry.mode.toString(8)}, expected ${node.mode.toString(8)}`
  if (node.mtime !== undefined && entry.mtime !== node.mtime)
    return `mtime ${entry.mtime}, expected ${node.mtime}`
  return node.type === 'file' ? fileDiffers(node, entry, options) : undefined
}

function fileDiffers(node: FileNode, entry: Walked, { content }: Comparison): string | undefined {
  const [least, most] = sizeBounds(node)
  if (entry.size < least || entry.size > most) {
    return `size ${entry.size}, expected ${least === most ? least : `${least} to ${most}`}`
  }
  if (entry.links !== node.links) return `${entry.links} links, expected ${node.links}`
  // A file in doubt was read to its end before, where it can be; what is left open nobody can check.
  if (!content || node.others.length > 0 || entry.sha256 === sumOf(node.data)) return undefined
  return `other bytes than were written (${node.data.length} bytes)`
}
