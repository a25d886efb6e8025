import { giveWay } from '../../base/pace.ts'
import { fileId, lacksNames, ROOT_INO } from '../../catalog/index.ts'
import { isOfNoUse } from '../rebuild/store-reader.ts'
import { isGoneFromVolume, isInStoreAlone, keepGone, lose, removeGone, takeDirectory } from './gone.ts'
import type { MendRun } from './mend-directory.ts'

/** Directories that no record was found to lead to, or that have none themselves. */
export class Unfound {
  readonly #run: MendRun

  constructor(run: MendRun) {
    this.#run = run
  }

  /** Until it is known what has become of it. @param why it has no record, if that was looked for */
  add(directory: bigint, why?: string): void {
    const { context, notes } = this.#run
    context.catalog.transaction(() => notes.note(directory, 'unfound', false, why))
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
      const isRootWithout = parent === ROOT_INO && this.#run.notes.has(ROOT_INO, 'unfound')
      return isRootWithout || (directory !== undefined && lacksNames(directory))
    })
  }

  /**
   * Those that a record names, and that have none of their own, are lost with what was in them that nobody knows.
   * @param lost is told of each
   */
  loseNamed(lost: (ino: bigint) => void): void {
    const { context, notes } = this.#run
    for (const { ino, why } of this.#all()) {
      // One that the catalog has never stored is no loss: a root is at the beginning.
      const isNew = ino === ROOT_INO && context.catalog.get(ino)?.dirGeneration === 0
      if (why === undefined || isNew || !this.isNamed(ino)) continue
      lose(context, ino, why)
      context.catalog.transaction(() => notes.drop(ino))
      lost(ino)
    }
  }

  *#all(): Generator<{ readonly ino: bigint; readonly why: string | undefined }> {
    for (let after: bigint | undefined; ; ) {
      const some = this.#run.notes.some('unfound', after)
      yield* some
      after = some.at(-1)?.ino
      if (after === undefined) return
    }
  }

  /**
   * Once all files were compared: of the others those in which nothing is left were removed, each after what was in it. Where something
   * is left the directory is there as well, as its record says, or else the catalog.
   * @throws StoreError
   */
  async settle(): Promise<void> {
    const { context, notes, reader } = this.#run
    const { catalog } = context
    const isGone = (ino: bigint): boolean => {
      const inode = catalog.get(ino)
      return inode !== undefined && isInStoreAlone(context, inode)
    }
    for (const { ino } of this.#all()) {
      const left = [ino]
      for (let at = left.pop(); at !== undefined; at = left.pop()) {
        if (!notes.has(at, 'unfound') || catalog.dirents.count(at) > 0 || !isGone(at)) continue
        this.#done(at)
        left.push(...removeGone(context, at))
      }
      await giveWay()
    }
    for (const { ino } of this.#all()) {
      await giveWay()
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
  }

  /** What has become of it is known; it is compared with all others. */
  #done(ino: bigint): void {
    const { context, notes } = this.#run
    context.catalog.transaction(() => notes.note(ino, 'read', false))
  }
}
