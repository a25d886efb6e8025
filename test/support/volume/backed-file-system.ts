import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { isSymlink } from '../../../src/base/attributes.ts'
import { errnoName, FsError, toErrno } from '../../../src/base/errors.ts'
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
import {
  AT_REMOVEDIR,
  fallocate,
  mkdirAt,
  mknodAt,
  O_PATH,
  openAt,
  type RawDirent,
  readDirectory,
  readlinkAt,
  renameAt,
  type Stat,
  seek,
  spaceOf,
  statDescriptor,
  symlinkAt,
  UTIME_OMIT,
  unlinkAt,
  utimensDescriptor,
  xattrsOfOpen,
} from '../../../src/sys/index.ts'
import { posix } from '../posix/posix.ts'

/** What fails: nothing, reads and writes of content as on a bad sector, or every request as of a controller that is stuck. */
export type Failing = 'nothing' | 'content' | 'everything'

interface Node {
  readonly descriptor: number
  lookups: bigint
}

const ROOT = 1n
const AT_FDCWD = -100
const EMPTY = Buffer.alloc(0)

// What is left of the flags of an open when it is made again: access, append, and what content is written by.
const OPEN_FLAGS = 3 | constants.O_APPEND | constants.O_NONBLOCK | constants.O_DSYNC | constants.O_SYNC

function attributesOf(stat: Stat): Attributes {
  const { dev: _dev, btimeNs: _btimeNs, ...attributes } = stat
  return attributes
}

/** A symlink has no user attributes, and cannot be opened to be asked. */
const isLink = ({ descriptor }: Node): boolean => isSymlink(statDescriptor(descriptor).mode)

/** Where a descriptor can be opened again or named in calls that take no descriptor. */
const pathOf = ({ descriptor }: Node): string => `/proc/self/fd/${descriptor}`

/**
 * A directory passed through as it is: inode numbers, nanoseconds, links, extended attributes. Nothing is cached on
 * either side. On command it answers EIO as a volume does whose disk fails.
 */
export class BackedFileSystem implements FileSystem {
  failing: Failing = 'nothing'
  readonly #nodes = new Map<bigint, Node>()
  readonly #handles = new Map<bigint, number>()
  readonly #listings = new Map<bigint, RawDirent[]>()
  #next = 1n

  constructor(root: string) {
    const descriptor = openAt(AT_FDCWD, Buffer.from(root), O_PATH | constants.O_DIRECTORY)
    this.#nodes.set(ROOT, { descriptor, lookups: 1n })
  }

  /** The node, unless the volume fails. @throws FsError */
  #node(id: bigint): Node {
    if (this.failing === 'everything') throw new FsError('EIO')
    const node = this.#nodes.get(id)
    if (!node) throw new FsError('ESTALE')
    return node
  }

  /** The descriptor behind a handle, for content. @throws FsError */
  #content(handle: bigint): number {
    if (this.failing !== 'nothing') throw new FsError('EIO')
    const descriptor = this.#handles.get(handle)
    if (descriptor === undefined) throw new FsError('EBADF')
    return descriptor
  }

  #opened(descriptor: number): OpenAnswer {
    const handle = this.#next++
    this.#handles.set(handle, descriptor)
    // Somebody may change the directory past this mount: the kernel is to keep nothing.
    return { handle, directIo: true }
  }

  /** Runs `body` with the file or directory opened for it. */
  #withOpen<T>(node: Node, body: (descriptor: number) => T): T {
    const descriptor = openSync(pathOf(node), constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      return body(descriptor)
    } finally {
      closeSync(descriptor)
    }
  }

  lookup(_context: RequestContext, parent: bigint, name: Buffer): Entry {
    const descriptor = openAt(this.#node(parent).descriptor, name, O_PATH | constants.O_NOFOLLOW)
    const stat = statDescriptor(descriptor)
    const known = this.#nodes.get(stat.ino)
    if (known) closeSync(descriptor)
    const node = known ?? { descriptor, lookups: 0n }
    node.lookups += 1n
    this.#nodes.set(stat.ino, node)
    return {
      nodeId: stat.ino,
      generation: 0n,
      attributes: attributesOf(stat),
      entryTtlMs: 0,
      attributeTtlMs: 0,
    }
  }

  forget(id: bigint, count: bigint): void {
    const node = this.#nodes.get(id)
    if (!node || id === ROOT) return
    node.lookups -= count
    if (node.lookups > 0n) return
    closeSync(node.descriptor)
    this.#nodes.delete(id)
  }

  getattr(_context: RequestContext, id: bigint): AttributeAnswer {
    return { attributes: attributesOf(statDescriptor(this.#node(id).descriptor)), attributeTtlMs: 0 }
  }

  setattr(
    context: RequestContext,
    id: bigint,
    changes: AttributeChanges,
    handle: bigint | undefined,
  ): AttributeAnswer {
    const node = this.#node(id)
    const { mode, uid, gid, size, atime, mtime } = changes
    if (size !== undefined) {
      const open = handle === undefined ? undefined : this.#handles.get(handle)
      if (open === undefined) truncateSync(pathOf(node), size)
      else ftruncateSync(open, size)
    }
    if (uid !== undefined || gid !== undefined) {
      const now = statDescriptor(node.descriptor)
      chownSync(pathOf(node), uid ?? now.uid, gid ?? now.gid)
    }
    if (mode !== undefined) chmodSync(pathOf(node), mode & 0o7777)
    if (atime !== undefined || mtime !== undefined) {
      this.#withOpen(node, (open) => utimensDescriptor(open, atime ?? UTIME_OMIT, mtime ?? UTIME_OMIT))
    }
    return this.getattr(context, id)
  }

  readlink(_context: RequestContext, id: bigint): Buffer {
    return readlinkAt(this.#node(id).descriptor, EMPTY)
  }

  mknod(context: RequestContext, parent: bigint, name: Buffer, mode: number, rdev: number): Entry {
    mknodAt(this.#node(parent).descriptor, name, mode, rdev)
    return this.lookup(context, parent, name)
  }

  mkdir(context: RequestContext, parent: bigint, name: Buffer, mode: number): Entry {
    mkdirAt(this.#node(parent).descriptor, name, mode & 0o7777)
    return this.lookup(context, parent, name)
  }

  unlink(_context: RequestContext, parent: bigint, name: Buffer): void {
    unlinkAt(this.#node(parent).descriptor, name)
  }

  rmdir(_context: RequestContext, parent: bigint, name: Buffer): void {
    unlinkAt(this.#node(parent).descriptor, name, AT_REMOVEDIR)
  }

  symlink(context: RequestContext, parent: bigint, name: Buffer, target: Buffer): Entry {
    symlinkAt(target, this.#node(parent).descriptor, name)
    return this.lookup(context, parent, name)
  }

  rename(
    _context: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): void {
    renameAt(this.#node(parent).descriptor, name, this.#node(newParent).descriptor, newName, flags)
  }

  link(context: RequestContext, id: bigint, newParent: bigint, newName: Buffer): Entry {
    const directory = Buffer.from(`${pathOf(this.#node(newParent))}/`)
    try {
      posix.linkFd(this.#node(id).descriptor, Buffer.concat([directory, newName]))
    } catch (error) {
      throw new FsError(errnoName(toErrno(error)), 'linkat', { cause: error })
    }
    return this.lookup(context, newParent, newName)
  }

  open(_context: RequestContext, id: bigint, flags: number): OpenAnswer {
    return this.#opened(openSync(pathOf(this.#node(id)), flags & OPEN_FLAGS))
  }

  create(context: RequestContext, parent: bigint, name: Buffer, mode: number, flags: number) {
    const creating = (flags & (OPEN_FLAGS | constants.O_EXCL)) | constants.O_CREAT | constants.O_NOFOLLOW
    const open = this.#opened(openAt(this.#node(parent).descriptor, name, creating, mode & 0o7777))
    return { entry: this.lookup(context, parent, name), open }
  }

  read(_context: RequestContext, _id: bigint, handle: bigint, offset: number, size: number): Buffer {
    const buffer = Buffer.allocUnsafe(size)
    return buffer.subarray(0, readSync(this.#content(handle), buffer, 0, size, offset))
  }

  write(_context: RequestContext, _id: bigint, handle: bigint, offset: number, data: Buffer): number {
    return writeSync(this.#content(handle), data, 0, data.length, offset)
  }

  flush(): void {}

  release(_context: RequestContext, _id: bigint, handle: bigint): void {
    const descriptor = this.#handles.get(handle)
    this.#handles.delete(handle)
    if (descriptor !== undefined) closeSync(descriptor)
  }

  fsync(_context: RequestContext, _id: bigint, handle: bigint, dataOnly: boolean): void {
    const descriptor = this.#content(handle)
    if (dataOnly) fdatasyncSync(descriptor)
    else fsyncSync(descriptor)
  }

  opendir(_context: RequestContext, id: bigint): OpenAnswer {
    this.#node(id)
    return { handle: this.#next++ }
  }

  readdir(context: RequestContext, id: bigint, handle: bigint, cookie: bigint, sink: DirectorySink): void {
    const node = this.#node(id)
    let items = this.#listings.get(handle)
    if (!items || cookie === 0n) {
      items = this.#withOpen(node, readDirectory)
      this.#listings.set(handle, items)
    }
    for (let at = Number(cookie); at < items.length; at += 1) {
      const item = items[at]
      if (!item || !sink.hasRoom(item.name.length)) return
      const listed = { ...item, cookie: BigInt(at + 1) }
      sink.add(listed, sink.plus ? this.#listed(context, id, item.name) : undefined)
    }
  }

  /** An entry that has gone since is listed without a look-up. */
  #listed(context: RequestContext, id: bigint, name: Buffer): Entry | undefined {
    try {
      return this.lookup(context, id, name)
    } catch {
      return undefined
    }
  }

  releasedir(_context: RequestContext, _id: bigint, handle: bigint): void {
    this.#listings.delete(handle)
  }

  fsyncdir(_context: RequestContext, id: bigint): void {
    this.#withOpen(this.#node(id), fsyncSync)
  }

  syncfs(): void {
    this.#node(ROOT)
  }

  statfs(): StatFs {
    const space = spaceOf(this.#node(ROOT).descriptor)
    return { ...space, namelen: 255, frsize: space.bsize }
  }

  setxattr(_context: RequestContext, id: bigint, name: Buffer, value: Buffer, flags: number): void {
    this.#withOpen(this.#node(id), (open) => xattrsOfOpen.set(open, name, Buffer.from(value), flags))
  }

  getxattr(_context: RequestContext, id: bigint, name: Buffer): Buffer {
    const node = this.#node(id)
    if (isLink(node)) throw new FsError('ENODATA')
    return this.#withOpen(node, (open) => xattrsOfOpen.get(open, name))
  }

  listxattr(_context: RequestContext, id: bigint): Buffer[] {
    const node = this.#node(id)
    return isLink(node) ? [] : this.#withOpen(node, xattrsOfOpen.list)
  }

  removexattr(_context: RequestContext, id: bigint, name: Buffer): void {
    this.#withOpen(this.#node(id), (open) => xattrsOfOpen.remove(open, name))
  }

  fallocate(
    _context: RequestContext,
    _id: bigint,
    handle: bigint,
    mode: number,
    offset: number,
    length: number,
  ): void {
    fallocate(this.#content(handle), mode, offset, length)
  }

  lseek(_context: RequestContext, _id: bigint, handle: bigint, offset: number, whence: number): number {
    return seek(this.#content(handle), offset, whence)
  }

  /** The kernel copies through read and write. */
  copyFileRange(): never {
    throw new FsError('EOPNOTSUPP')
  }
}
