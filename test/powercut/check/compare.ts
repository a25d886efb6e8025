import { CHUNK_BYTES } from '../../../src/content/index.ts'
import { isDirectory, isSymlink } from '../../../src/base/attributes.ts'
import type { Attributes, FileType, History, Moment, Node, Tree } from '../app/history.ts'
import type { Seen } from '../product/kernel.ts'
import { PAGE } from '../disk/image.ts'

/** What is wrong with a tree, one line each; the kind comes first, so that equal faults can be told. */
export interface Problem {
  readonly kind: string
  readonly path: string
  readonly detail: string
}

export const show = ({ kind, path, detail }: Problem): string => `${kind}: ${path}: ${detail}`

/** Whether what is seen is something that a local file system could have after the power went at this moment. */
export function compare(seen: Tree, history: History, moment: Moment): Problem[] {
  const { least, most } = history.namesBetween(moment)
  let best: Problem[] | undefined
  for (let count = most; count >= least; count -= 1) {
    const wanted = history.namesAfter(count)
    const names = compareNames(seen, wanted, history)
    const problems =
      names.length > 0
        ? names
        : [...wanted].flatMap(([path, id]) => compareNode(path, id, seen, history, moment))
    if (problems.length === 0) return []
    const isBetter = names.length === 0 && best?.[0]?.kind === 'names'
    if (
      !best ||
      isBetter ||
      (problems.length < best.length && (names.length === 0 || best[0]?.kind === 'names'))
    )
      best = problems
  }
  return best ?? []
}

function typeOf(seen: Seen): FileType {
  const { mode } = seen.attributes
  return isDirectory(mode) ? 'directory' : isSymlink(mode) ? 'symlink' : 'file'
}

function compareNames(seen: Tree, wanted: ReadonlyMap<string, number>, history: History): Problem[] {
  const problems: Problem[] = []
  const numbers = new Map<number, bigint>()
  for (const path of new Set([...wanted.keys(), ...seen.keys()])) {
    const there = seen.get(path)
    const id = wanted.get(path)
    const node = id === undefined ? undefined : history.nodes[id]
    if (!there || !node) {
      problems.push({ kind: 'names', path, detail: there ? 'is there' : 'is missing' })
      continue
    }
    if (typeOf(there) !== node.type || (node.target !== undefined && there.target !== node.target)) {
      problems.push({ kind: 'names', path, detail: `is a ${typeOf(there)} to ${there.target ?? 'nothing'}` })
    }
    const number = numbers.get(node.id) ?? there.attributes.ino
    numbers.set(node.id, number)
    if (number !== there.attributes.ino) {
      problems.push({ kind: 'names', path, detail: 'is no longer one file with its other names' })
    }
  }
  return problems
}

function compareNode(path: string, id: number, seen: Tree, history: History, moment: Moment): Problem[] {
  const node = history.nodes[id]
  const there = seen.get(path)
  if (!node || !there) return []
  const problems = compareAttributes(path, there, history.possibleAttributes(node, moment))
  if (node.type === 'file') problems.push(...compareContent(path, there, node, history, moment))
  return problems
}

function compareAttributes(
  path: string,
  { attributes, xattrs }: Seen,
  possible: readonly Attributes[],
): Problem[] {
  const fits = possible.some(
    (each) =>
      each.mode === (attributes.mode & 0o7777) &&
      JSON.stringify([...each.xattrs].sort()) === JSON.stringify([...xattrs].sort()),
  )
  if (fits) return []
  const detail = `mode ${(attributes.mode & 0o7777).toString(8)} and xattrs ${JSON.stringify([...xattrs])}`
  return [{ kind: 'attributes', path, detail: `${detail}, which it did not have since they were synced` }]
}

function compareContent(
  path: string,
  { content, lost }: Seen,
  node: Node,
  history: History,
  moment: Moment,
): Problem[] {
  const possible = history.possibleContents(node, moment)
  if (!content || possible.length === 0) return []
  // Of what was never synced nothing need be left, nor of what was cut off since; a local file system would show zeros there.
  const lengths = possible.map(({ length }) => length)
  const durable = history.wasDurable(node, moment) ? Math.min(...lengths) : 0
  for (const [chunk, why] of lost) {
    if (chunk * CHUNK_BYTES < durable) return [{ kind: 'unreadable', path, detail: why }]
  }
  const sizes = [...history.possibleSizes(node, moment)]
  if (!isPossibleSize(content.length, sizes)) {
    return [{ kind: 'size', path, detail: `${content.length} bytes; it had ${sizes.join(', ')}` }]
  }
  for (let at = 0; at < content.length; at += PAGE) {
    const page = content.subarray(at, at + PAGE)
    if (lost.has(Math.floor(at / CHUNK_BYTES)) || possible.some((each) => isPage(page, each, at))) continue
    return [{ kind: isZero(page) ? 'zeros' : 'wrong bytes', path, detail: describePage(page, at, possible) }]
  }
  return []
}

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0)

/** The page as this content has it; what is beyond its end is zeros. */
function isPage(page: Buffer, content: Buffer, at: number): boolean {
  const own = content.subarray(Math.min(at, content.length), Math.min(at + page.length, content.length))
  return page.subarray(0, own.length).equals(own) && isZero(page.subarray(own.length))
}

/** A size that it had, or one on the way: pages are added one after the other. */
function isPossibleSize(size: number, sizes: readonly number[]): boolean {
  if (sizes.includes(size)) return true
  return size % PAGE === 0 && size > Math.min(...sizes) && size < Math.max(...sizes)
}

function describePage(page: Buffer, at: number, possible: readonly Buffer[]): string {
  const start = (bytes: Buffer): string => bytes.subarray(0, 8).toString('hex')
  const wanted = possible.map((each) => start(each.subarray(at, at + PAGE))).slice(-3)
  return `at ${at} ${start(page)}, possible ${wanted.join(' or ')}`
}
