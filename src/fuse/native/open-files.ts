import { FsError } from '../../base/errors.ts'
import type { Held } from './nodes.ts'
import { isAtOrBelow } from './paths.ts'

const O_ACCMODE = 3
/** fuse-native takes a handle as a signed number of 32 bits, and 0 for none. */
const MAX_HANDLE = 0x7fff_ffff

export interface OpenFile {
  readonly held: Held
  /** The file system's handle. */
  readonly handle: bigint
  /** As in open(2). */
  readonly flags: number
  /** Where libfuse has it: the name it was opened by, followed through renames. */
  path: string
}

const isWriting = (flags: number): boolean => (flags & O_ACCMODE) !== 0

/**
 * Open files by the 32-bit numbers that fuse-native carries.
 *
 * To libfuse 2 every name is a file of its own, and so it is to the kernel's page cache: what is written by one hard link
 * is not seen by whoever has the file open by another one and has read those pages before. So that no reader gets an old
 * byte (P1), a file is open by several names at once only for reading; what would break that gets EBUSY.
 */
export class OpenFiles {
  readonly #byNumber = new Map<number, OpenFile>()
  readonly #byNode = new Map<bigint, Set<OpenFile>>()
  #last = 0

  /** @throws FsError EBUSY */
  checkOpen(node: bigint, path: string, flags: number): void {
    for (const other of this.#byNode.get(node) ?? []) {
      if (other.path !== path && (isWriting(flags) || isWriting(other.flags))) refuse()
    }
  }

  /** Whether content may be changed by this name without opening it. @throws FsError EBUSY */
  checkChange(node: bigint, path: string): void {
    for (const other of this.#byNode.get(node) ?? []) if (other.path !== path) refuse()
  }

  add(file: OpenFile): number {
    do this.#last = this.#last >= MAX_HANDLE ? 1 : this.#last + 1
    while (this.#byNumber.has(this.#last))
    this.#byNumber.set(this.#last, file)
    const { node } = file.held
    const files = this.#byNode.get(node) ?? new Set()
    this.#byNode.set(node, files.add(file))
    return this.#last
  }

  /** @throws FsError EBADF */
  get(number: number): OpenFile {
    const file = this.#byNumber.get(number)
    if (!file) throw new FsError('EBADF', `the kernel named a handle ${number} that nobody opened`)
    return file
  }

  delete(number: number): void {
    const file = this.#byNumber.get(number)
    if (!file) return
    this.#byNumber.delete(number)
    const files = this.#byNode.get(file.held.node)
    files?.delete(file)
    if (files?.size === 0) this.#byNode.delete(file.held.node)
  }

  isOpen(node: bigint): boolean {
    return this.#byNode.has(node)
  }

  /** A rename took place: of the file itself or of a directory above it. */
  moved(from: string, to: string): void {
    for (const file of this.#byNumber.values()) {
      if (isAtOrBelow(file.path, from)) file.path = to + file.path.slice(from.length)
    }
  }
}

function refuse(): never {
  throw new FsError('EBUSY', 'with fuse-native a file is open by several names at once only for reading')
}
