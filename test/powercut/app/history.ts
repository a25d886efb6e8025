import type { Seen } from '../product/kernel.ts'

export type FileType = 'file' | 'directory' | 'symlink'

/** A change of content, or of attributes, by the step that made it. */
interface Version<T> {
  readonly step: number
  readonly value: T
}

export interface Attributes {
  readonly mode: number
  readonly xattrs: ReadonlyMap<string, string>
}

export interface Node {
  readonly id: number
  readonly type: FileType
  readonly target: string | undefined
  readonly contents: Version<Buffer>[]
  /** Where the writes ended that made the contents. */
  readonly ends: Version<number>[]
  readonly attributes: Version<Attributes>[]
  /** Steps that synced its content, or its attributes too. */
  readonly dataSyncs: number[]
  readonly syncs: number[]
  /** Number of the change of names that made it. */
  made: number
  /** Number of the last change of names that a local file system's fsync of it would bring to the disk. */
  touched: number
}

interface NameChange {
  readonly step: number
  /** What fsync of the files that it is about had to bring before it. */
  readonly before: ReadonlyArray<readonly [Node, number]>
  readonly apply: (tree: Map<string, number>) => void
}

/** Steps that the application has been told are done, and the one that it has asked for and not been told of. */
export interface Moment {
  readonly done: number
  readonly begun: number
  /** The daemon was killed, and the power stayed: nothing that was done may be lost. */
  readonly isKill?: boolean
}

const BEFORE = -1

/**
 * What applications did and were told, and what a local file system may have of it after a power cut: names in a state that
 * they had, no older than what was synced; every page of a file as it was at some moment since its last fsync.
 */
export class History {
  readonly nodes: Node[] = []
  readonly #names: NameChange[] = []
  /** Names as they are now: path to node. */
  readonly now = new Map<string, number>()
  /** By step: up to how many changes of names it synced. */
  readonly #namesSynced: Array<{ readonly step: number; readonly changes: number }> = []
  /** By step: after it the store had everything as it was after so many changes of names. */
  readonly #stored: Array<{ readonly step: number; readonly changes: number }> = []
  #step = BEFORE

  begin(step: number): void {
    this.#step = step
  }

  node(path: string): Node | undefined {
    const id = this.now.get(path)
    return id === undefined ? undefined : this.nodes[id]
  }

  /** Files of all types, directories aside. */
  get fileCount(): number {
    const ids = new Set(this.now.values())
    return [...ids].filter((id) => this.nodes[id]?.type !== 'directory').length
  }

  contentOf(node: Node): Buffer {
    return node.contents.at(-1)?.value ?? Buffer.alloc(0)
  }

  make(
    path: string,
    type: FileType,
    mode: number,
    options: { target?: string; content?: Buffer } = {},
  ): void {
    const id = this.nodes.length
    const step = this.#step
    const node: Node = {
      id,
      type,
      target: options.target,
      contents: type === 'file' ? [{ step, value: options.content ?? Buffer.alloc(0) }] : [],
      ends: type === 'file' ? [{ step, value: options.content?.length ?? 0 }] : [],
      attributes: [{ step, value: { mode, xattrs: new Map() } }],
      dataSyncs: step === BEFORE ? [BEFORE] : [],
      syncs: step === BEFORE ? [BEFORE] : [],
      made: 0,
      touched: 0,
    }
    this.nodes.push(node)
    this.#change([node, this.#above(path)], (tree) => tree.set(path, id))
    node.made = node.touched
  }

  remove(path: string): void {
    this.#change([this.node(path), this.#above(path)], (tree) => tree.delete(path))
  }

  link(path: string, to: string): void {
    const node = this.node(path)
    if (node) this.#change([node, this.#above(to)], (tree) => tree.set(to, node.id))
  }

  rename(path: string, to: string): void {
    const touched = [this.node(path), this.node(to), this.#above(path), this.#above(to)]
    this.#change(touched, (tree) => {
      const moved = [...tree].filter(([name]) => name === path || name.startsWith(`${path}/`))
      for (const [name] of moved) tree.delete(name)
      for (const [name, id] of moved) tree.set(to + name.slice(path.length), id)
    })
  }

  /** `end`: where what was written to make it so ends. */
  setContent(node: Node, value: Buffer, end = value.length): void {
    node.contents.push({ step: this.#step, value })
    node.ends.push({ step: this.#step, value: end })
  }

  setAttributes(node: Node, change: { mode?: number; xattr?: readonly [string, string] }): void {
    const last = node.attributes.at(-1)?.value ?? { mode: 0, xattrs: new Map() }
    const xattrs = new Map(last.xattrs)
    if (change.xattr) xattrs.set(...change.xattr)
    node.attributes.push({ step: this.#step, value: { mode: change.mode ?? last.mode, xattrs } })
  }

  sync(node: Node, dataOnly: boolean): void {
    node.dataSyncs.push(this.#step)
    if (dataOnly && node.type === 'file') {
      // What fdatasync has to bring besides is that the file is there at all, under whichever name.
      this.#namesSynced.push({ step: this.#step, changes: node.made })
      return
    }
    node.syncs.push(this.#step)
    this.#namesSynced.push({ step: this.#step, changes: node.touched })
  }

  syncAll(): void {
    for (const node of this.nodes) {
      node.dataSyncs.push(this.#step)
      node.syncs.push(this.#step)
    }
    this.#namesSynced.push({ step: this.#step, changes: this.#names.length })
  }

  /**
   * The step was cut short by a kill: nobody was told that it is done. What it changed took place or not, as is seen now, if
   * anybody looked.
   */
  cutShort(step: number, seen: Tree | undefined): void {
    const others = (notes: number[]): void =>
      void notes.splice(0, notes.length, ...notes.filter((each) => each !== step))
    for (const list of [this.#namesSynced, this.#stored]) {
      for (let at = list.length - 1; at >= 0; at -= 1) if (list[at]?.step === step) list.splice(at, 1)
    }
    for (const node of this.nodes) {
      others(node.dataSyncs)
      others(node.syncs)
    }
    if (!seen) return
    this.#undoUnseen(step, seen)
    for (const [path, id] of this.now) {
      const node = this.nodes[id]
      const there = seen.get(path)
      if (!node || !there) continue
      if (node.contents.at(-1)?.step === step && there.content && there.lost.size === 0)
        this.setContent(node, there.content)
      const { mode } = there.attributes
      if (node.attributes.at(-1)?.step === step)
        node.attributes.push({ step, value: { mode: mode & 0o7777, xattrs: there.xattrs } })
    }
  }

  /** The change of names that the step began did not take place. */
  #undoUnseen(step: number, seen: Tree): void {
    const last = this.#names.at(-1)
    if (last?.step !== step) return
    const without = this.namesAfter(this.#names.length - 1)
    if (without.size !== seen.size || [...without.keys()].some((path) => !seen.has(path))) return
    // A name that is taken by another file: names alone do not tell.
    if (this.now.size === without.size && [...this.now.keys()].every((path) => without.has(path))) return
    this.#names.pop()
    for (const [node, touched] of last.before) node.touched = touched
    this.now.clear()
    for (const [path, id] of without) this.now.set(path, id)
  }

  /** The store has everything as it is now. */
  allStored(): void {
    this.#stored.push({ step: this.#step, changes: this.#names.length })
  }

  /**
   * Files that the store has had, and that nobody has removed since: the paths that they have had, and what was in them. Undefined
   * if it never had everything.
   */
  storedBefore({
    done,
    begun,
  }: Moment): Array<{ node: Node; paths: Set<string>; contents: Buffer[] }> | undefined {
    const last = this.#stored.filter(({ step }) => step <= done).at(-1)
    if (!last) return undefined
    const { most } = this.namesBetween({ done, begun })
    const paths = new Map<number, Set<string>>()
    for (const [path, id] of this.namesAfter(last.changes)) {
      if (this.nodes[id]?.type !== 'directory') paths.set(id, (paths.get(id) ?? new Set()).add(path))
    }
    for (let count = last.changes + 1; count <= most; count += 1) {
      const names = this.namesAfter(count)
      const alive = new Set(names.values())
      for (const id of paths.keys()) if (!alive.has(id)) paths.delete(id)
      for (const [path, id] of names) paths.get(id)?.add(path)
    }
    return [...paths].flatMap(([id, own]) => {
      const node = this.nodes[id]
      return node ? [{ node, paths: own, contents: possible(node.contents, [last.step], done, begun) }] : []
    })
  }

  /** How many changes of names are there at least, and at most. */
  namesBetween({ done, begun, isKill }: Moment): { least: number; most: number } {
    let least = this.#names.filter(({ step }) => step === BEFORE || (isKill && step <= done)).length
    for (const { step, changes } of this.#namesSynced) if (step <= done) least = Math.max(least, changes)
    const most = this.#names.filter(({ step }) => step <= begun).length
    return { least, most }
  }

  /** Names after so many changes. */
  namesAfter(count: number): Map<string, number> {
    const tree = new Map<string, number>()
    for (const change of this.#names.slice(0, count)) change.apply(tree)
    return tree
  }

  /** Contents that the file may have had on the disk, oldest first. */
  possibleContents(node: Node, moment: Moment): Buffer[] {
    return possible(node.contents, syncsOf(node.dataSyncs, moment), moment.done, moment.begun)
  }

  /** Sizes that it may have had there: it ends where what reached the disk ends. */
  possibleSizes(node: Node, moment: Moment): Set<number> {
    const { done, begun } = moment
    const sizes = this.possibleContents(node, moment).map(({ length }) => length)
    return new Set([...sizes, ...possible(node.ends, syncsOf(node.dataSyncs, moment), done, begun)])
  }

  possibleAttributes(node: Node, moment: Moment): Attributes[] {
    return possible(node.attributes, syncsOf(node.syncs, moment), moment.done, moment.begun)
  }

  /** It was on the disk for certain at some time. */
  wasDurable(node: Node, { done, isKill }: Moment): boolean {
    return isKill === true || node.dataSyncs.some((step) => step <= done)
  }

  #above(path: string): Node | undefined {
    return this.node(path.slice(0, path.lastIndexOf('/')))
  }

  #change(touched: ReadonlyArray<Node | undefined>, apply: (tree: Map<string, number>) => void): void {
    apply(this.now)
    const before = touched.flatMap((node) => (node ? [[node, node.touched] as const] : []))
    this.#names.push({ step: this.#step, before, apply })
    for (const node of touched) if (node) node.touched = this.#names.length
  }
}

const syncsOf = (syncs: readonly number[], { done, isKill }: Moment): readonly number[] =>
  isKill ? [done] : syncs

function possible<T>(
  versions: ReadonlyArray<Version<T>>,
  syncs: readonly number[],
  done: number,
  begun: number,
): T[] {
  let synced = Number.NEGATIVE_INFINITY
  for (const step of syncs) if (step <= done) synced = Math.max(synced, step)
  const reached = versions.filter(({ step }) => step <= begun)
  let first = 0
  for (const [index, { step }] of reached.entries()) if (step <= synced) first = index
  return reached.slice(first).map(({ value }) => value)
}

export type Tree = ReadonlyMap<string, Seen>
