import { closeSync, constants, ftruncateSync, mkdirSync, readdirSync, writeSync } from 'node:fs'
import { isDirectory, isRegular, isSymlink, S_IFMT } from '../base/attributes.ts'
import { FsError, reasonOf, UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { attributesOf, type Inode, isStored, ROOT_INO } from '../catalog/index.ts'
import {
  CHUNK_BYTES,
  chunkCount,
  decodeXattrs,
  legacyStat,
  placeOf,
  readLegacyXattrs,
  requireLegacy,
  type StoredContent,
} from '../content/index.ts'
import type { Overlay, OverlayContext } from '../overlay/index.ts'
import {
  chmodAt,
  chownAt,
  closeDescriptor,
  linkAt,
  mkdirAt,
  mknodAt,
  O_PATH,
  openAt,
  printable,
  setXattr,
  symlinkAt,
  syncFileSystem,
  utimensAt,
} from '../sys/index.ts'
import { ProgressMeter, type RunProgress } from './progress.ts'

const AT_FDCWD = -100
const DOT = Buffer.from('.')

interface Failed {
  readonly path: string
  readonly reason: string
}

/**
 * Writes the whole tree as plain files below an empty directory, out of the store; what the store does not have yet comes
 * from where it is. Owners, modes, times, xattrs, hard links, holes and special files as they are in the overlay.
 */
export class Restore {
  readonly #context: OverlayContext
  readonly #overlay: Overlay
  readonly #stored: StoredContent
  readonly #meter: ProgressMeter
  readonly #signal: AbortSignal
  readonly #failures: Failed[] = []
  /** First place of a file with several names: an open directory is found again by its path. */
  readonly #linked = new Map<bigint, Buffer>()

  constructor(
    context: OverlayContext,
    overlay: Overlay,
    stored: StoredContent,
    run: { onProgress: (progress: RunProgress) => void; signal: AbortSignal },
  ) {
    this.#context = context
    this.#overlay = overlay
    this.#stored = stored
    this.#meter = new ProgressMeter('restoring', run.onProgress)
    this.#signal = run.signal
  }

  /** @throws UsageError if the destination is not an empty or absent directory */
  async run(destination: string): Promise<{ files: number; bytes: number; failures: Failed[] }> {
    prepare(destination)
    const totals = this.#context.catalog.totals()
    this.#meter.filesTotal = totals.files
    this.#meter.bytesTotal = totals.bytes
    const root = openAt(AT_FDCWD, Buffer.from(destination), O_PATH | constants.O_DIRECTORY)
    try {
      await this.#directory(ROOT_INO, root, DOT, root, Buffer.alloc(0))
      const synced = openAt(root, DOT, constants.O_RDONLY | constants.O_DIRECTORY)
      try {
        await syncFileSystem(synced)
      } finally {
        closeDescriptor(synced)
      }
    } finally {
      closeDescriptor(root)
    }
    this.#meter.tick(true)
    return { files: this.#meter.files, bytes: this.#meter.bytes, failures: this.#failures }
  }

  /** Fills the directory behind `descriptor`; its own attributes come last, since filling it moves its times. */
  async #directory(
    ino: bigint,
    descriptor: number,
    name: Buffer,
    parent: number,
    path: Buffer,
  ): Promise<void> {
    for (const child of this.#overlay.listNames(ino)) {
      this.#signal.throwIfAborted()
      const childPath = path.length === 0 ? child : Buffer.concat([path, Buffer.from('/'), child])
      try {
        const found = this.#overlay.names.find(ino, child)
        if (!found) continue
        if (isDirectory(found.inode.mode)) {
          mkdirAt(descriptor, child, 0o700)
          const below = openAt(descriptor, child, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW)
          try {
            await this.#directory(found.inode.ino, below, child, descriptor, childPath)
          } finally {
            closeDescriptor(below)
          }
        } else {
          await this.#file(found.inode.ino, descriptor, child, childPath)
        }
      } catch (error) {
        if (this.#signal.aborted) throw error
        this.#failures.push({ path: printable(childPath), reason: reasonOf(error) })
      }
    }
    this.#dress(ino, parent, name)
  }

  async #file(ino: bigint, directory: number, name: Buffer, path: Buffer): Promise<void> {
    const inode = this.#require(ino)
    const first = this.#linked.get(ino)
    if (first) {
      this.#link(first, directory, name, path)
      return
    }
    const { mode, rdev, nlink } = this.#attributes(inode)
    if (isRegular(mode)) await this.#content(ino, directory, name)
    else if (isSymlink(mode)) symlinkAt(this.#target(inode), directory, name)
    else mknodAt(directory, name, (mode & S_IFMT) | 0o600, rdev)
    faultPoint('migration.restore.written')
    this.#dress(ino, directory, name)
    if (nlink > 1) this.#linked.set(ino, path)
    this.#meter.files += 1
    this.#meter.tick()
  }

  /** Another name of a file that is there already. */
  #link(first: Buffer, directory: number, name: Buffer, path: Buffer): void {
    // Both paths are relative to the destination; the way up from here is as long as this path is deep.
    const up = path.filter((byte) => byte === 0x2f).length
    const back = Buffer.concat([...Array.from({ length: up }, () => Buffer.from('../')), first])
    linkAt(directory, back, directory, name)
  }

  async #content(ino: bigint, directory: number, name: Buffer): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
    const descriptor = openAt(directory, name, flags, 0o600)
    try {
      const { size } = this.#attributes(this.#require(ino))
      for (let index = 0; index < chunkCount(size); index += 1) {
        this.#signal.throwIfAborted()
        await giveWay()
        const bytes = await this.#chunk(ino, index)
        // A chunk of zeros becomes a hole.
        if (bytes.some((byte) => byte !== 0))
          writeSync(descriptor, bytes, 0, bytes.length, index * CHUNK_BYTES)
        this.#meter.bytes += bytes.length
        this.#meter.tick()
      }
      ftruncateSync(descriptor, size)
    } finally {
      closeSync(descriptor)
    }
  }

  #chunk(ino: bigint, index: number): Promise<Buffer> {
    const inode = this.#require(ino)
    if (isStored(inode) && inode.storedSize === inode.size)
      return this.#stored.readBack(inode, index, this.#signal)
    return this.#context.reader.read(ino, index * CHUNK_BYTES, CHUNK_BYTES, this.#signal)
  }

  #attributes(inode: Inode) {
    return inode.authority === 'catalog' ? attributesOf(inode) : legacyStat(this.#context, inode)
  }

  #target(inode: Inode): Buffer {
    return this.#overlay.readTarget(inode.ino)
  }

  #dress(ino: bigint, directory: number, name: Buffer): void {
    const inode = this.#require(ino)
    const { mode, uid, gid, atimeNs, mtimeNs } = this.#attributes(inode)
    chownAt(directory, name, uid, gid)
    if (!isSymlink(mode)) chmodAt(directory, name, mode & 0o7777)
    for (const [xattr, value] of decodeXattrs(this.#xattrs(inode))) {
      setXattr(directory, name, Buffer.from(xattr, 'latin1'), value, 0)
    }
    utimensAt(directory, name, atimeNs, mtimeNs)
  }

  #xattrs(inode: Inode): Buffer | undefined {
    if (inode.authority === 'catalog') return inode.xattrs
    const place =
      inode.ino === ROOT_INO ? { parent: ROOT_INO, name: DOT } : placeOf(this.#context.catalog, inode.ino)
    return place && readLegacyXattrs(requireLegacy(this.#context), place)
  }

  #require(ino: bigint): Inode {
    const inode = this.#context.catalog.get(ino)
    if (!inode) throw new FsError('ESTALE', `inode ${ino} is gone`)
    return inode
  }
}

function prepare(destination: string): void {
  try {
    mkdirSync(destination, { recursive: true })
    if (readdirSync(destination).length > 0)
      throw new UsageError(`${destination}: the destination is not empty`)
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(`${destination}: ${reasonOf(error)}`, 2, { cause: error })
  }
}
