import { constants } from 'node:fs'
import type { Described } from './client.ts'

const { S_IFDIR, S_IFREG, S_IFLNK, S_IFIFO, S_IFCHR } = constants

/** Type bits of the files that the model knows. */
export type ModelType = typeof S_IFDIR | typeof S_IFREG | typeof S_IFLNK | typeof S_IFIFO | typeof S_IFCHR

export interface ModelNode {
  readonly type: ModelType
  /** What the overlay calls it; the same for ever once it was told. */
  ino: bigint | undefined
  /** The kernel has it looked up. */
  known: boolean
  mode: number
  uid: number
  gid: number
  links: number
  content: Buffer
  /** Set by utimensat(2) and not moved since. */
  mtimeNs: bigint | undefined
  readonly xattrs: Map<string, Buffer>
  readonly children: Map<string, ModelNode>
  parent: ModelNode | undefined
  readonly handles: bigint[]
}

export interface Place {
  readonly directory: ModelNode
  readonly name: string
}

function newNode(type: ModelType, mode: number, content: Buffer = Buffer.alloc(0)): ModelNode {
  return {
    type,
    ino: undefined,
    known: false,
    mode,
    uid: 0,
    gid: 0,
    links: type === S_IFDIR ? 2 : 1,
    content,
    mtimeNs: undefined,
    xattrs: new Map(),
    children: new Map(),
    parent: undefined,
    handles: [],
  }
}

export const isDir = (node: ModelNode | undefined): boolean => node?.type === S_IFDIR

/**
 * A POSIX tree as plain objects. Each change returns the errno that a local file system would have answered, or
 * `undefined` and has taken place.
 */
export class ModelTree {
  readonly root = newNode(S_IFDIR, 0o777)
  /** Open files without a name. */
  readonly nameless = new Set<ModelNode>()
  /** Of these, the ones that were made so. */
  readonly linkable = new WeakSet<ModelNode>()

  constructor() {
    this.root.ino = 1n
    this.root.known = true
  }

  /** Every node with a name, directories before what is in them. */
  nodes(): ModelNode[] {
    const found = new Set<ModelNode>()
    const visit = (node: ModelNode): void => {
      if (found.has(node)) return
      found.add(node)
      for (const child of node.children.values()) visit(child)
    }
    visit(this.root)
    return [...found]
  }

  directories(): ModelNode[] {
    return this.nodes().filter(isDir)
  }

  /** Regular files, open ones without a name included. */
  files(): ModelNode[] {
    return [...this.nodes(), ...this.nameless].filter(({ type }) => type === S_IFREG)
  }

  /** One place of the node, if it has a name. */
  placeOf(node: ModelNode): Place | undefined {
    for (const directory of this.directories()) {
      for (const [name, child] of directory.children) if (child === node) return { directory, name }
    }
    return undefined
  }

  pathOf({ directory, name }: Place): string {
    const above = directory === this.root ? undefined : this.placeOf(directory)
    return above ? `${this.pathOf(above)}/${name}` : `/${name}`
  }

  isWithin(node: ModelNode, above: ModelNode): boolean {
    for (let current: ModelNode | undefined = node; current; current = current.parent) {
      if (current === above) return true
    }
    return false
  }

  make({ directory, name }: Place, type: ModelType, mode: number, content?: Buffer): ModelNode | 'EEXIST' {
    if (directory.children.has(name)) return 'EEXIST'
    const node = newNode(type, mode, content)
    this.#put({ directory, name }, node)
    return node
  }

  /** An open file that may get a name (O_TMPFILE); of no other file without one the kernel lets anybody make a link. */
  makeNameless(mode: number): ModelNode {
    const node = newNode(S_IFREG, mode)
    node.links = 0
    this.nameless.add(node)
    this.linkable.add(node)
    return node
  }

  link(node: ModelNode, place: Place): 'EEXIST' | undefined {
    if (place.directory.children.has(place.name)) return 'EEXIST'
    node.links += 1
    this.nameless.delete(node)
    this.linkable.delete(node)
    this.#put(place, node)
    return undefined
  }

  unlink(place: Place): 'ENOENT' | 'EISDIR' | undefined {
    const node = place.directory.children.get(place.name)
    if (!node) return 'ENOENT'
    if (isDir(node)) return 'EISDIR'
    this.#take(place)
    this.#lessOne(node)
    return undefined
  }

  rmdir(place: Place): 'ENOENT' | 'ENOTDIR' | 'ENOTEMPTY' | undefined {
    const node = place.directory.children.get(place.name)
    if (!node) return 'ENOENT'
    if (!isDir(node)) return 'ENOTDIR'
    if (node.children.size > 0) return 'ENOTEMPTY'
    this.#take(place)
    return undefined
  }

  /** `flags` as in renameat2(2): 0, 1 (RENAME_NOREPLACE), 2 (RENAME_EXCHANGE) or 4 (RENAME_WHITEOUT). */
  rename(from: Place, to: Place, flags: number): string | undefined {
    const node = from.directory.children.get(from.name)
    const target = to.directory.children.get(to.name)
    if (!node) return 'ENOENT'
    if (flags === 1 && target) return 'EEXIST'
    if (flags === 2 && !target) return 'ENOENT'
    if (node === target) return undefined
    if (flags === 2 && target) {
      this.#take(from)
      this.#take(to)
      this.#put(from, target)
      this.#put(to, node)
      return undefined
    }
    if (target) {
      if (isDir(node) && !isDir(target)) return 'ENOTDIR'
      if (!isDir(node) && isDir(target)) return 'EISDIR'
      if (target.children.size > 0) return 'ENOTEMPTY'
      this.#take(to)
      if (!isDir(target)) this.#lessOne(target)
    }
    this.#take(from)
    this.#put(to, node)
    if (flags === 4) this.#put(from, newNode(S_IFCHR, 0))
    return undefined
  }

  write(node: ModelNode, offset: number, data: Buffer): void {
    this.resize(node, Math.max(node.content.length, offset + data.length))
    data.copy(node.content, offset)
  }

  resize(node: ModelNode, size: number): void {
    const content = Buffer.alloc(size)
    node.content.copy(content)
    node.content = content
    node.mtimeNs = undefined
  }

  /** Nobody has a file open any more that has no name. */
  closed(node: ModelNode): void {
    if (node.links === 0 && node.handles.length === 0) this.nameless.delete(node)
  }

  describe(): Map<string, Described> {
    const found = new Map<string, Described>()
    const visit = (directory: ModelNode, path: string): void => {
      for (const [name, node] of directory.children) {
        found.set(`${path}/${name}`, {
          mode: (node.type | node.mode).toString(8),
          owner: `${node.uid}:${node.gid}`,
          nlink: node.links,
          rdev: 0,
          mtimeNs: node.mtimeNs ?? 0n,
          size: isDir(node) ? 0 : node.content.length,
          xattrs: Object.fromEntries(
            [...node.xattrs].sort().map(([key, value]) => [key, value.toString('latin1')]),
          ),
          content: node.content,
        })
        if (isDir(node)) visit(node, `${path}/${name}`)
      }
    }
    visit(this.root, '')
    return found
  }

  #put({ directory, name }: Place, node: ModelNode): void {
    directory.children.set(name, node)
    directory.mtimeNs = undefined
    if (node.type !== S_IFDIR) return
    node.parent = directory
    directory.links += 1
  }

  #take({ directory, name }: Place): void {
    const node = directory.children.get(name)
    directory.children.delete(name)
    directory.mtimeNs = undefined
    if (isDir(node)) directory.links -= 1
  }

  #lessOne(node: ModelNode): void {
    node.links -= 1
    if (node.links > 0) return
    if (node.handles.length > 0) this.nameless.add(node)
  }
}
