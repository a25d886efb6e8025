import { type Catalog, isStored } from '../catalog/index.ts'

// Of which each is looked at once more when the run ends. A run that leaves more of them has to be made again anyway.
const MOST_KNOWN = 10_000

/**
 * Files that a run has met and could not bring into the store. One that was stored since the run began is none of them,
 * whatever was written to it after that: the run has done its work.
 */
export class LeftFiles {
  readonly #catalog: Catalog
  readonly #begin: number
  readonly #known = new Set<bigint>()
  #others = 0

  constructor(catalog: Catalog) {
    this.#catalog = catalog
    this.#begin = catalog.numbers.nextVersion()
  }

  add(ino: bigint): void {
    if (this.#isIn(ino)) return
    if (this.#known.size < MOST_KNOWN) this.#known.add(ino)
    else this.#others += 1
  }

  /** How many of them are still left. */
  count(): number {
    let left = this.#others
    for (const ino of this.#known) if (!this.#isIn(ino)) left += 1
    return left
  }

  #isIn(ino: bigint): boolean {
    const inode = this.#catalog.get(ino)
    if (!inode || inode.orphan || isStored(inode)) return true
    return inode.version > this.#begin && inode.failure === undefined
  }
}
