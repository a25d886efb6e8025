/** What a name leads to. Nodes are never changed: a change makes a new one. */
export interface FileNode {
  readonly type: 'file'
  readonly data: Buffer
  /**
   * What the content may be as well, after a write that failed without saying how far it came: each byte is that of
   * `data` or of one of these. An observation of the whole file ends the doubt.
   */
  readonly others: readonly Buffer[]
  /** What the content was before, back to the last sync: any byte of it may be what a power cut leaves. */
  readonly unsynced: readonly Buffer[]
  readonly mode: number
  /** Undefined where the system's clock decided. */
  readonly mtime: number | undefined
  readonly links: number
}

export interface DirNode {
  readonly type: 'dir'
  readonly entries: ReadonlyMap<string, number>
  readonly mode: number
  readonly mtime: number | undefined
}

interface LinkNode {
  readonly type: 'symlink'
  readonly target: string
}

export type Node = FileNode | DirNode | LinkNode

const ROOT = 1

/** An error that a local file system would give. */
export class Refusal extends Error {
  readonly errno: string

  constructor(errno: string) {
    super(errno)
    this.errno = errno
  }
}

interface Place {
  readonly parent: number
  readonly directory: DirNode
  readonly name: string
  readonly id: number | undefined
}

/** A file tree in memory with the semantics of a local file system. Changes are made on a copy. */
export class Tree {
  readonly #nodes: Map<number, Node>
  readonly #held: Map<number, number>
  #next: number

  constructor(from?: Tree) {
    this.#nodes = new Map(
      from ? from.#nodes : [[ROOT, { type: 'dir', entries: new Map(), mode: 0o755, mtime: undefined }]],
    )
    this.#held = new Map(from ? from.#held : [])
    this.#next = from ? from.#next : ROOT + 1
  }

  copy(): Tree {
    return new Tree(this)
  }

  node(id: number): Node {
    const node = this.#nodes.get(id)
    if (!node) throw new Error(`the model has no node ${id}`)
    return node
  }

  set(id: number, node: Node): void {
    this.#nodes.set(id, node)
  }

  /** @throws Refusal ENOENT, ENOTDIR */
  place(path: string): Place {
    const names = path.split('/').filter((part) => part !== '')
    const name = names.pop() ?? ''
    let parent = ROOT
    for (const part of names) {
      const id = this.#directory(parent).entries.get(part)
      if (id === undefined) throw new Refusal('ENOENT')
      parent = id
      this.#directory(parent)
    }
    const directory = this.#directory(parent)
    return { parent, directory, name, id: name === '' ? ROOT : directory.entries.get(name) }
  }

  /** The node of a path, a symlink itself. @throws Refusal */
  find(path: string): number {
    const { id } = this.place(path)
    if (id === undefined) throw new Refusal('ENOENT')
    return id
  }

  /** The node of a path, behind a symlink to a name in the same directory. @throws Refusal */
  follow(path: string): number {
    const id = this.find(path)
    const node = this.node(id)
    if (node.type !== 'symlink') return id
    const directory = path.slice(0, path.lastIndexOf('/') + 1)
    return this.find(directory + node.target)
  }

  /** @throws Refusal EISDIR, EINVAL */
  file(id: number): FileNode {
    const node = this.node(id)
    if (node.type === 'dir') throw new Refusal('EISDIR')
    if (node.type === 'symlink') throw new Refusal('EINVAL')
    return node
  }

  add(path: string, node: Node): number {
    const { parent, name } = this.place(path)
    const id = this.#next++
    this.#nodes.set(id, node)
    this.enter(parent, name, id)
    return id
  }

  enter(parent: number, name: string, id: number): void {
    const directory = this.#directory(parent)
    const entries = new Map(directory.entries).set(name, id)
    this.#nodes.set(parent, { ...directory, entries, mtime: undefined })
  }

  /** Takes a name away; a file without names and without users goes with it. */
  leave(parent: number, name: string): void {
    const directory = this.#directory(parent)
    const id = directory.entries.get(name)
    const entries = new Map(directory.entries)
    entries.delete(name)
    this.#nodes.set(parent, { ...directory, entries, mtime: undefined })
    if (id === undefined) return
    const node = this.node(id)
    if (node.type === 'file') {
      this.#nodes.set(id, { ...node, links: node.links - 1 })
      this.#drop(id)
    } else {
      this.#nodes.delete(id)
    }
  }

  hold(slot: number, id: number): void {
    this.#held.set(slot, id)
  }

  held(slot: number): number | undefined {
    return this.#held.get(slot)
  }

  release(slot: number): void {
    const id = this.#held.get(slot)
    this.#held.delete(slot)
    if (id !== undefined) this.#drop(id)
  }

  /** What a daemon that was unmounted takes with it: every open file. */
  releaseAll(): void {
    for (const slot of [...this.#held.keys()]) this.release(slot)
  }

  /** Whether one directory lies in another, or is it. */
  isWithin(id: number, ancestor: number): boolean {
    if (id === ancestor) return true
    const node = this.node(ancestor)
    if (node.type !== 'dir') return false
    return [...node.entries.values()].some((child) => this.isWithin(id, child))
  }

  /** Every path with its node, the root ('') first, in the order of names. */
  *paths(): Generator<readonly [path: string, node: Node, id: number]> {
    yield* this.#below('', ROOT)
  }

  /** Every name that leads to a node: the directory's number and the name in it. */
  places(id: number): string[] {
    return [...this.#nodes].flatMap(([parent, node]) =>
      node.type === 'dir'
        ? [...node.entries].flatMap(([name, child]) => (child === id ? [`${parent}/${name}`] : []))
        : [],
    )
  }

  /** The number of a path's node, or undefined where it leads nowhere. */
  numberOf(path: string): number | undefined {
    try {
      return this.find(path)
    } catch (error) {
      if (error instanceof Refusal) return undefined
      throw error
    }
  }

  has(id: number): boolean {
    return this.#nodes.has(id)
  }

  /** Every file, by path. */
  files(): string[] {
    return [...this.paths()].flatMap(([path, node]) => (node.type === 'file' ? [path] : []))
  }

  /** Files whose content is in doubt, by path. */
  doubtful(): string[] {
    return [...this.paths()].flatMap(([path, node]) =>
      node.type === 'file' && node.others.length > 0 ? [path] : [],
    )
  }

  *#below(path: string, id: number): Generator<readonly [string, Node, number]> {
    const node = this.node(id)
    yield [path, node, id]
    if (node.type !== 'dir') return
    for (const [name, child] of [...node.entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
      yield* this.#below(path === '' ? name : `${path}/${name}`, child)
    }
  }

  #directory(id: number): DirNode {
    const node = this.node(id)
    if (node.type !== 'dir') throw new Refusal('ENOTDIR')
    return node
  }

  #drop(id: number): void {
    const node = this.#nodes.get(id)
    if (node?.type === 'file' && node.links === 0 && ![...this.#held.values()].includes(id)) {
      this.#nodes.delete(id)
    }
  }
}
