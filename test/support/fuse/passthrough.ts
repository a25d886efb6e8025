import { constants, type BigIntStats, promises as fs, openSync, closeSync } from 'node:fs'
import { read as readCallback, write as writeCallback } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { FsError, toErrno, errnoName } from '../../../src/base/errors.ts'
import type {
  AttributeAnswer,
  AttributeChanges,
  Attributes,
  DirectorySink,
  Entry,
  FileSystem,
  OpenAnswer,
  RequestContext,
  StatFs,
} from '../../../src/fuse/operations.ts'

const read = promisify(readCallback)
const write = promisify(writeCallback)

function refuse(): never {
  throw new FsError('EOPNOTSUPP')
}

async function errnos<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw error instanceof FsError
      ? error
      : new FsError(errnoName(toErrno(error)), 'passthrough', { cause: error })
  }
}

/**
 * One flat directory of files, passed through. Node ids are the inode numbers, handles mean nothing, and what is repeated
 * after a worker's death does no harm: all that a successor needs is on the disk.
 */
export class Passthrough implements FileSystem {
  readonly #root: string
  readonly #descriptors = new Map<bigint, number>()
  served = 0
  resent = 0
  onServed: () => void = () => {}

  constructor(root: string) {
    this.#root = root
  }

  #see(context: RequestContext): void {
    this.served += 1
    if (context.resent) this.resent += 1
    this.onServed()
  }

  #path(name: Buffer): string {
    return join(this.#root, name.toString())
  }

  async #nameOf(node: bigint): Promise<string> {
    if (node === 1n) return this.#root
    for (const name of await fs.readdir(this.#root)) {
      const path = join(this.#root, name)
      if ((await fs.stat(path, { bigint: true })).ino === node) return path
    }
    throw new FsError('ESTALE')
  }

  async #descriptor(node: bigint): Promise<number> {
    const known = this.#descriptors.get(node)
    if (known !== undefined) return known
    const descriptor = openSync(await this.#nameOf(node), constants.O_RDWR)
    this.#descriptors.set(node, descriptor)
    return descriptor
  }

  #attributes(stats: BigIntStats, ino = stats.ino): Attributes {
    return {
      ino,
      mode: Number(stats.mode),
      nlink: Number(stats.nlink),
      uid: Number(stats.uid),
      gid: Number(stats.gid),
      rdev: 0,
      size: Number(stats.size),
      blocks: Number(stats.blocks),
      blksize: 4096,
      atimeNs: stats.atimeNs,
      mtimeNs: stats.mtimeNs,
      ctimeNs: stats.ctimeNs,
    }
  }

  async #entry(path: string): Promise<Entry> {
    const stats = await fs.stat(path, { bigint: true })
    return {
      nodeId: stats.ino,
      generation: 0n,
      attributes: this.#attributes(stats),
      entryTtlMs: 0,
      attributeTtlMs: 0,
    }
  }

  lookup(context: RequestContext, _parent: bigint, name: Buffer): Promise<Entry> {
    this.#see(context)
    return errnos(() => this.#entry(this.#path(name)))
  }

  forget(): void {}

  getattr(context: RequestContext, node: bigint): Promise<AttributeAnswer> {
    this.#see(context)
    return errnos(async () => {
      const stats = await fs.stat(await this.#nameOf(node), { bigint: true })
      return { attributes: this.#attributes(stats, node === 1n ? 1n : stats.ino), attributeTtlMs: 0 }
    })
  }

  setattr(context: RequestContext, node: bigint, changes: AttributeChanges): Promise<AttributeAnswer> {
    return errnos(async () => {
      if (changes.size !== undefined) await fs.truncate(await this.#nameOf(node), changes.size)
      return this.getattr(context, node)
    })
  }

  create(context: RequestContext, _parent: bigint, name: Buffer, mode: number) {
    this.#see(context)
    return errnos(async () => {
      // Repeated, the file may be there already.
      const exclusive = context.resent ? 0 : constants.O_EXCL
      closeSync(openSync(this.#path(name), constants.O_RDWR | constants.O_CREAT | exclusive, mode))
      return { entry: await this.#entry(this.#path(name)), open: { handle: 0n } }
    })
  }

  unlink(context: RequestContext, _parent: bigint, name: Buffer): Promise<void> {
    this.#see(context)
    return errnos(() => fs.rm(this.#path(name), { force: context.resent }))
  }

  open(context: RequestContext): OpenAnswer {
    this.#see(context)
    return { handle: 0n }
  }

  read(
    context: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    size: number,
  ): Promise<Buffer> {
    this.#see(context)
    return errnos(async () => {
      const buffer = Buffer.allocUnsafe(size)
      const { bytesRead } = await read(await this.#descriptor(node), buffer, 0, size, offset)
      return buffer.subarray(0, bytesRead)
    })
  }

  write(
    context: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    data: Buffer,
  ): Promise<number> {
    this.#see(context)
    return errnos(async () => {
      const { bytesWritten } = await write(await this.#descriptor(node), data, 0, data.length, offset)
      return bytesWritten
    })
  }

  flush(context: RequestContext): void {
    this.#see(context)
  }

  release(context: RequestContext): void {
    this.#see(context)
  }

  fsync(context: RequestContext): void {
    this.#see(context)
  }

  opendir(context: RequestContext): OpenAnswer {
    this.#see(context)
    return { handle: 0n }
  }

  readdir(
    context: RequestContext,
    _node: bigint,
    _handle: bigint,
    cookie: bigint,
    sink: DirectorySink,
  ): Promise<void> {
    this.#see(context)
    return errnos(async () => {
      const names = (await fs.readdir(this.#root)).sort()
      for (let at = Number(cookie); at < names.length; at++) {
        const name = Buffer.from(names[at] ?? '')
        if (!sink.hasRoom(name.length)) return
        const entry = await this.#entry(this.#path(name))
        sink.add({ name, ino: entry.nodeId, type: 8, cookie: BigInt(at + 1) }, entry)
      }
    })
  }

  releasedir(context: RequestContext): void {
    this.#see(context)
  }

  statfs(context: RequestContext): StatFs {
    this.#see(context)
    return {
      blocks: 1n,
      bfree: 1n,
      bavail: 1n,
      files: 1n,
      ffree: 1n,
      bsize: 4096,
      namelen: 255,
      frsize: 4096,
    }
  }

  readonly readlink = refuse
  readonly mknod = refuse
  readonly mkdir = refuse
  readonly rmdir = refuse
  readonly symlink = refuse
  readonly rename = refuse
  readonly link = refuse
  readonly fsyncdir = refuse
  readonly syncfs = refuse
  readonly setxattr = refuse
  readonly getxattr = refuse
  readonly listxattr = refuse
  readonly removexattr = refuse
  readonly fallocate = refuse
  readonly lseek = refuse
  readonly copyFileRange = refuse
}
