import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { FsError } from '../../../src/base/errors.ts'
import type {
  AttributeAnswer,
  AttributeChanges,
  DirectorySink,
  Entry,
  FileSystem,
  OpenAnswer,
  RequestContext,
  StatFs,
} from '../../../src/fuse/operations.ts'

const ROOT = 1n
const DATA = 2n
const NAME = 'data'

const refuse = (): never => {
  throw new FsError('EPERM')
}

/**
 * A root directory with one file, `data`, which is the file of that name in a real directory. It keeps nothing in memory,
 * so that any process can go on where another was killed.
 */
export class TwoNodeFileSystem implements FileSystem {
  readonly #directory: string

  constructor(directory: string) {
    this.#directory = directory
  }

  lookup(_context: RequestContext, parent: bigint, name: Buffer): Entry {
    if (parent !== ROOT || name.toString() !== NAME) throw new FsError('ENOENT')
    const { attributes } = this.getattr(_context, DATA)
    return { nodeId: DATA, generation: 0n, attributes, entryTtlMs: 0, attributeTtlMs: 0 }
  }

  forget(): void {}

  getattr(_context: RequestContext, node: bigint): AttributeAnswer {
    const stat = statSync(node === ROOT ? this.#directory : this.#path, { bigint: true })
    return {
      attributeTtlMs: 0,
      attributes: {
        ino: node,
        mode: Number(stat.mode),
        nlink: Number(stat.nlink),
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        rdev: 0,
        size: Number(stat.size),
        blocks: Number(stat.blocks),
        blksize: 4096,
        atimeNs: stat.atimeNs,
        mtimeNs: stat.mtimeNs,
        ctimeNs: stat.ctimeNs,
      },
    }
  }

  setattr(context: RequestContext, node: bigint, changes: AttributeChanges): AttributeAnswer {
    const { size } = changes
    if (size !== undefined) this.#withFile('r+', (fd) => ftruncateSync(fd, size))
    return this.getattr(context, node)
  }

  open(): OpenAnswer {
    return { handle: 0n, directIo: true }
  }

  read(_context: RequestContext, _node: bigint, _handle: bigint, offset: number, size: number): Buffer {
    const buffer = Buffer.alloc(size)
    return buffer.subarray(
      0,
      this.#withFile('r', (fd) => readSync(fd, buffer, 0, size, offset)),
    )
  }

  write(_context: RequestContext, _node: bigint, _handle: bigint, offset: number, data: Buffer): number {
    return this.#withFile('r+', (fd) => writeSync(fd, data, 0, data.length, offset))
  }

  flush(): void {}
  release(): void {}
  fsync(): void {}

  opendir(): OpenAnswer {
    return { handle: 0n }
  }

  readdir(
    _context: RequestContext,
    _node: bigint,
    _handle: bigint,
    cookie: bigint,
    sink: DirectorySink,
  ): void {
    const name = Buffer.from(NAME)
    if (cookie > 0n || !sink.hasRoom(name.length)) return
    const item = { name, ino: DATA, type: 8, cookie: 1n }
    if (sink.plus) sink.add(item, this.lookup(_context, ROOT, name))
    else sink.add(item)
  }

  releasedir(): void {}
  fsyncdir(): void {}
  syncfs(): void {}

  statfs(): StatFs {
    return {
      blocks: 1000n,
      bfree: 1000n,
      bavail: 1000n,
      files: 2n,
      ffree: 0n,
      bsize: 4096,
      namelen: 255,
      frsize: 4096,
    }
  }

  getxattr(): never {
    throw new FsError('ENODATA')
  }

  listxattr(): Buffer[] {
    return []
  }

  readlink = refuse
  mknod = refuse
  mkdir = refuse
  unlink = refuse
  rmdir = refuse
  symlink = refuse
  rename = refuse
  link = refuse
  create = refuse
  setxattr = refuse
  removexattr = refuse
  fallocate = refuse
  lseek = refuse
  copyFileRange = refuse

  get #path(): string {
    return join(this.#directory, NAME)
  }

  #withFile<T>(flags: string, body: (fd: number) => T): T {
    const fd = openSync(this.#path, flags)
    try {
      return body(fd)
    } finally {
      closeSync(fd)
    }
  }
}
