import {
  closeSync,
  constants,
  fdatasync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import { FsError, toErrno } from '../base/errors.ts'
import { type Catalog, fileId, type Inode } from '../catalog/index.ts'
import {
  DescriptorCache,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  fallocate,
  SEEK_DATA,
  type SEEK_HOLE,
  seek,
  spaceOfPath,
  statDescriptor,
  type VolumeSpace,
} from '../sys/index.ts'
import { CHUNK_BYTES, type ContentSettings } from './context.ts'
import { readFully, writeFully } from './legacy-files.ts'

const CAPACITY = 512
// ENXIO of errno.h: lseek at or after the end.
const ENXIO = 6

/**
 * Local files with the bytes that the store does not have yet: one sparse file per changed file, a chunk's bytes at the
 * chunk's offset. Invariant: bytes beyond the file's size, and in chunks that the catalog does not list as staged, are
 * holes; `recover` makes it so again after a crash.
 */
export class Staging {
  readonly #settings: ContentSettings
  readonly #descriptors = new DescriptorCache(CAPACITY)
  /** What each staging file occupies; a new object for each file that is made. */
  readonly #files = new Map<bigint, { bytes: number }>()
  #total = 0

  constructor(settings: ContentSettings) {
    this.#settings = settings
    mkdirSync(settings.stagingDirectory, { recursive: true, mode: 0o700 })
  }

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
      (descriptor) => readFully(descriptor, buffer, position),
    )
  }

  /** All of it or an error: a part would look like bytes of the file. @throws FsError ENOSPC if the disk is full */
  write(inode: Inode, data: Buffer, position: number): Promise<void> {
    return this.#descriptors.use(
      inode.ino,
      () => this.#open(inode),
      async (descriptor) => {
        const written = await writeFully(descriptor, data, position)
        this.#account(inode.ino, descriptor)
        if (written < data.length) throw new FsError('ENOSPC', 'the staging disk is full')
      },
    )
  }

  truncate(inode: Inode, size: number): void {
    this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      (descriptor) => {
        ftruncateSync(descriptor, size)
        this.#account(inode.ino, descriptor)
      },
    )
  }

  /** Makes a range a hole; the length of the staging file stays. */
  punch(inode: Inode, offset: number, length: number): void {
    this.#descriptors.useSync(
      inode.ino,
      () => this.#open(inode),
      (descriptor) => {
        fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
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
        await new Promise<void>((resolve, reject) =>
          fdatasync(descriptor, (error) => (error ? reject(error) : resolve())),
        )
        return file === this.#files.get(inode.ino)
      },
    )
  }

  /** The file's bytes are elsewhere now, and the catalog says so. */
  remove(inode: Inode): void {
    this.#descriptors.drop(inode.ino)
    this.#total -= this.bytesOf(inode.ino)
    this.#files.delete(inode.ino)
    rmSync(this.#path(inode), { force: true })
  }

  /**
   * Brings the files back in line with the catalog after a crash: ends truncations, cuts what lies beyond a file's size
   * or in chunks that are not staged, and removes files that no inode owns.
   */
  recover(catalog: Catalog): void {
    const owned = new Set<string>()
    for (const ino of catalog.stagedInodes()) {
      const inode = catalog.get(ino)
      if (!inode) continue
      owned.add(fileId(inode))
      this.truncate(inode, inode.size)
      const staged = new Set(catalog.stagedChunks(ino))
      for (let offset = this.seek(inode, 0, SEEK_DATA); offset !== undefined; ) {
        const index = Math.floor(offset / CHUNK_BYTES)
        if (!staged.has(index)) this.punch(inode, index * CHUNK_BYTES, CHUNK_BYTES)
        offset = this.seek(inode, (index + 1) * CHUNK_BYTES, SEEK_DATA)
      }
    }
    for (const name of readdirSync(this.#settings.stagingDirectory)) {
      if (!owned.has(name)) rmSync(join(this.#settings.stagingDirectory, name), { force: true })
    }
  }

  close(): void {
    this.#descriptors.clear()
  }

  #account(ino: bigint, descriptor: number): void {
    const now = statDescriptor(descriptor).blocks * 512
    const file = this.#files.get(ino) ?? { bytes: 0 }
    this.#total += now - file.bytes
    file.bytes = now
    this.#files.set(ino, file)
  }

  #open(inode: Inode): number {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW
    const descriptor = openSync(this.#path(inode), flags, 0o600)
    try {
      this.#account(inode.ino, descriptor)
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
    return descriptor
  }

  #path(inode: Inode): string {
    return join(this.#settings.stagingDirectory, fileId(inode))
  }
}
