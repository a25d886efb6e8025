import {
  closeSync,
  constants,
  fstatSync,
  fsync,
  ftruncate,
  ftruncateSync,
  lstatSync,
  opendirSync,
  openSync,
} from 'node:fs'
import { join } from 'node:path'
import { FsError, reasonOf, toErrno } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { isPlainFile, kindOf, removePlace, removePlaceByThread } from '../base/plain-file.ts'
import { makePrivateDirectory } from '../base/private.ts'
import { synced } from '../base/synced.ts'
import { type Catalog, fileId, type Inode, inoOfFileId } from '../catalog/index.ts'
import {
  DescriptorCache,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  fallocate,
  Lanes,
  SEEK_DATA,
  SEEK_HOLE,
  seek,
  spaceOfPath,
  statDescriptor,
  type VolumeSpace,
} from '../sys/index.ts'
import { CHUNK_BYTES, type ContentSettings } from './context.ts'
import { readFully, writeFully } from './legacy-files.ts'
import { LostFiles } from './lost-files.ts'
import { newFile, type StagingFile, syncOf } from './staging-file.ts'

const CAPACITY = 512
// Calls in the thread pool: where the disk hangs, each keeps a thread, and others need theirs.
const CALLS = { reads: 6, writes: 4, syncs: 6 }
// Files that were given up wait for a flush of the catalog. So many bytes in them do not wait for others to share it with.
const LEAVING_BYTES = 64 * 1024 * 1024
// ENXIO of errno.h: lseek at or after the end.
const ENXIO = 6
// ENOSPC of errno.h.
const ENOSPC = 28
// EMFILE, ENFILE, ENOMEM and EROFS of errno.h: what an open fails with that is no fault of the file.
const NOT_OF_THE_FILE: ReadonlySet<number> = new Set([24, 23, 12, 30])
// EEXIST of errno.h.
const EEXIST = 17

/**
 * Local files with the bytes that the store does not have yet: one sparse file per changed file, a chunk's bytes at the
 * chunk's offset. Invariants: bytes beyond the file's size, and in chunks that the catalog does not list as staged, are
 * holes; `recover` makes it so again after a crash. What the last flushed catalog may list is neither removed nor cut: a
 * file that is given up goes once that is flushed, and is never written again, as the next one has another number.
 */
export class Staging {
  readonly #settings: ContentSettings
  readonly #catalog: Catalog
  readonly #descriptors = new DescriptorCache(CAPACITY)
  readonly #files = new Map<bigint, StagingFile>()
  readonly #lost: LostFiles
  readonly #reads = new Lanes(CALLS.reads)
  readonly #writes = new Lanes(CALLS.writes)
  readonly #syncs = new Lanes(CALLS.syncs)
  readonly #removals = new Lanes(1)
  #total = 0
  #leaving = 0

  constructor(settings: ContentSettings, catalog: Catalog) {
    this.#settings = settings
    this.#catalog = catalog
    this.#lost = new LostFiles(settings.stagingDirectory)
    makePrivateDirectory(settings.stagingDirectory)
  }

  /** Bytes that all files in use occupy; those that only wait to be removed do not count. */
  get bytes(): number {
    return this.#total
  }

  /** Bytes that one file's staging file occupies. */
  bytesOf(ino: bigint): number {
    return this.#files.get(ino)?.bytes ?? 0
  }

  get limit(): number {
    return this.#settings.stagingLimit
  }

  /** @throws FsError ENOSPC if `more` bytes would not fit under the limit */
  reserve(more: number): void {
    if (this.#total + more > this.#settings.stagingLimit) {
      throw new FsError(
        'ENOSPC',
        `staging holds ${this.#total} of at most ${this.#settings.stagingLimit} bytes; wait for the store or raise --staging-limit`,
      )
    }
  }

  /** Space for staging as a volume: what the limit and the disk leave. */
  space(): VolumeSpace {
    const disk = spaceOfPath(this.#settings.stagingDirectory)
    const unit = BigInt(disk.bsize)
    const blocks = BigInt(this.limit) / unit
    const left = BigInt(Math.max(0, this.limit - this.#total)) / unit
    const free = left < disk.bavail ? left : disk.bavail
    return { ...disk, blocks, bfree: free, bavail: free }
  }

  read(inode: Inode, buffer: Buffer, position: number): Promise<number> {
    return this.#descriptors.use(
      inode.ino,
      () => this.#open(inode),
      (descriptor) => readFully(descriptor, buffer, position, (body) => this.#reads.run(body)),
    )
  }

  /** All of it or an error: a part would look like bytes of the file. @throws FsError ENOSPC if the disk is full */
  write(inode: Inode, data: Buffer, position: number): Promise<void> {
    return this.#descriptors.use(
      inode.ino,
      () => this.#open(inode),
      async (descriptor) => {
        let written = await this.#writeWhatFits(descriptor, data, position)
        if (written < data.length && this.#leaving > 0) {
          // What was given up still takes room.
          await this.givenBack()
          written += await this.#writeWhatFits(descriptor, data.subarray(written), position + written)
        }
        this.#account(inode.ino, descriptor)
        if (written < data.length) throw new FsError('ENOSPC', 'the staging disk is full')
      },
    )
  }

  /** What was released takes no room any more, once this is done. @throws FsError as `Catalog.flush` */
  async givenBack(): Promise<void> {
    await this.#catalog.flush()
    await this.#removals.run(async () => undefined)
  }

  async #writeWhatFits(descriptor: number, data: Buffer, position: number): Promise<number> {
    try {
      return await this.#writes.run(() => writeFully(descriptor, data, position))
    } catch (error) {
      if (toErrno(error) === ENOSPC) return 0
      throw error
    }
  }

  /** Cuts what is beyond `size`. A file that is shorter stays as it is: what it lacks is missing, not zeros. */
  cut(inode: Inode, size: number): void {
    this.#resize(inode, (length) => length > size, size)
  }

  /** The same on a thread: what goes may be large. Nobody may write to the file meanwhile. */
  async cutByThread(inode: Inode, size: number): Promise<void> {
    const { ino } = inode
    await this.#descriptors.use(
      ino,
      () => this.#open(inode),
      async (descriptor) => {
        const file = this.#files.get(ino)
        if (!file || file.length <= size) return
        await this.#syncs.run(
          () =>
            new Promise<void>((resolve, reject) =>
              ftruncate(descriptor, size, (error) => (error ? reject(error) : resolve())),
            ),
        )
        if (this.#files.get(ino) === file) this.#account(ino, descriptor)
      },
    )
  }

  /** Where the file is shorter, what it lacks is zeros from now on. */
  extend(inode: Inode, size: number): void {
    this.#resize(inode, (length) => length < size, size)
  }

  #resize(inode: Inode, isWanted: (length: number) => boolean, size: number): void {
    this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      (descriptor) => {
        if (!isWanted(this.#files.get(inode.ino)?.length ?? 0)) return
        ftruncateSync(descriptor, size)
        this.#account(inode.ino, descriptor)
      },
    )
  }

  /** Length of the staging file. @throws FsError EIO if it is missing */
  lengthOf(inode: Inode): number {
    return this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      () => this.#files.get(inode.ino)?.length ?? 0,
    )
  }

  /** The chunk is what was staged, as far as this process knows. */
  isSound(ino: bigint, index: number): boolean {
    return this.#files.get(ino)?.sound?.has(index) ?? false
  }

  markSound(ino: bigint, index: number): void {
    const file = this.#files.get(ino)
    if (file) (file.sound ??= new Set()).add(index)
  }

  /** Makes a range a hole, as far as the staging file goes; its length stays. */
  punch(inode: Inode, offset: number, length: number): void {
    this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      (descriptor) => {
        const end = Math.min(offset + length, statDescriptor(descriptor).size)
        if (end <= offset) return
        fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, end - offset)
        this.#account(inode.ino, descriptor)
      },
    )
  }

  /** Next data or hole at or after `offset` in the staging file; `undefined` where there is no more data. */
  seek(inode: Inode, offset: number, whence: typeof SEEK_DATA | typeof SEEK_HOLE): number | undefined {
    return this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      (descriptor) => {
        try {
          return seek(descriptor, offset, whence)
        } catch (error) {
          if (toErrno(error) === ENXIO) return undefined
          throw error
        }
      },
    )
  }

  /** Bytes on the medium when this resolves; false if the staging file has been given up meanwhile. */
  sync(inode: Inode): Promise<boolean> {
    return this.#descriptors.use(
      inode.ino,
      () => this.#open(inode),
      async (descriptor) => {
        const file = this.#files.get(inode.ino)
        if (file) {
          file.descriptor = descriptor
          file.sync ??= syncOf(file, (sync) => this.#syncs.run(sync))
          await file.sync.run()
        }
        if (file && !file.named) {
          await this.#syncNames()
          file.named = true
        }
        return file === this.#files.get(inode.ino)
      },
    )
  }

  /** Whether what is in the file has to be written anew before a sync of it counts. */
  isDoubtful(ino: bigint): boolean {
    return this.#files.get(ino)?.doubtful === true
  }

  /** A sync failed that this process does not know of. */
  doubt(inode: Inode): void {
    this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      () => {
        const file = this.#files.get(inode.ino)
        if (file) file.doubtful = true
      },
    )
  }

  /**
   * Writes all that is in the file over itself: what a failed sync left behind is clean to the kernel and would never reach
   * the disk. Nobody may write to the file meanwhile.
   */
  async rewrite(inode: Inode): Promise<void> {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
    for (let from = this.seek(inode, 0, SEEK_DATA); from !== undefined; ) {
      const end = this.seek(inode, from, SEEK_HOLE) ?? from
      while (from < end) {
        const part = buffer.subarray(0, Math.min(CHUNK_BYTES, end - from))
        const length = await this.read(inode, part, from)
        if (length === 0) break
        await this.write(inode, part.subarray(0, length), from)
        from += length
      }
      from = this.seek(inode, end, SEEK_DATA)
    }
    const file = this.#files.get(inode.ino)
    if (file) file.doubtful = false
  }

  async #syncNames(): Promise<void> {
    const directory = openSync(this.#settings.stagingDirectory, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await this.#syncs.run(() => synced(fsync, directory))
    } finally {
      closeSync(directory)
    }
  }

  /** Makes an empty staging file for the inode; gives its number. In the transaction that notes it. */
  create(inode: Inode): number {
    for (;;) {
      const number = this.#catalog.numbers.nextStagingFile()
      try {
        const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
        closeSync(openSync(this.#path(inode, number), flags, 0o600))
        this.#files.set(inode.ino, newFile())
        return number
      } catch (error) {
        // A power loss took back what knew of the number; that file goes by itself.
        if (toErrno(error) !== EEXIST) throw error
      }
    }
  }

  /** The transaction that was to note a new file failed: nothing refers to it. */
  abandon(inode: Inode, number: number): void {
    this.#files.delete(inode.ino)
    removePlace(this.#path(inode, number))
  }

  /**
   * The catalog, as just committed, does not refer to the staging file with this number any more: it goes once that is
   * flushed. 0: there is none.
   */
  release(inode: Inode, number: number): void {
    if (number === 0) return
    const { ino } = inode
    const path = this.#path(inode, number)
    this.#descriptors.drop(ino)
    const bytes = this.bytesOf(ino)
    this.#files.delete(ino)
    this.#total -= bytes
    this.#leaving += bytes
    this.#catalog.afterFlush(() => {
      faultPoint('content.staging.flushed')
      this.#remove(path, bytes)
    })
    // Whoever needs the flush meets its failure.
    if (this.#leaving > LEAVING_BYTES) this.#catalog.flush().catch(() => undefined)
  }

  #remove(path: string, bytes: number): void {
    const removed = this.#removals.run(async () => {
      await removePlaceByThread(path)
      this.#leaving -= bytes
      faultPoint('content.staging.removed')
    })
    // What cannot be removed takes room until the next start tries it again.
    removed.catch(() => undefined)
  }

  /**
   * Brings the files back in line with the catalog after a crash: cuts what lies beyond a file's size or in chunks that are
   * not staged, and removes files that no inode owns. The catalog has to be flushed: what it says now is what stays.
   */
  recover(catalog: Catalog): void {
    // What lost transactions referred to may be the only copy of what was acknowledged.
    const isKept = catalog.doubts.any
    for (const ino of catalog.lists.staged()) {
      const inode = catalog.get(ino)
      if (!inode) continue
      if (!this.isThere(inode)) continue
      this.cut(inode, inode.size)
      for (let offset = this.seek(inode, 0, SEEK_DATA); offset !== undefined; ) {
        const index = Math.floor(offset / CHUNK_BYTES)
        if (!catalog.staged.has(ino, index)) this.punch(inode, index * CHUNK_BYTES, CHUNK_BYTES)
        offset = this.seek(inode, (index + 1) * CHUNK_BYTES, SEEK_DATA)
      }
    }
    const directory = opendirSync(this.#settings.stagingDirectory)
    try {
      for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
        const { name } = entry
        if (this.#isOwned(name)) continue
        const path = join(this.#settings.stagingDirectory, name)
        if (!isKept) removePlace(path)
        else if (isPlainFile(path)) this.#lost.setAside(name)
      }
    } finally {
      directory.closeSync()
    }
  }

  #isOwned(name: string): boolean {
    const ino = inoOfFileId(name)
    const inode = ino === undefined ? undefined : this.#catalog.get(ino)
    return inode !== undefined && inode.staged > 0 && nameOf(inode, inode.staged) === name
  }

  /**
   * Copies all files in use, before what was lost makes recovery cut one that it would not have cut. On the medium when it returns.
   * Where it is cut short, the next call with the same `loss` does the rest.
   */
  keepAll(catalog: Catalog, loss: string): void {
    this.#lost.copyAll(this.#namesInUse(catalog), loss)
  }

  *#namesInUse(catalog: Catalog): Generator<string> {
    for (const ino of catalog.lists.staged()) {
      const inode = catalog.get(ino)
      if (inode && this.isThere(inode)) yield nameOf(inode, inode.staged)
    }
  }

  /** The staging file has not gone missing: it can be opened. */
  isThere(inode: Inode): boolean {
    if (!isPlainFile(this.#path(inode, inode.staged))) return false
    try {
      return this.#descriptors.useSync(
        inode.ino,
        () => this.#open(inode),
        () => true,
      )
    } catch (error) {
      if (error instanceof FsError && error.code === 'EIO') return false
      throw error
    }
  }

  close(): void {
    this.#descriptors.clear()
  }

  #account(ino: bigint, descriptor: number): void {
    const { blocks, size } = statDescriptor(descriptor)
    const file = this.#files.get(ino) ?? newFile()
    this.#total += blocks * 512 - file.bytes
    file.bytes = blocks * 512
    file.length = size
    this.#files.set(ino, file)
  }

  #open(inode: Inode): number {
    // Never made here: what is missing is an error, not an empty file. So is what lies in its place and is no file.
    const path = this.#path(inode, inode.staged)
    let descriptor: number
    try {
      descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    } catch (error) {
      if (NOT_OF_THE_FILE.has(toErrno(error))) throw error
      throw new FsError('EIO', `the staging file ${path} ${whatIsWrong(path, error)}`, { cause: error })
    }
    try {
      if (!fstatSync(descriptor).isFile())
        throw new FsError('EIO', `the staging file ${path} ${whatIsWrong(path)}`)
      this.#account(inode.ino, descriptor)
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
    return descriptor
  }

  #path(inode: Inode, number: number): string {
    return join(this.#settings.stagingDirectory, nameOf(inode, number))
  }
}

/** Format 1 of the catalog knew one name for a file's staging file; it is number 1. */
const nameOf = (inode: Inode, number: number): string =>
  number === 1 ? fileId(inode) : `${fileId(inode)}.${number.toString(16)}`

/** Why a staging file cannot be opened. */
function whatIsWrong(path: string, error?: unknown): string {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat) return 'is missing'
  return stat.isFile()
    ? `cannot be opened: ${reasonOf(error)}`
    : `is missing: there is ${kindOf(stat)} in its place`
}
