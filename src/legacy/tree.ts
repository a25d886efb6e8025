import { constants } from 'node:fs'
import { stat } from 'node:fs/promises'
import { isDirectory, isRegular } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { isOwnFile } from '../base/own-names.ts'
import {
  type Caller,
  closeDescriptor,
  freeingLater,
  directoryBatches,
  fileSystemId,
  O_PATH,
  openAt,
  QuietLinks,
  type RawDirent,
  type Disk,
  openOn,
  readlinkAt,
  type Stat,
  spaceOf,
  statAt,
  statDescriptor,
  type VolumeSpace,
  whileGuarded,
} from '../sys/index.ts'
import { FileSystems } from './file-systems.ts'
import { isEmptyDirectory, nextOf, openQuietly } from './open-directory.ts'
import type { Followed, KnownFile, KnownVolume, LegacyPlace } from './places.ts'
import { isMissingDisk, NOT_MOUNTED } from './missing-disk.ts'
import { isWithoutName, mayBePathOfRemoved, pathOf, REMOVED } from './removed.ts'
import { sourceIdentity } from './source-identity.ts'

/** Who reads: an application, whose reads move the access time as the volume has it, or ferryfs, which leaves no trace. */
export type ReadBy = 'application' | 'ferryfs'

/** Reads of applications that do not move the access time, as a mount with noatime or nodiratime has it. */
export interface QuietReads {
  readonly files: boolean
  readonly directories: boolean
}

export interface TreeOptions {
  /** It stands for a volume of which nothing can be had, and says this to everybody who asks. */
  readonly failure?: string
  readonly quiet?: QuietReads
  readonly disk?: Disk | undefined
}

const LOUD: QuietReads = { files: false, directories: false }
const AT_FDCWD = -100
const DOT = Buffer.from('.')
const DIRECTORY_DESCRIPTORS = 1024
const LISTED = constants.O_RDONLY | constants.O_DIRECTORY
const ONLY_A_DIRECTORY = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW
/** f_type of ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs, F2FS and FAT (linux/magic.h). */
const KERNELS: ReadonlySet<bigint> = new Set([
  0xef53n,
  0x58465342n,
  0x9123683en,
  0x01021994n,
  0x794c7630n,
  0xf2f52010n,
  0x4d44n,
])

const TAKEN = 'another directory has taken the place'
/** The catalog has learned where the directories are now. */
const MOVED = new FsError('ENOENT', TAKEN)
const ROUNDS = 4
/** What an open says where the directory is not, and what is there is none. */
const NOT_THERE: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP'])

/**
 * The old volume. Every access is one name relative to a directory's descriptor, and no symlink is followed on the
 * way, so nothing that lies on the volume can lead out of it. All calls answer at once: what one call sees and does
 * happens in one tick of the event loop.
 */
export class LegacyTree {
  readonly path: string
  readonly #stat: Stat | undefined
  readonly #descriptor: number | undefined
  #failure: string | undefined
  /** Nothing on the volume changes but by this machine's kernel, so it knows what was removed. */
  readonly #isKernels: boolean = false
  readonly #rootIno: bigint
  readonly #known: KnownVolume
  readonly #fileSystems: FileSystems | undefined
  readonly #directories = new Map<bigint, number>()
  /** Directories that are being opened, from below to above. */
  readonly #opening = new Set<bigint>()
  #retired: number[] = []
  /** Access times that reads of applications leave as they are. */
  readonly #quiet: QuietReads
  /** On which the volume is; undefined where its calls are made by this thread. */
  readonly disk: Disk | undefined
  readonly #quietLinks: QuietLinks | undefined
  /** The root has a mark of ferryfs that is a file. */
  hidesOwnFiles = false

  /**
   * @throws FsError if the path is not a directory that can be opened
   */
  constructor(
    path: string,
    rootIno: bigint,
    known: KnownVolume,
    { failure, quiet = LOUD, disk }: TreeOptions = {},
  ) {
    this.#quiet = quiet
    this.disk = disk
    this.path = path
    this.#rootIno = rootIno
    this.#known = known
    this.#failure = failure
    if (failure !== undefined) return
    try {
      const flags = O_PATH | constants.O_DIRECTORY
      this.#descriptor = disk ? openOn(disk, path, flags) : openAt(AT_FDCWD, Buffer.from(path), flags)
      this.#stat = statDescriptor(this.#descriptor)
      this.#fileSystems = new FileSystems(this.#stat, known.mounts)
      this.#isKernels = KERNELS.has(spaceOf(this.#descriptor).type)
      this.#quietLinks = QuietLinks.of(this.#descriptor)
    } catch (error) {
      if (this.#descriptor !== undefined) closeDescriptor(this.#descriptor)
      throw error
    }
  }

  /** @throws FsError EIO where nothing can be had of the volume */
  get rootStat(): Stat {
    if (!this.#stat) throw new FsError('EIO', this.#failure)
    return this.#stat
  }

  get #root(): number {
    if (this.#descriptor === undefined) throw new FsError('EIO', this.#failure)
    return this.#descriptor
  }

  /** What tells it from another directory (source-identity.ts). @throws FsError */
  get identity(): string {
    const root = this.#root
    return sourceIdentity(this.rootStat, spaceOf(root).type, () => fileSystemId(root))
  }

  /** Why nothing can be had of the volume, as far as it was noticed. */
  get failure(): string | undefined {
    return this.#failure
  }

  /** Device as it is written in the catalog: 0 for the volume's own (file-systems.ts). */
  deviceOf(stat: Stat): bigint {
    return this.#below.deviceOf(stat)
  }

  /** @throws FsError EIO where nothing can be had of the volume */
  get #below(): FileSystems {
    if (!this.#fileSystems) throw new FsError('EIO', this.#failure)
    return this.#fileSystems
  }

  /** An O_PATH descriptor of the directory, good for the rest of this tick. @throws FsError */
  directory(ino: bigint): number {
    if (ino === this.#rootIno) return this.#root
    const known = this.#directories.get(ino)
    if (known !== undefined) {
      this.#directories.delete(ino)
      this.#directories.set(ino, known)
      return known
    }
    const descriptor = this.#openFirst(ino)
    this.#directories.set(ino, descriptor)
    if (this.#directories.size > DIRECTORY_DESCRIPTORS) {
      const [oldest] = this.#directories.keys()
      if (oldest !== undefined) this.forget(oldest)
    }
    return descriptor
  }

  /** Where it is, of the places that the catalog knows. */
  #openFirst(ino: bigint): number {
    let gone = new FsError('ENOENT', 'the directory is not on the legacy volume')
    // Names of before can make a circle of directories that were moved.
    if (this.#opening.has(ino)) throw gone
    this.#opening.add(ino)
    try {
      // What moved is there at the second look; a volume that goes on to change has its answer as well.
      for (let round = 0; round < ROUNDS && (round === 0 || gone === MOVED); round += 1) {
        gone = new FsError('ENOENT', 'the directory is not on the legacy volume')
        for (const place of this.#known.placesOf(ino).places) {
          try {
            return this.#openAt(ino, place)
          } catch (error) {
            if (!(error instanceof FsError && NOT_THERE.has(error.code))) throw error
            gone = error
            if (error === MOVED) break
          }
        }
      }
    } finally {
      this.#opening.delete(ino)
    }
    throw gone
  }

  #openAt(ino: bigint, place: LegacyPlace): number {
    const descriptor = this.#openPlace(place)
    try {
      const followed = this.#follow(ino, place, descriptor)
      if (followed === 'here') return descriptor
      throw followed === 'moved' ? MOVED : new FsError('ENOENT', TAKEN)
    } catch (error) {
      closeDescriptor(descriptor)
      throw error
    }
  }

  #openPlace({ parent, name }: LegacyPlace): number {
    return this.#inside(parent, (directory) => openAt(directory, name, ONLY_A_DIRECTORY))
  }

  /** What the catalog is to make of the directory that lies in the place of one that it knows, if it is another. @throws FsError */
  follow(ino: bigint, place: LegacyPlace): Followed {
    const descriptor = this.#openPlace(place)
    try {
      const followed = this.#follow(ino, place, descriptor)
      // The descriptor that is kept may be of the one before.
      if (followed === 'here' || followed === 'moved') this.forget(ino)
      return followed
    } finally {
      closeDescriptor(descriptor)
    }
  }

  #follow(ino: bigint, place: LegacyPlace, descriptor: number): Followed {
    const found = this.#mountedAt(place, statDescriptor(descriptor))
    if (this.#known.placesOf(ino).legacyIno === found.ino) return 'here'
    const isEmpty = (): boolean => isEmptyDirectory(openAt(descriptor, DOT, LISTED))
    return this.#known.follow(ino, place, { ...found, dev: this.deviceOf(found), isEmpty }, (at) =>
      this.findAsKnown(at),
    )
  }

  /** As `find`, with the device as the catalog numbers those. */
  findAsKnown(place: LegacyPlace): Stat | undefined {
    const stat = this.find(place)
    return stat && { ...stat, dev: this.deviceOf(stat) }
  }

  /**
   * What lies in the place of a directory that the catalog knows, and is not that one. Opened: that mounts what is mounted as it is used.
   * @throws FsError EIO where something was mounted there, and is missing
   */
  inPlaceOf(place: LegacyPlace): Stat {
    const descriptor = this.#openPlace(place)
    try {
      return this.#mountedAt(place, statDescriptor(descriptor))
    } finally {
      closeDescriptor(descriptor)
    }
  }

  /** What was found there. @throws FsError EIO where it is what something was mounted on, which is not that, and has nothing of it */
  #mountedAt(place: LegacyPlace, found: Stat): Stat {
    const isMounted =
      found.isMountRoot ||
      !this.#below.wasMounted(place) ||
      found.dev !== statDescriptor(this.directory(place.parent)).dev
    if (!isMounted) throw new FsError('EIO', NOT_MOUNTED)
    this.#below.seen(place, found)
    return found
  }

  /**
   * As `find`, under a name that a file or directory has or had.
   * @throws FsError EIO where something was mounted there, and is missing: what is found is what it was mounted on
   */
  findKnown(known: KnownFile, place: LegacyPlace): Stat | undefined {
    const found = this.find(place)
    if (!found || isDirectory(found.mode) !== isDirectory(known.mode)) return found
    if (found.ino === known.legacyIno && this.deviceOf(found) === known.legacyDev) return found
    return isDirectory(known.mode) ? this.inPlaceOf(place) : this.#mountedAt(place, found)
  }

  /** Whether what the catalog knows there is missing, as `findKnown` has it. Costs no call where nothing was mounted. @throws FsError */
  isMissing(known: KnownFile, place: LegacyPlace): boolean {
    if (known.legacyIno === undefined || !this.#below.wasMounted(place)) return false
    try {
      this.findKnown(known, place)
      return false
    } catch (error) {
      if (isMissingDisk(error)) return true
      throw error
    }
  }

  /** Whether anything may have been mounted below SOURCE. */
  get hasMounts(): boolean {
    return this.#known.mounts.any
  }

  /** The directory was moved, removed or replaced: its descriptor is not to be used beyond this tick. */
  forget(ino: bigint): void {
    const descriptor = this.#directories.get(ino)
    if (descriptor === undefined) return
    this.#directories.delete(ino)
    if (this.#retired.length === 0) setImmediate(() => this.#closeRetired())
    this.#retired.push(descriptor)
  }

  stat(place: LegacyPlace): Stat {
    if (this.#isHidden(place.parent, place.name)) throw new FsError('EPERM', 'the name is kept by ferryfs')
    const stat = this.#inside(place.parent, (directory) => statAt(directory, place.name))
    this.#below.seen(place, stat)
    return stat
  }

  /**
   * The call in a directory. Where the root was removed with all that was in it, that something is not there says nothing: descriptors
   * of directories in it are left, and look as if somebody had emptied them. Where the directory alone was, another may lie in its place.
   * @throws FsError
   */
  #inside<T>(parent: bigint, call: (directory: number) => T): T {
    try {
      return call(this.directory(parent))
    } catch (error) {
      const isAbsent = error instanceof FsError && error.code === 'ENOENT'
      if (!isAbsent || !this.#mayBeRemoved(parent)) throw error
      if (this.isRemoved) throw new FsError('EIO', REMOVED, { cause: error })
      if (!this.#directories.has(parent)) throw error
    }
    this.forget(parent)
    return call(this.directory(parent))
  }

  /** As `stat`, but `undefined` where there is nothing. Any other failure is thrown: it is no proof of absence. */
  find(place: LegacyPlace): Stat | undefined {
    try {
      return this.stat(place)
    } catch (error) {
      if (error instanceof FsError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined
      throw error
    }
  }

  /** An open file by a path under /proc. @throws FsError */
  openPath(path: string, flags: number): number {
    return this.disk ? openOn(this.disk, path, flags) : openAt(AT_FDCWD, Buffer.from(path), flags)
  }

  /**
   * Runs `body` in this tick in the name of somebody, and with his umask: what is kept from him on the volume is kept from the
   * calls. Where this thread makes them, the umask alone is his.
   */
  as<T>(caller: Caller, body: () => T): T {
    if (this.disk) return this.disk.as(caller, body)
    process.umask(caller.umask)
    try {
      return body()
    } finally {
      process.umask(0)
    }
  }

  /** Asked at each look-up of what is not there, so of the kernel alone, where nobody else can have removed the directory. */
  #mayBeRemoved(ino: bigint): boolean {
    const descriptor = this.#directories.get(ino) ?? this.#descriptor
    return descriptor !== undefined && (!this.#isKernels || mayBePathOfRemoved(pathOf(descriptor)))
  }

  /** The root has no name any more: nothing is in it, and nothing can be made in it. */
  get isRemoved(): boolean {
    if (this.#descriptor === undefined || !isWithoutName(this.#descriptor)) return false
    this.#failure = REMOVED
    return true
  }

  /** Whether the volume says anything of its root, and that is there; asked on a thread, because it may say nothing for long. */
  async answers(): Promise<boolean> {
    try {
      const root = this.#root
      await whileGuarded(root, () => stat(`/proc/self/fd/${root}`))
      return !this.isRemoved
    } catch {
      return false
    }
  }

  rootNow(): Stat {
    return statDescriptor(this.#root)
  }

  /** A descriptor of a regular file. @throws FsError, ESTALE if another file has taken the place */
  openFile(place: LegacyPlace, legacyIno: bigint | undefined, flags: number, by: ReadBy): number {
    const careful = flags | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const isReading = (flags & (constants.O_WRONLY | constants.O_RDWR)) === 0
    const quiet = isReading && (by === 'ferryfs' || this.#quiet.files)
    const descriptor = this.#inside(place.parent, (parent) => openQuietly(parent, place.name, careful, quiet))
    const stat = statDescriptor(descriptor)
    // What took its place may have its number.
    if (isRegular(stat.mode) && (legacyIno === undefined || stat.ino === legacyIno)) return descriptor
    closeDescriptor(descriptor)
    throw new FsError('ESTALE', 'another file has taken the place')
  }

  /**
   * What is in a directory, as many entries at a time as one system call gives: up to a few thousand. To be taken to the end or
   * until one throws: it keeps a descriptor. @throws FsError at once if the directory cannot be listed: ENOENT if it was removed
   */
  batches(ino: bigint, by: ReadBy = 'ferryfs'): Generator<RawDirent[], undefined> {
    return this.#inside(ino, () => {
      const descriptor = this.openDirectory(ino, by)
      const batches = directoryBatches(descriptor)
      try {
        return this.#batches(ino, descriptor, batches, batches.next())
      } catch (error) {
        closeDescriptor(descriptor)
        throw error
      }
    })
  }

  *#batches(
    ino: bigint,
    descriptor: number,
    batches: Iterator<RawDirent[]>,
    first: IteratorResult<RawDirent[]>,
  ): Generator<RawDirent[], undefined> {
    try {
      for (let next = first; !next.done; next = nextOf(batches))
        yield next.value.filter(({ name }) => !this.#isHidden(ino, name))
    } finally {
      closeDescriptor(descriptor)
    }
  }

  isEmpty(ino: bigint): boolean {
    for (const batch of this.batches(ino)) if (batch.length > 0) return false
    return true
  }

  /**
   * Runs, within this tick, what may take the last name of the file that lies there (`stat`): a large one is freed later, on a thread.
   * A volume of the network frees by itself, and would keep a name of its own as long as somebody has the file open.
   * @throws FsError, and what `remove` throws
   */
  removing<T>({ parent, name }: LegacyPlace, stat: Stat | undefined, remove: () => T): T {
    if (!stat || !this.#isKernels) return remove()
    return freeingLater(this.directory(parent), name, stat, remove)
  }

  /** A descriptor of the directory that can be synced or listed; the caller closes it. */
  openDirectory(ino: bigint, by: ReadBy = 'ferryfs'): number {
    return openQuietly(this.directory(ino), DOT, LISTED, by === 'ferryfs' || this.#quiet.directories)
  }

  /** Target of a symlink. @throws FsError */
  target({ parent, name }: LegacyPlace, by: ReadBy = 'ferryfs'): Buffer {
    return this.#inside(parent, (directory) => {
      const quietly = by === 'ferryfs' ? this.#quietLinks?.read(directory, name) : undefined
      return quietly ?? readlinkAt(directory, name)
    })
  }

  space(): VolumeSpace {
    return spaceOf(this.#root)
  }

  close(): void {
    for (const ino of [...this.#directories.keys()]) this.forget(ino)
    this.#closeRetired()
    this.#quietLinks?.close()
    if (this.#descriptor !== undefined) closeDescriptor(this.#descriptor)
  }

  #isHidden(parent: bigint, name: Buffer): boolean {
    return this.hidesOwnFiles && parent === this.#rootIno && isOwnFile(name.toString('latin1'))
  }

  #closeRetired(): void {
    for (const descriptor of this.#retired) closeDescriptor(descriptor)
    this.#retired = []
  }
}
