import { constants, readlinkSync } from 'node:fs'
import { FsError, reasonOf, UsageError } from '../../base/errors.ts'
import {
  AT_FDCWD,
  closeDescriptor,
  directoryBatches,
  lockDescriptor,
  mkdirAt,
  O_PATH,
  openAt,
  spaceOf,
} from '../../sys/index.ts'
import { closeToOthers } from './attributes.ts'
import { endingOf } from './ending-mark.ts'
import { codeOf } from './findings.ts'
import {
  find,
  requireNamespace,
  sync,
  underWay,
  WorkDirectory,
  workDirectoryNames,
} from './work-directory.ts'

const DOT = Buffer.from('.')
const LOST_AND_FOUND = Buffer.from('lost+found')
const STEP = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW

// linux/magic.h: what looks like a file there is a part of the kernel.
const KERNEL_FILE_SYSTEMS: ReadonlySet<bigint> = new Set([
  0x9fa0n,
  0x62656572n,
  0x27e0ebn,
  0x63677270n,
  0x64626720n,
  0x74726163n,
])

/** The directory that a tree is written to, open, locked against another restore, and closed to everybody else. */
export class Destination {
  readonly path: string
  readonly descriptor: number
  readonly work: WorkDirectory
  readonly namespace: string

  private constructor(path: string, descriptor: number, namespace: string, work: WorkDirectory) {
    this.path = path
    this.namespace = namespace
    this.descriptor = descriptor
    this.work = work
  }

  /**
   * Opens DEST, which is made if it is not there. Nothing is changed in a directory that is refused.
   * @param path absolute and without symlinks, as realpath(3) gives it
   * @param isTaken whether the tree has such a name in its root
   * @throws UsageError if it is neither empty nor a restore under way of the same tree, or cannot be used
   */
  static async open(
    path: string,
    namespace: string,
    isTaken: (name: Buffer) => Promise<boolean>,
  ): Promise<Destination> {
    let name: Buffer | undefined
    for (const candidate of workDirectoryNames()) {
      if (await isTaken(candidate)) continue
      name = candidate
      break
    }
    if (!name) throw new UsageError('the tree has every name that a restore under way could have')
    const descriptor = inWords(path, () => openDirectory(path))
    try {
      lock(path, descriptor)
      if (KERNEL_FILE_SYSTEMS.has(spaceOf(descriptor).type))
        throw new UsageError(
          `DEST ${path} lies on a file system of the kernel itself; give a directory on a disk`,
        )
      // Looked at twice: only once nobody else can get in does the answer stay true.
      const work = name
      const check = (): void => requireOurs(path, descriptor, { work, namespace })
      inWords(path, check)
      inWords(path, () => closeToOthers(descriptor))
      inWords(path, check)
      return new Destination(
        path,
        descriptor,
        namespace,
        inWords(path, () => WorkDirectory.open(descriptor, work, namespace)),
      )
    } catch (error) {
      closeDescriptor(descriptor)
      throw error
    }
  }

  /** Whether the path still leads here. */
  get isInPlace(): boolean {
    try {
      return readlinkSync(`/proc/self/fd/${this.descriptor}`) === this.path
    } catch {
      return false
    }
  }

  /** Names in DEST itself that are none of the tree. */
  isOwnName(name: Buffer): boolean {
    return name.equals(this.work.name) || name.equals(LOST_AND_FOUND)
  }

  close(): void {
    this.work.close()
    closeDescriptor(this.descriptor)
  }
}

/**
 * One name after the other, so that nobody who owns a directory on the way can put a symlink in the place of another. What is
 * missing is made, the last one closed to others from the beginning.
 */
function openDirectory(path: string): number {
  const names = path.split('/').filter((name) => name !== '')
  let at = openAt(AT_FDCWD, Buffer.from('/'), STEP)
  try {
    for (const [index, name] of names.entries()) {
      const isLast = index === names.length - 1
      const bytes = Buffer.from(name)
      if (!find(at, bytes)) make(at, bytes, isLast ? 0o700 : 0o755)
      const below = openAt(
        at,
        bytes,
        isLast ? constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW : STEP,
      )
      closeDescriptor(at)
      at = below
    }
    if (readlinkSync(`/proc/self/fd/${at}`) !== path)
      throw new FsError('ESTALE', 'a directory on the way was moved or replaced just now')
    if (names.length === 0) throw new FsError('EINVAL', 'it is the root directory')
    return at
  } catch (error) {
    closeDescriptor(at)
    throw error
  }
}

function make(parent: number, name: Buffer, mode: number): void {
  mkdirAt(parent, name, mode)
  const readable = openAt(parent, DOT, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    sync(readable)
  } finally {
    closeDescriptor(readable)
  }
}

function lock(path: string, descriptor: number): void {
  try {
    lockDescriptor(descriptor)
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EAGAIN')
      throw new UsageError(
        `another restore writes to DEST ${path} now; wait for its end, or give another DEST`,
      )
    // Some file systems have no such locks.
  }
}

function requireOurs(
  path: string,
  descriptor: number,
  { work, namespace }: { readonly work: Buffer; readonly namespace: string },
): void {
  const others: Buffer[] = []
  let hasWork = false
  const listed = openAt(descriptor, DOT, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    for (const batch of directoryBatches(listed)) {
      for (const { name } of batch) {
        if (name.equals(work)) hasWork = true
        else if (!isEmptyLostAndFound(descriptor, name)) others.push(name)
      }
      if (others.length > 0) break
    }
  } finally {
    closeDescriptor(listed)
  }
  hasWork ||= find(descriptor, work) !== undefined
  const found = endingOf(descriptor) ?? (hasWork ? underWay(descriptor, work) : undefined)
  if (found !== undefined) {
    requireNamespace(found, namespace)
    return
  }
  // Begun and killed before it had said so: nothing but that directory is there.
  if (others.length === 0) return
  throw new UsageError(
    `DEST ${path} is not empty and holds no restore that is under way; give an empty directory, or one that is not there yet`,
  )
}

/** What mkfs makes in the root of a new volume. */
function isEmptyLostAndFound(directory: number, name: Buffer): boolean {
  if (!name.equals(LOST_AND_FOUND)) return false
  try {
    const descriptor = openAt(
      directory,
      name,
      constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
    )
    try {
      for (const batch of directoryBatches(descriptor)) if (batch.length > 0) return false
      return true
    } finally {
      closeDescriptor(descriptor)
    }
  } catch {
    return false
  }
}

/** What DEST answers to being opened is the operator's to mend. */
function inWords<T>(path: string, body: () => T): T {
  try {
    return body()
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(
      `DEST ${path} cannot be used: ${reasonOf(error)}`,
      codeOf(error) === 'ENOSPC' ? 1 : 2,
      {
        cause: error,
      },
    )
  }
}
