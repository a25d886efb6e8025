import { isDirectory } from '../../base/attributes.ts'
import { AT_REMOVEDIR, linkAt, renameAt, type Stat, unlinkAt } from '../../sys/index.ts'
import { codeOf } from './findings.ts'
import type { FileRef } from './tree.ts'
import { find, type WorkDirectory } from './work-directory.ts'

// link(2) where the file system has no hard links at all.
const NO_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS'])

const NONE = 'it has other names, and DEST has no hard links: it is a copy of its own'
const TOO_MANY = 'it has more names than DEST takes for one file: it is a copy of its own'

/**
 * Files with several names. Each that was written has a link by its identity in the working directory, so that its other names are
 * made without a list in memory and without a path, which may be longer than any that the kernel takes.
 */
export class LinkedFiles {
  readonly #work: WorkDirectory
  #hasNone = false
  /** Have as many names as DEST takes. */
  readonly #full = new Set<string>()

  constructor(work: WorkDirectory) {
    this.#work = work
  }

  static idOf({ ino, generation }: FileRef): string {
    return `${ino.toString(16)}-${generation.toString(16)}`
  }

  /** Makes another name of a file that this run has written already; undefined if it has not. */
  join(id: string, directory: number, name: Buffer): { readonly lacks: string[] } | undefined {
    const { links } = this.#work
    const own = Buffer.from(id)
    const first = find(links, own)
    if (!first) return undefined
    const existing = find(directory, name)
    if (existing && isSame(existing, first)) return { lacks: [] }
    if (existing && isDirectory(existing.mode)) unlinkAt(directory, name, AT_REMOVEDIR)
    // A name takes the place of another in one step.
    const temporary = this.#work.temporary()
    try {
      linkAt(links, own, directory, temporary)
    } catch (error) {
      if (codeOf(error) !== 'EMLINK') throw error
      // Ours are the ones too many.
      renameAt(links, own, directory, temporary, 0)
      this.#full.add(id)
    }
    renameAt(directory, temporary, directory, name, 0)
    return { lacks: [] }
  }

  /** The file has its first name in this run. What that lacks, in words. */
  begin(id: string, directory: number, name: Buffer): string[] {
    if (this.#hasNone) return [NONE]
    if (this.#full.has(id)) return [TOO_MANY]
    try {
      linkAt(directory, name, this.#work.links, Buffer.from(id))
      return []
    } catch (error) {
      // An earlier run has made as many as there can be.
      if (codeOf(error) === 'EMLINK') return []
      if (!NO_LINKS.has(codeOf(error))) throw error
      this.#hasNone = true
      return [NONE]
    }
  }

  /** Whether a file of an earlier run is nobody's yet in this one: it must not become the same as another. */
  claim(stat: Stat, directory: number, name: Buffer): boolean {
    if (this.#hasNone || stat.nlink === 1) return true
    try {
      linkAt(directory, name, this.#work.links, Buffer.from(`@${stat.ino}`))
      return true
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return false
      // As many names as there can be: they are its own.
      if (codeOf(error) === 'EMLINK') return true
      throw error
    }
  }
}

const isSame = (one: Stat, other: Stat): boolean => one.ino === other.ino && one.dev === other.dev
