import { constants } from 'node:fs'
import { isDirectory } from '../../base/attributes.ts'
import { isGuarded } from '../../base/inode-flags.ts'
import {
  closeDescriptor,
  linkAt,
  openAt,
  openInside,
  renameAt,
  type Stat,
  statDescriptor,
  unlinkAt,
} from '../../sys/index.ts'
import { codeOf } from './findings.ts'
import { guard, guardName, loosen } from './guards.ts'
import { namesIn, removeDirectory } from './leftovers.ts'
import type { FileRef, TreeFile } from './tree.ts'
import { find, type WorkDirectory } from './work-directory.ts'

// link(2) where the file system has no hard links at all.
const NO_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS'])

const NONE = 'it has other names, and DEST has no hard links: it is a copy of its own'
const TOO_MANY = 'it has more names than DEST takes for one file: it is a copy of its own'

// A note that the file of this identity is guarded: its flags, in hexadecimal.
const GUARD_NOTE = /^!([0-9a-f]+):(.+)$/

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

  /**
   * Makes another name of a file that this run has written already; undefined if it has not.
   * @param requireReplaceable throws where what has that name now must stay
   */
  async join(
    file: TreeFile,
    directory: number,
    name: Buffer,
    requireReplaceable: (existing: Stat) => Promise<void>,
  ): Promise<{ readonly lacks: string[] } | undefined> {
    const { links } = this.#work
    const id = LinkedFiles.idOf(file)
    const own = Buffer.from(id)
    const first = find(links, own)
    if (!first) return undefined
    const existing = find(directory, name)
    if (existing && isSame(existing, first)) return { lacks: [] }
    if (existing) await requireReplaceable(existing)
    if (existing && isDirectory(existing.mode)) removeDirectory(directory, name)
    // A name takes the place of another in one step.
    const temporary = this.#work.temporary()
    let isLast = false
    try {
      linkAt(links, own, directory, temporary)
    } catch (error) {
      if (codeOf(error) !== 'EMLINK') throw error
      // Ours are the ones too many.
      renameAt(links, own, directory, temporary, 0)
      unlinkIfThere(links, claimOf(first))
      this.#full.add(id)
      isLast = true
    }
    renameAt(directory, temporary, directory, name, 0)
    return { lacks: isLast ? guardName(directory, name, file) : [] }
  }

  /** The file has its first name in this run. What that lacks, in words. */
  begin(file: TreeFile, directory: number, name: Buffer): string[] {
    const id = LinkedFiles.idOf(file)
    if (this.#hasNone) return [NONE, ...guardName(directory, name, file)]
    if (this.#full.has(id)) return [TOO_MANY, ...guardName(directory, name, file)]
    try {
      linkAt(directory, name, this.#work.links, Buffer.from(id))
    } catch (error) {
      // An earlier run has made as many as there can be.
      if (codeOf(error) === 'EMLINK') return guardName(directory, name, file)
      if (!NO_LINKS.has(codeOf(error))) throw error
      this.#hasNone = true
      return [NONE, ...guardName(directory, name, file)]
    }
    return this.#noteGuard(id, directory, name, file)
  }

  /** A file that is guarded gets no other name: its flags wait for the last. Whether DEST has them is asked now, by this name. */
  #noteGuard(id: string, directory: number, name: Buffer, file: TreeFile): string[] {
    if (!isGuarded(file.attributes)) return []
    const lacks = guardName(directory, name, file)
    loosen(directory, name, find(directory, name))
    if (lacks.length > 0) return lacks
    const note = Buffer.from(`!${(file.attributes.flags ?? 0).toString(16)}:${id}`)
    const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants
    closeDescriptor(openAt(this.#work.links, note, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600))
    return []
  }

  /**
   * No file gets another name any more. What cannot be guarded, in words.
   *
   * Crash points: the link goes before the flags come, which would keep it. What has not got its flags by then gets them from the next
   * run, which compares all files anew.
   */
  guardAll(): string[] {
    const { links } = this.#work
    const lacks: string[] = []
    // Once more after one that found some: a listing may pass over names while others go.
    for (let found = true; found; ) {
      found = false
      for (const note of namesIn(links)) {
        const [, flags, id] = GUARD_NOTE.exec(note.toString('latin1')) ?? []
        if (flags === undefined || id === undefined) continue
        lacks.push(...this.#guardOne(Buffer.from(id), Number.parseInt(flags, 16)))
        unlinkAt(links, note)
        found = true
      }
    }
    return lacks
  }

  #guardOne(own: Buffer, flags: number): string[] {
    const { links } = this.#work
    // It had as many names as there can be, and got its flags with the last.
    if (!find(links, own)) return []
    const descriptor = openInside(links, own, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      const stat = statDescriptor(descriptor)
      unlinkAt(links, own)
      unlinkIfThere(links, claimOf(stat))
      return guard(descriptor, { attributes: { ...stat, flags } })
    } finally {
      closeDescriptor(descriptor)
    }
  }

  /** Whether a file of an earlier run is nobody's yet in this one: it must not become the same as another. */
  claim(stat: Stat, directory: number, name: Buffer): boolean {
    if (this.#hasNone || stat.nlink === 1) return true
    try {
      linkAt(directory, name, this.#work.links, claimOf(stat))
      return true
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return false
      // As many names as there can be: they are its own.
      if (codeOf(error) === 'EMLINK') return true
      throw error
    }
  }
}

const claimOf = ({ ino }: Stat): Buffer => Buffer.from(`@${ino}`)

function unlinkIfThere(directory: number, name: Buffer): void {
  if (find(directory, name)) unlinkAt(directory, name)
}

const isSame = (one: Stat, other: Stat): boolean => one.ino === other.ino && one.dev === other.dev
