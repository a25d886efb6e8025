import { fileId, lacksNames, ROOT_INO } from '../../catalog/index.ts'
import { isOfNoUse } from '../rebuild/store-reader.ts'
import { isGoneFromVolume, isInStoreAlone, keepGone, lose, removeGone, takeDirectory } from './gone.ts'
import type { MendRun } from './mend-directory.ts'

/** Directories that no record was found to lead to, or that have none themselves. */
export class Unfound {
  readonly #run: MendRun
  /** Until it is known what has become of them; with why they have no record, if that was looked for. */
  readonly #directories = new Map<bigint, string | undefined>()

  constructor(run: MendRun) {
    this.#run = run
  }

  add(directory: bigint, why?: string): void {
    this.#directories.set(directory, why)
  }

  /**
   * Whether a record names a file, or may have: of what is nowhere else that tells what was lost from what was removed. Once all
   * records were read that lead to it.
   */
  isNamed(ino: bigint): boolean {
    const { catalog } = this.#run.context
    // The root is named by nobody.
    if (ino === ROOT_INO || catalog.doubts.isNamed(ino)) return true
    return catalog.links.of(ino).some(({ parent }) => {
      const directory = catalog.get(parent)
      const isRootWithout = parent === ROOT_INO && this.#directories.has(ROOT_INO)
      return isRootWithout || (directory !== undefined && lacksNames(directory))
    })
  }

  /**
   * Those that a record names, and that have none of their own, are lost with what was in them that nobody knows.
   * @returns which
   */
  loseNamed(): bigint[] {
    const { context } = this.#run
    const lost: bigint[] = []
    for (const [ino, why] of this.#directories) {
      // One that the catalog has never stored is no loss: a root is at the beginning.
      const isNew = ino === ROOT_INO && context.catalog.get(ino)?.dirGeneration === 0
      if (why === undefined || isNew || !this.isNamed(ino)) continue
      lose(context, ino, why)
      this.#directories.delete(ino)
      lost.push(ino)
    }
    return lost
  }

  /**
   * Once all files were compared: of the others those in which nothing is left were removed, each after what was in it. Where something
   * is left the directory is there as well, as its record says, or else the catalog.
   * @throws StoreError
   */
  async settle(): Promise<void> {
    const { context, reader } = this.#run
    const { catalog } = context
    const isGone = (ino: bigint): boolean => {
      const inode = catalog.get(ino)
      return inode !== undefined && isInStoreAlone(context, inode)
    }
    for (const ino of [...this.#directories.keys()]) {
      const left = [ino]
      for (let at = left.pop(); at !== undefined; at = left.pop()) {
        if (!this.#directories.has(at) || catalog.dirents.count(at) > 0 || !isGone(at)) continue
        this.#directories.delete(at)
        left.push(...removeGone(context, at))
      }
    }
    for (const ino of this.#directories.keys()) {
      const inode = catalog.get(ino)
      const isNew = inode?.dirGeneration === 0 && !isGoneFromVolume(context, inode)
      if (!inode || inode.orphan || isNew) continue
      try {
        takeDirectory(context, ino, await reader.header(fileId(inode)))
      } catch (error) {
        if (!isOfNoUse(error)) throw error
      }
      keepGone(context, ino)
    }
    this.#directories.clear()
  }
}
