import type { Entry, FileSystem, RequestContext } from '../operations.ts'
import { isAtOrBelow, namesOf, splitPath } from './paths.ts'

const ROOT = 1n
const S_IFMT = 0o170000
const S_IFDIR = 0o040000

/** Directories that are remembered by path. Each keeps its node in the file system's memory, so they are bounded (P6). */
const CACHED_DIRECTORIES = 4096

/** A node that stays known to the file system until it is let go. */
export interface Held {
  readonly node: bigint
  /** What the look-up said, if one was made for it just now. */
  readonly entry: Entry | undefined
  release(): void
}

interface CachedDirectory {
  readonly held: Held
  readonly expires: number
}

/** The parent of a name that is to be made or removed. */
export interface Place {
  readonly parent: Held
  readonly name: Buffer
}

/**
 * Turns the paths of libfuse into node ids, one look-up for each name, and gives every look-up back (forget) when the
 * last request, open file or remembered directory that needs the node is done with it.
 */
export class Nodes {
  readonly #fileSystem: FileSystem
  readonly #known = new Map<bigint, { references: number; lookups: bigint }>()
  /** The least recently used first. */
  readonly #directories = new Map<string, CachedDirectory>()

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem
  }

  /** Holds a node that the file system has just counted a look-up for. */
  hold(entry: Entry): Held {
    const known = this.#known.get(entry.nodeId)
    if (known) known.lookups += 1n
    else this.#known.set(entry.nodeId, { references: 0, lookups: 1n })
    return this.again(entry.nodeId, entry)
  }

  /** Holds once more a node that is held. */
  again(node: bigint, entry?: Entry): Held {
    const known = this.#known.get(node)
    if (known) known.references += 1
    let released = false
    return {
      node,
      entry,
      release: () => {
        if (released) return
        released = true
        this.#release(node)
      },
    }
  }

  #release(node: bigint): void {
    const known = this.#known.get(node)
    if (!known) return
    known.references -= 1
    if (known.references > 0) return
    this.#known.delete(node)
    this.#fileSystem.forget(node, known.lookups)
  }

  /** The node at a path. @throws FsError of the file system's lookup, EILSEQ */
  async resolve(context: RequestContext, path: string): Promise<Held> {
    const names = namesOf(path)
    const last = names.pop()
    if (last === undefined) return this.again(ROOT)
    const parent = await this.#directory(context, splitPath(path).directory, names)
    try {
      return this.hold(await this.#fileSystem.lookup(context, parent.node, last))
    } finally {
      parent.release()
    }
  }

  /** @throws FsError of the file system's lookup, EILSEQ */
  async placeOf(context: RequestContext, path: string): Promise<Place> {
    const names = namesOf(path)
    const name = names.pop() ?? Buffer.alloc(0)
    return { parent: await this.#directory(context, splitPath(path).directory, names), name }
  }

  async #directory(context: RequestContext, path: string, names: Buffer[]): Promise<Held> {
    const name = names.pop()
    if (name === undefined) return this.again(ROOT)
    const cached = this.#directories.get(path)
    if (cached && cached.expires > performance.now()) {
      this.#directories.delete(path)
      this.#directories.set(path, cached)
      return this.again(cached.held.node)
    }
    const parent = await this.#directory(context, splitPath(path).directory, names)
    try {
      const found = this.hold(await this.#fileSystem.lookup(context, parent.node, name))
      this.#remember(path, found)
      return found
    } finally {
      parent.release()
    }
  }

  #remember(path: string, { node, entry }: Held): void {
    this.#drop(path)
    if (!entry || entry.entryTtlMs <= 0 || (entry.attributes.mode & S_IFMT) !== S_IFDIR) return
    this.#directories.set(path, { held: this.again(node), expires: performance.now() + entry.entryTtlMs })
    const [oldest] = this.#directories.keys()
    if (oldest !== undefined && this.#directories.size > CACHED_DIRECTORIES) this.#drop(oldest)
  }

  #drop(path: string): void {
    this.#directories.get(path)?.held.release()
    this.#directories.delete(path)
  }

  /** What was at this path, or below it, is there no more. */
  moved(path: string): void {
    for (const cached of [...this.#directories.keys()]) if (isAtOrBelow(cached, path)) this.#drop(cached)
  }

  /** Lets go of all remembered directories. */
  clear(): void {
    for (const path of [...this.#directories.keys()]) this.#drop(path)
  }
}
