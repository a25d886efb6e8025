import { FsError } from '../../../src/base/errors.ts'
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

const S_IFMT = 0o170000
const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFLNK = 0o120000
const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const XATTR_CREATE = 1
const XATTR_REPLACE = 2
const FALLOC_FL_KEEP_SIZE = 1
const FALLOC_FL_PUNCH_HOLE = 2
const SEEK_DATA = 3

interface Node {
  readonly ino: bigint
  mode: number
  uid: number
  gid: number
  rdev: number
  nlink: number
  size: number
  content: Buffer
  atimeNs: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  /** Names of a directory, as latin1 text of their bytes. */
  readonly entries: Map<string, bigint>
  readonly xattrs: Map<string, Buffer>
  lookups: bigint
}

const NAME_MAX = 255

const now = (): bigint => BigInt(Date.now()) * 1_000_000n
const key = (name: Buffer): string => name.toString('latin1')
const isDirectory = (node: Node): boolean => (node.mode & S_IFMT) === S_IFDIR

/** The permission bits that an ACL stands for: its mask, if it has one, is what shows as the group's (acl(5)). */
function permissionsOf(acl: Buffer): number {
  const bits = new Map<number, number>()
  for (let at = 4; at + 8 <= acl.length; at += 8) bits.set(acl.readUInt16LE(at), acl.readUInt16LE(at + 2))
  const [user = 0, group = 0, other = 0] = [bits.get(1), bits.get(0x10) ?? bits.get(4), bits.get(0x20)]
  return (user << 6) | (group << 3) | other
}

/** A file system in memory, just right enough to try a transport with. Answers at once. */
export class MemoryFileSystem implements FileSystem {
  readonly nodes = new Map<bigint, Node>()
  /** Names of operations in the order in which they came. */
  readonly calls: string[] = []
  readonly answers: bigint[] = []
  readonly contexts: RequestContext[] = []
  entryTtlMs = 0
  attributeTtlMs = 0
  openAnswer: Omit<OpenAnswer, 'handle'> = {}
  readonly openHandles = new Set<bigint>()
  #lastIno = 1n
  #lastHandle = 0n

  constructor() {
    this.#make(S_IFDIR | 0o755, 0, 0, 1n).nlink = 2
  }

  #make(mode: number, uid: number, gid: number, ino?: bigint): Node {
    if (ino === undefined) this.#lastIno += 1n
    const node: Node = {
      ino: ino ?? this.#lastIno,
      mode,
      uid,
      gid,
      rdev: 0,
      nlink: 1,
      size: 0,
      content: Buffer.alloc(0),
      atimeNs: now(),
      mtimeNs: now(),
      ctimeNs: now(),
      entries: new Map(),
      xattrs: new Map(),
      lookups: 0n,
    }
    this.nodes.set(node.ino, node)
    return node
  }

  protected seen(call: string, context?: RequestContext): void {
    this.calls.push(call)
    if (context) this.contexts.push(context)
  }

  node(ino: bigint): Node {
    const node = this.nodes.get(ino)
    if (!node) throw new FsError('ESTALE')
    return node
  }

  protected child(parent: bigint, name: Buffer): Node {
    const ino = this.node(parent).entries.get(key(name))
    if (ino === undefined) throw new FsError('ENOENT')
    return this.node(ino)
  }

  protected attributesOf(node: Node): Attributes {
    const { ino, mode, uid, gid, rdev, nlink, size, atimeNs, mtimeNs, ctimeNs } = node
    return {
      ino,
      mode,
      uid,
      gid,
      rdev,
      nlink,
      size,
      atimeNs,
      mtimeNs,
      ctimeNs,
      blocks: Math.ceil(size / 512),
      blksize: 4096,
    }
  }

  protected entryOf(node: Node): Entry {
    node.lookups += 1n
    return {
      nodeId: node.ino,
      generation: 0n,
      attributes: this.attributesOf(node),
      entryTtlMs: this.entryTtlMs,
      attributeTtlMs: this.attributeTtlMs,
    }
  }

  #open(): OpenAnswer {
    this.#lastHandle += 1n
    this.openHandles.add(this.#lastHandle)
    return { handle: this.#lastHandle, ...this.openAnswer }
  }

  #add(context: RequestContext, parent: bigint, name: Buffer, mode: number): Node {
    const directory = this.node(parent)
    // The kernel lets longer ones through; it has no limit of its own below 1024.
    if (name.length > NAME_MAX) throw new FsError('ENAMETOOLONG')
    if (directory.entries.has(key(name))) throw new FsError('EEXIST')
    const node = this.#make(mode & ~context.umask, context.uid, context.gid)
    directory.entries.set(key(name), node.ino)
    directory.mtimeNs = directory.ctimeNs = now()
    if (isDirectory(node)) {
      node.nlink = 2
      directory.nlink += 1
    }
    return node
  }

  #drop(parent: bigint, name: Buffer): void {
    const directory = this.node(parent)
    const node = this.child(parent, name)
    directory.entries.delete(key(name))
    directory.mtimeNs = directory.ctimeNs = now()
    if (isDirectory(node)) directory.nlink -= 1
    node.nlink -= isDirectory(node) ? 2 : 1
    node.ctimeNs = now()
  }

  #resize(node: Node, size: number): void {
    if (size > 256 * 1024 * 1024) throw new FsError('EFBIG')
    if (node.content.length < size) {
      const grown = Buffer.alloc(Math.max(size, node.content.length * 2))
      node.content.copy(grown)
      node.content = grown
    }
    if (size < node.size) node.content.fill(0, size, node.size)
    node.size = size
  }

  lookup(context: RequestContext, parent: bigint, name: Buffer): Entry | Promise<Entry> {
    this.seen('lookup', context)
    return this.entryOf(this.child(parent, name))
  }

  forget(node: bigint, count: bigint): void {
    this.seen('forget')
    const found = this.nodes.get(node)
    if (!found) return
    found.lookups -= count
    if (found.lookups <= 0n && found.nlink === 0) this.nodes.delete(node)
  }

  getattr(context: RequestContext, node: bigint): AttributeAnswer | Promise<AttributeAnswer> {
    this.seen('getattr', context)
    return { attributes: this.attributesOf(this.node(node)), attributeTtlMs: this.attributeTtlMs }
  }

  setattr(context: RequestContext, ino: bigint, changes: AttributeChanges): AttributeAnswer {
    this.seen('setattr', context)
    const node = this.node(ino)
    if (changes.mode !== undefined) node.mode = (node.mode & S_IFMT) | (changes.mode & 0o7777)
    if (changes.uid !== undefined) node.uid = changes.uid
    if (changes.gid !== undefined) node.gid = changes.gid
    if (changes.size !== undefined) {
      this.#resize(node, changes.size)
      node.mtimeNs = now()
    }
    if (changes.killSuidGid) node.mode &= ~0o6000
    if (changes.atime !== undefined) node.atimeNs = changes.atime === 'now' ? now() : changes.atime
    if (changes.mtime !== undefined) node.mtimeNs = changes.mtime === 'now' ? now() : changes.mtime
    node.ctimeNs = changes.ctimeNs ?? now()
    return { attributes: this.attributesOf(node), attributeTtlMs: this.attributeTtlMs }
  }

  readlink(context: RequestContext, node: bigint): Buffer {
    this.seen('readlink', context)
    return this.node(node).content
  }

  mknod(context: RequestContext, parent: bigint, name: Buffer, mode: number, rdev: number): Entry {
    this.seen('mknod', context)
    const node = this.#add(context, parent, name, mode)
    node.rdev = rdev
    return this.entryOf(node)
  }

  mkdir(context: RequestContext, parent: bigint, name: Buffer, mode: number): Entry {
    this.seen('mkdir', context)
    return this.entryOf(this.#add(context, parent, name, S_IFDIR | mode))
  }

  unlink(context: RequestContext, parent: bigint, name: Buffer): void {
    this.seen('unlink', context)
    this.#drop(parent, name)
  }

  rmdir(context: RequestContext, parent: bigint, name: Buffer): void {
    this.seen('rmdir', context)
    if (this.child(parent, name).entries.size > 0) throw new FsError('ENOTEMPTY')
    this.#drop(parent, name)
  }

  symlink(context: RequestContext, parent: bigint, name: Buffer, target: Buffer): Entry {
    this.seen('symlink', context)
    const node = this.#add(context, parent, name, S_IFLNK | 0o777)
    node.content = target
    node.size = target.length
    return this.entryOf(node)
  }

  rename(
    context: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): void {
    this.seen(`rename ${flags}`, context)
    const from = this.node(parent)
    const to = this.node(newParent)
    const moved = this.child(parent, name)
    const replaced = to.entries.get(key(newName))
    if (flags === RENAME_EXCHANGE) {
      if (replaced === undefined) throw new FsError('ENOENT')
      from.entries.set(key(name), replaced)
      to.entries.set(key(newName), moved.ino)
      return
    }
    if (replaced !== undefined) {
      if (flags === RENAME_NOREPLACE) throw new FsError('EEXIST')
      if (this.node(replaced).entries.size > 0) throw new FsError('ENOTEMPTY')
      this.#drop(newParent, newName)
    }
    from.entries.delete(key(name))
    to.entries.set(key(newName), moved.ino)
    if (isDirectory(moved)) {
      from.nlink -= 1
      to.nlink += 1
    }
  }

  link(context: RequestContext, ino: bigint, newParent: bigint, newName: Buffer): Entry {
    this.seen('link', context)
    const directory = this.node(newParent)
    if (directory.entries.has(key(newName))) throw new FsError('EEXIST')
    const node = this.node(ino)
    directory.entries.set(key(newName), ino)
    node.nlink += 1
    return this.entryOf(node)
  }

  open(context: RequestContext, node: bigint, _flags: number): OpenAnswer | Promise<OpenAnswer> {
    this.seen('open', context)
    this.node(node)
    return this.#open()
  }

  create(context: RequestContext, parent: bigint, name: Buffer, mode: number) {
    this.seen('create', context)
    const node = this.#add(context, parent, name, S_IFREG | mode)
    return { entry: this.entryOf(node), open: this.#open() }
  }

  read(
    context: RequestContext,
    ino: bigint,
    _handle: bigint,
    offset: number,
    size: number,
  ): Buffer | Promise<Buffer> {
    this.seen('read', context)
    const node = this.node(ino)
    return node.content.subarray(offset, Math.min(offset + size, node.size))
  }

  write(
    context: RequestContext,
    ino: bigint,
    _handle: bigint,
    offset: number,
    data: Buffer,
    options: { readonly killSuidGid: boolean; readonly flags: number },
  ): number | Promise<number> {
    this.seen('write', context)
    const node = this.node(ino)
    if (options.killSuidGid) node.mode &= ~0o6000
    if (offset + data.length > node.size) this.#resize(node, offset + data.length)
    data.copy(node.content, offset)
    node.mtimeNs = node.ctimeNs = now()
    return data.length
  }

  flush(context: RequestContext): void | Promise<void> {
    this.seen('flush', context)
  }

  release(context: RequestContext, _node: bigint, handle: bigint): void | Promise<void> {
    this.seen('release', context)
    this.openHandles.delete(handle)
  }

  fsync(context: RequestContext, _node: bigint, _handle: bigint, dataOnly: boolean): void | Promise<void> {
    this.seen(dataOnly ? 'fdatasync' : 'fsync', context)
  }

  opendir(context: RequestContext): OpenAnswer {
    this.seen('opendir', context)
    return this.#open()
  }

  readdir(
    context: RequestContext,
    ino: bigint,
    _handle: bigint,
    cookie: bigint,
    sink: DirectorySink,
  ): void | Promise<void> {
    this.seen(sink.plus ? 'readdirplus' : 'readdir', context)
    const directory = this.node(ino)
    const names = ['.', '..', ...directory.entries.keys()]
    for (let at = Number(cookie); at < names.length; at++) {
      const name = Buffer.from(names[at] ?? '', 'latin1')
      if (!sink.hasRoom(name.length)) return
      const target = at < 2 ? directory : this.child(ino, name)
      const item = { name, ino: target.ino, type: target.mode >> 12, cookie: BigInt(at + 1) }
      if (sink.plus && at >= 2) sink.add(item, this.entryOf(target))
      else sink.add(item)
    }
  }

  releasedir(context: RequestContext, _node: bigint, handle: bigint): void {
    this.seen('releasedir', context)
    this.openHandles.delete(handle)
  }

  fsyncdir(context: RequestContext): void {
    this.seen('fsyncdir', context)
  }

  syncfs(context: RequestContext): void {
    this.seen('syncfs', context)
  }

  statfs(context: RequestContext): StatFs {
    this.seen('statfs', context)
    return {
      blocks: 1_000_000n,
      bfree: 500_000n,
      bavail: 400_000n,
      files: 1000n,
      ffree: 900n,
      bsize: 4096,
      namelen: 255,
      frsize: 4096,
    }
  }

  setxattr(
    context: RequestContext,
    ino: bigint,
    name: Buffer,
    value: Buffer,
    flags: number,
    options?: { readonly killSgid: boolean },
  ): void {
    this.seen('setxattr', context)
    const node = this.node(ino)
    const there = node.xattrs.has(key(name))
    if (flags === XATTR_CREATE && there) throw new FsError('EEXIST')
    if (flags === XATTR_REPLACE && !there) throw new FsError('ENODATA')
    node.xattrs.set(key(name), value)
    if (key(name) === 'system.posix_acl_access') node.mode = (node.mode & ~0o777) | permissionsOf(value)
    if (options?.killSgid) node.mode &= ~0o2000
  }

  getxattr(context: RequestContext, node: bigint, name: Buffer): Buffer {
    this.seen('getxattr', context)
    const value = this.node(node).xattrs.get(key(name))
    if (!value) throw new FsError('ENODATA')
    return value
  }

  listxattr(context: RequestContext, node: bigint): Buffer[] {
    this.seen('listxattr', context)
    return [...this.node(node).xattrs.keys()].map((name) => Buffer.from(name, 'latin1'))
  }

  removexattr(context: RequestContext, node: bigint, name: Buffer): void {
    this.seen('removexattr', context)
    if (!this.node(node).xattrs.delete(key(name))) throw new FsError('ENODATA')
  }

  fallocate(
    context: RequestContext,
    ino: bigint,
    _handle: bigint,
    mode: number,
    offset: number,
    length: number,
  ): void {
    this.seen('fallocate', context)
    const node = this.node(ino)
    if (mode === (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
      node.content.fill(0, offset, Math.min(offset + length, node.size))
    } else if (mode === 0) {
      this.#resize(node, Math.max(node.size, offset + length))
    } else if (mode !== FALLOC_FL_KEEP_SIZE) {
      throw new FsError('EOPNOTSUPP')
    }
  }

  lseek(context: RequestContext, ino: bigint, _handle: bigint, offset: number, whence: number): number {
    this.seen('lseek', context)
    const node = this.node(ino)
    if (offset >= node.size) throw new FsError('ENXIO')
    return whence === SEEK_DATA ? offset : node.size
  }

  copyFileRange(
    context: RequestContext,
    source: { readonly node: bigint; readonly offset: number },
    destination: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    length: number,
  ): number {
    this.seen('copyFileRange', context)
    const from = this.node(source.node)
    const data = from.content.subarray(source.offset, Math.min(source.offset + length, from.size))
    const to = this.node(destination.node)
    if (destination.offset + data.length > to.size) this.#resize(to, destination.offset + data.length)
    data.copy(to.content, destination.offset)
    return data.length
  }

  answered(unique: bigint): void {
    this.answers.push(unique)
  }

  /** Makes a file without the kernel knowing. */
  put(name: string, content: Buffer): bigint {
    const node = this.#make(S_IFREG | 0o644, 0, 0)
    node.content = content
    node.size = content.length
    this.node(1n).entries.set(Buffer.from(name).toString('latin1'), node.ino)
    return node.ino
  }
}
