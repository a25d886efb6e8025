import type { Attributes } from '../base/attributes.ts'

/**
 * The interface between a transport (the kernel's protocol, fuse-native) and the overlay. It carries the caller and
 * byte names; node ids are stable inode numbers (1 is the root), so that a successor process can go on where its
 * predecessor was killed. Every method may answer at once or later, and fails by throwing an FsError (any other error
 * becomes EIO). An answer at once is sent in the same tick as the effect.
 */
export type Answer<T> = T | Promise<T>

/** Who asks, and which request it is. */
export interface RequestContext {
  readonly uid: number
  readonly gid: number
  readonly pid: number
  /** umask of the caller where the operation creates something (FUSE_DONT_MASK), else 0. */
  readonly umask: number
  /** Identifies the request over the life of the connection; a repeated request has the same. */
  readonly unique: bigint
  /** The kernel sent this request again after a worker died: its effect may have taken place already. */
  readonly resent: boolean
  /** Aborted by FUSE_INTERRUPT; made on first use, because most requests never need one. */
  readonly signal: AbortSignal
}

export type { Attributes }

/** Result of everything that resolves or makes a name. */
export interface Entry {
  readonly nodeId: bigint
  /** Tells two files apart that had the same node id one after the other. */
  readonly generation: bigint
  readonly attributes: Attributes
  /** How long the kernel may keep the name, in milliseconds. */
  readonly entryTtlMs: number
  /** How long the kernel may keep the attributes, in milliseconds. */
  readonly attributeTtlMs: number
}

export interface AttributeAnswer {
  readonly attributes: Attributes
  readonly attributeTtlMs: number
}

/** What SETATTR changes; an absent field stays as it is. */
export interface AttributeChanges {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  /** A time in nanoseconds, or `'now'`. */
  readonly atime?: bigint | 'now'
  readonly mtime?: bigint | 'now'
  readonly ctimeNs?: bigint
  /** Clear setuid/setgid as a write by an unprivileged caller does (FATTR_KILL_SUIDGID). */
  readonly killSuidGid?: boolean
}

export interface OpenAnswer {
  /** Not to be relied on by the file system beyond the life of this process: a successor gets it as an unknown number. */
  readonly handle: bigint
  /** FOPEN_KEEP_CACHE: the content is what it was when the kernel cached it. */
  readonly keepCache?: boolean
  /** FOPEN_DIRECT_IO */
  readonly directIo?: boolean
  /** FOPEN_CACHE_DIR */
  readonly cacheDirectory?: boolean
}

export interface DirectoryEntry {
  readonly name: Buffer
  readonly ino: bigint
  /** File type bits of st_mode shifted right by 12 (DT_*), 0 if unknown. */
  readonly type: number
  /** Where the next READDIR goes on after this entry; never 0. */
  readonly cookie: bigint
}

/** Receives the entries of one READDIR or READDIRPLUS answer. */
export interface DirectorySink {
  /** The request is READDIRPLUS: `add` wants the entry's attributes too. */
  readonly plus: boolean
  /** Whether an entry with a name of this many bytes still fits. */
  hasRoom(nameBytes: number): boolean
  /** `entry` only with `plus`, and not for "." and "..": each counts as one look-up of its node. */
  add(item: DirectoryEntry, entry?: Entry): void
  /** Takes back all that was added. */
  clear(): void
}

export interface StatFs {
  readonly blocks: bigint
  readonly bfree: bigint
  readonly bavail: bigint
  readonly files: bigint
  readonly ffree: bigint
  readonly bsize: number
  readonly namelen: number
  readonly frsize: number
}

export interface FileSystem {
  /** By the name "." the node `parent` itself, which may be a file; by ".." the directory above it. */
  lookup(context: RequestContext, parent: bigint, name: Buffer): Answer<Entry>
  /** The kernel drops `count` look-ups of the node. No answer. */
  forget(node: bigint, count: bigint): void
  getattr(context: RequestContext, node: bigint, handle: bigint | undefined): Answer<AttributeAnswer>
  setattr(
    context: RequestContext,
    node: bigint,
    changes: AttributeChanges,
    handle: bigint | undefined,
  ): Answer<AttributeAnswer>
  readlink(context: RequestContext, node: bigint): Answer<Buffer>
  mknod(context: RequestContext, parent: bigint, name: Buffer, mode: number, rdev: number): Answer<Entry>
  mkdir(context: RequestContext, parent: bigint, name: Buffer, mode: number): Answer<Entry>
  unlink(context: RequestContext, parent: bigint, name: Buffer): Answer<void>
  rmdir(context: RequestContext, parent: bigint, name: Buffer): Answer<void>
  symlink(context: RequestContext, parent: bigint, name: Buffer, target: Buffer): Answer<Entry>
  /** `flags` as in renameat2(2). */
  rename(
    context: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): Answer<void>
  link(context: RequestContext, node: bigint, newParent: bigint, newName: Buffer): Answer<Entry>
  /** `flags` as in open(2). */
  open(context: RequestContext, node: bigint, flags: number): Answer<OpenAnswer>
  create(
    context: RequestContext,
    parent: bigint,
    name: Buffer,
    mode: number,
    flags: number,
  ): Answer<{ entry: Entry; open: OpenAnswer }>
  /**
   * A file without a name on the file system of the directory, open: O_TMPFILE of open(2). It may get a name by `link`, where
   * the kernel lets it (no O_EXCL). Who cannot make any does without.
   */
  tmpfile?(
    context: RequestContext,
    directory: bigint,
    mode: number,
    flags: number,
  ): Answer<{ entry: Entry; open: OpenAnswer }>
  /** Fewer bytes than asked only at the end of the file. `flags` as in open(2); none where the transport does not say. */
  read(
    context: RequestContext,
    node: bigint,
    handle: bigint,
    offset: number,
    size: number,
    flags?: number,
  ): Answer<Buffer>
  /**
   * `data` is valid only until the answer. `killSuidGid` as FUSE_WRITE_KILL_SUIDGID; `isWriteBack`: a page that the kernel had
   * kept, in nobody's name. Returns the bytes written.
   */
  write(
    context: RequestContext,
    node: bigint,
    handle: bigint,
    offset: number,
    data: Buffer,
    options: { readonly killSuidGid: boolean; readonly flags: number; readonly isWriteBack?: boolean },
  ): Answer<number>
  flush(context: RequestContext, node: bigint, handle: bigint): Answer<void>
  release(context: RequestContext, node: bigint, handle: bigint): Answer<void>
  fsync(context: RequestContext, node: bigint, handle: bigint, dataOnly: boolean): Answer<void>
  opendir(context: RequestContext, node: bigint, flags: number): Answer<OpenAnswer>
  readdir(
    context: RequestContext,
    node: bigint,
    handle: bigint,
    cookie: bigint,
    sink: DirectorySink,
  ): Answer<void>
  releasedir(context: RequestContext, node: bigint, handle: bigint): Answer<void>
  fsyncdir(context: RequestContext, node: bigint, handle: bigint, dataOnly: boolean): Answer<void>
  syncfs(context: RequestContext): Answer<void>
  statfs(context: RequestContext, node: bigint): Answer<StatFs>
  /**
   * `flags` as in setxattr(2). `killSgid`: the ACL in `value` is set by somebody who is not of the file's group, so the
   * set-group-id bit goes with it (FUSE_SETXATTR_ACL_KILL_SGID).
   */
  setxattr(
    context: RequestContext,
    node: bigint,
    name: Buffer,
    value: Buffer,
    flags: number,
    options?: { readonly killSgid: boolean },
  ): Answer<void>
  getxattr(context: RequestContext, node: bigint, name: Buffer): Answer<Buffer>
  listxattr(context: RequestContext, node: bigint): Answer<Buffer[]>
  removexattr(context: RequestContext, node: bigint, name: Buffer): Answer<void>
  /** Flags as in ioctl_iflags(2). Who has none does without both. */
  getFlags?(context: RequestContext, node: bigint): Answer<number>
  setFlags?(context: RequestContext, node: bigint, flags: number): Answer<void>
  fallocate(
    context: RequestContext,
    node: bigint,
    handle: bigint,
    mode: number,
    offset: number,
    length: number,
  ): Answer<void>
  /** `whence` is SEEK_DATA (3) or SEEK_HOLE (4). */
  lseek(context: RequestContext, node: bigint, handle: bigint, offset: number, whence: number): Answer<number>
  copyFileRange(
    context: RequestContext,
    source: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    destination: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    length: number,
  ): Answer<number>
  /** The answer with this `unique` has been handed to the kernel: a record kept for a repetition may go. */
  answered?(unique: bigint): void
}

/** What the overlay may ask of the kernel by way of the transport. */
export interface KernelNotifier {
  /** Forget cached attributes and, from `offset` for `length` bytes (0: to the end; offset -1: none), cached content. */
  invalidateNode(node: bigint, offset: number, length: number): void
  /**
   * Forget cached attributes before the answer to the request that is being handled: of a node that this request holds. The
   * kernel takes no lock for it that anybody holds while waiting for an answer.
   */
  expireAttributes(node: bigint): void
  /** Forget cached content, as `invalidateNode` does; resolves when it is gone. */
  dropPages(node: bigint, offset: number, length: number): Promise<void>
  /** Forget a cached name. */
  invalidateName(parent: bigint, name: Buffer): void
}
