import { isDirectory, isRegular, S_IFDIR, S_IFLNK, S_IFREG } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { isAppendOnly } from '../base/inode-flags.ts'
import { type Inode, NAME_MAX } from '../catalog/index.ts'
import type {
  Answer,
  AttributeAnswer,
  AttributeChanges,
  DirectorySink,
  Entry,
  FileSystem,
  KernelNotifier,
  OpenAnswer,
  RequestContext,
  StatFs,
} from '../fuse/operations.ts'
import { afterWrites } from './after-writes.ts'
import { Answers } from './answers.ts'
import { AttributeOperations } from './attributes.ts'
import { byNode } from './by-node.ts'
import { ContentOperations } from './content-operations.ts'
import type { OverlayContext } from './context.ts'
import { Entries } from './entries.ts'
import { FileFlags } from './file-flags.ts'
import { requireOpenable } from './guards.ts'
import { Handles } from './handles.ts'
import { KernelCache } from './kernel-cache.ts'
import { LegacyNamespace } from './legacy-namespace.ts'
import { Listings } from './listing.ts'
import { lookingOnly } from './looking-only.ts'
import { NameOperations } from './name-operations.ts'
import { Names } from './names.ts'
import { SyncOperations } from './sync-operations.ts'
import { everyName, namesIn, oneName, Unfinished } from './unfinished.ts'
import { Waits } from './waits.ts'

// open(2)
const O_ACCMODE = 3
const TRUSTED = Buffer.from('trusted.')

// linux/xattr.h
const XATTR_REPLACE = 2

/** The file system that applications see: POSIX semantics over catalog, legacy volume and store. */
export class Overlay implements FileSystem {
  readonly names: Names
  readonly answers: Answers
  readonly unfinished: Unfinished
  readonly #context: OverlayContext
  readonly #attributes: AttributeOperations
  readonly #flags: FileFlags
  readonly #nameOperations: NameOperations
  readonly #content: ContentOperations
  readonly #sync: SyncOperations
  readonly #entries: Entries
  readonly #listings: Listings
  readonly #handles: Handles
  readonly #cache: KernelCache
  readonly #waits: Waits

  constructor(context: OverlayContext) {
    this.#context = context
    this.names = new Names(context)
    // A file that lost its last name while it was copied goes when the copy ends.
    context.activity.onUnused = (ino) => this.names.removal.purgeIfUnused(ino)
    this.answers = new Answers(context.catalog)
    const legacyNamespace = new LegacyNamespace(context, this.names, this.answers)
    this.unfinished = new Unfinished(context, { legacyNamespace, answers: this.answers })
    this.#attributes = new AttributeOperations(context, this.names)
    this.#flags = new FileFlags(context, this.names, this.#attributes)
    this.#listings = new Listings(context, this.names)
    this.#handles = new Handles(context)
    this.#waits = new Waits(context)
    this.#cache = new KernelCache(context, (inode) => this.#attributes.stat(inode))
    const parts = { names: this.names, attributes: this.#attributes, cache: this.#cache, waits: this.#waits }
    this.#entries = new Entries(context, parts)
    this.#content = new ContentOperations(context, parts)
    this.#sync = new SyncOperations(context, { ...parts, handles: this.#handles })
    this.#nameOperations = new NameOperations(context, {
      names: this.names,
      answers: this.answers,
      unfinished: this.unfinished,
      entries: this.#entries,
      legacyNamespace,
    })
    context.carrier.onVanished = (ino) => {
      this.unfinished.conclude(everyName)
      this.names.lookAgain(ino)
    }
  }

  /** What is done in the background ends; what is left of it the next mount does. */
  stop(): void {
    this.names.stop()
  }

  /** By way of this the kernel forgets what it has cached; set before anything is served. */
  notifyBy(notifier: KernelNotifier): void {
    this.#cache.notifier = notifier
  }

  answered(unique: bigint): void {
    this.answers.delivered(unique)
  }

  /** Shown names of a directory, some at a time. `onHidden`: with each that hides something of the volume's. */
  listNames(directory: bigint, onHidden: (name: Buffer) => void): AsyncGenerator<Buffer[]> {
    this.unfinished.tryToConclude(namesIn(directory))
    return this.#listings.names(directory, onHidden)
  }

  // ---- names

  lookup(_request: RequestContext, parent: bigint, name: Buffer): Entry {
    this.unfinished.tryToConclude(oneName(parent, name))
    const { catalog } = this.#context
    const known = byNode(catalog, this.names, parent, name)
    return this.#entries.of(known ?? lookingOnly(catalog, () => this.names.resolve(parent, name)))
  }

  forget(node: bigint, count: bigint): void {
    const activity = this.#context.activity.of(node)
    activity.lookups -= count
    if (activity.lookups > 0n) return
    activity.forgotten = true
    this.#context.activity.settle(node)
    const { activity: uses, catalog, takesOver } = this.#context
    // What the kernel takes back may be what a predecessor had told it: such counts say nothing.
    if (!takesOver && !uses.peek(node)) catalog.forgetMet(node)
  }

  mknod(request: RequestContext, parent: bigint, name: Buffer, mode: number, rdev: number): Entry {
    return this.#nameOperations.create(request, parent, name, { mode, rdev, target: undefined })
  }

  mkdir(request: RequestContext, parent: bigint, name: Buffer, mode: number): Entry {
    return this.#nameOperations.create(request, parent, name, {
      mode: S_IFDIR | (mode & 0o7777),
      rdev: 0,
      target: undefined,
    })
  }

  symlink(request: RequestContext, parent: bigint, name: Buffer, target: Buffer): Entry {
    return this.#nameOperations.create(request, parent, name, {
      mode: S_IFLNK | 0o777,
      rdev: 0,
      target: Buffer.from(target),
    })
  }

  create(
    request: RequestContext,
    parent: bigint,
    name: Buffer,
    mode: number,
    flags: number,
  ): { entry: Entry; open: OpenAnswer } {
    const entry = this.#nameOperations.create(request, parent, name, {
      mode: S_IFREG | (mode & 0o7777),
      rdev: 0,
      target: undefined,
    })
    return this.#opened(entry, flags)
  }

  tmpfile(
    request: RequestContext,
    directory: bigint,
    mode: number,
    flags: number,
  ): Answer<{ entry: Entry; open: OpenAnswer }> {
    const made = this.#nameOperations.tmpfile(request, directory, mode)
    return made instanceof Promise
      ? made.then((entry) => this.#opened(entry, flags))
      : this.#opened(made, flags)
  }

  /** What has just been made, open. */
  #opened(entry: Entry, flags: number): { entry: Entry; open: OpenAnswer } {
    return { entry, open: { handle: this.#handles.open(entry.nodeId, isWriting(flags)) } }
  }

  unlink(request: RequestContext, parent: bigint, name: Buffer): Answer<void> {
    return this.#nameOperations.unlink(request, parent, name)
  }

  rmdir(request: RequestContext, parent: bigint, name: Buffer): Answer<void> {
    return this.#nameOperations.rmdir(request, parent, name)
  }

  rename(
    request: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): Answer<void> {
    return this.#nameOperations.rename(request, { parent, name, newParent, newName, flags })
  }

  link(request: RequestContext, node: bigint, newParent: bigint, newName: Buffer): Answer<Entry> {
    return this.#nameOperations.link(request, node, newParent, newName)
  }

  readlink(_request: RequestContext, node: bigint): Buffer {
    return this.#nameOperations.readTarget(node, 'application')
  }

  /** Target of a symlink. @throws FsError */
  readTarget(node: bigint): Buffer {
    return this.#nameOperations.readTarget(node)
  }

  // ---- attributes

  getattr(_request: RequestContext, node: bigint): AttributeAnswer {
    return this.#entries.attributes(node)
  }

  async setattr(request: RequestContext, node: bigint, changes: AttributeChanges): Promise<AttributeAnswer> {
    await this.#context.activity.landed(node)
    return this.#context.activity.during(node, async () => {
      await this.#attributes.set(node, changes, request)
      return this.#entries.attributes(node)
    })
  }

  setxattr(
    request: RequestContext,
    node: bigint,
    name: Buffer,
    value: Buffer,
    flags: number,
    options?: { readonly killSgid: boolean },
  ): Answer<void> {
    const copy = Buffer.from(value)
    return afterWrites(this.#context.activity, [node], () => {
      const begun = this.answers.recorded(request) !== undefined
      // Whether the attribute may be there is settled once: sent again, XATTR_CREATE must not fail on its own effect.
      if (
        flags !== 0 &&
        !begun &&
        this.#attributes.hasXattr(node, name) === ((flags & XATTR_REPLACE) !== 0)
      ) {
        this.#context.catalog.transaction(() => this.answers.record(request))
        faultPoint('overlay.xattr.begun')
      }
      const how = { flags: begun ? 0 : flags, killSgid: options?.killSgid ?? false }
      this.#attributes.setXattr(request, node, name, copy, how)
      faultPoint('overlay.xattr.done')
    })
  }

  getxattr(_request: RequestContext, node: bigint, name: Buffer): Buffer {
    return this.#attributes.getXattr(node, name)
  }

  listxattr(request: RequestContext, node: bigint): Buffer[] {
    const names = this.#attributes.listXattrs(node)
    // xattr(7): trusted attributes are not even listed to those who may not read them; the kernel leaves that to us.
    return request.uid === 0 ? names : names.filter((name) => !name.subarray(0, 8).equals(TRUSTED))
  }

  removexattr(request: RequestContext, node: bigint, name: Buffer): Answer<void> {
    return afterWrites(this.#context.activity, [node], () => {
      const there = this.#attributes.hasXattr(node, name)
      if (!there && this.answers.recorded(request) !== undefined) return
      if (there) this.#context.catalog.transaction(() => this.answers.record(request))
      faultPoint('overlay.xattr.begun')
      this.#attributes.removeXattr(node, name)
      faultPoint('overlay.xattr.done')
    })
  }

  getFlags(_request: RequestContext, node: bigint): number {
    return this.#flags.get(node)
  }

  async setFlags(request: RequestContext, node: bigint, flags: number): Promise<void> {
    await this.#context.activity.landed(node)
    await this.#flags.set(request, node, flags)
    // The ioctl moves the ctime, of which the kernel is not told.
    this.#cache.notifier.expireAttributes(node)
  }

  // ---- content

  open(_request: RequestContext, node: bigint, flags: number): OpenAnswer {
    const inode = this.names.inode(node)
    if (isDirectory(inode.mode)) throw new FsError('EISDIR')
    this.#checkOpen(inode, flags)
    return { keepCache: this.#cache.opened(inode), handle: this.#handles.open(node, isWriting(flags)) }
  }

  read(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    size: number,
    flags = 0,
  ): Promise<Buffer> {
    return this.#content.read(request, node, offset, size, flags)
  }

  write(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    data: Buffer,
    options: Parameters<FileSystem['write']>[5],
  ): Promise<number> {
    return this.#content.write(request, node, offset, data, options)
  }

  fallocate(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    mode: number,
    offset: number,
    length: number,
  ): Answer<void> {
    return this.#content.fallocate(request, node, mode, offset, length)
  }

  lseek(
    _request: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    whence: number,
  ): Promise<number> {
    return this.#context.reader.seek(node, offset, whence)
  }

  copyFileRange(
    request: RequestContext,
    source: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    destination: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    length: number,
  ): Promise<number> {
    return this.#content.copyFileRange(request, source, destination, length)
  }

  async flush(request: RequestContext, node: bigint): Promise<void> {
    await this.#waits.acknowledged(request, node)
  }

  release(_request: RequestContext, node: bigint, handle: bigint): void {
    this.#handles.close(node, handle)
    this.names.removal.purgeIfUnused(node)
    this.#context.carrier.wake()
  }

  fsync(request: RequestContext, node: bigint, handle: bigint, dataOnly: boolean): Promise<void> {
    return this.#sync.file(request, node, handle, dataOnly)
  }

  // ---- directories

  opendir(_request: RequestContext, node: bigint): OpenAnswer {
    this.#attributes.requireThere(this.names.directory(node))
    return { handle: this.#handles.open(node, false) }
  }

  readdir(
    _request: RequestContext,
    node: bigint,
    handle: bigint,
    cookie: bigint,
    sink: DirectorySink,
  ): void | Promise<void> {
    this.unfinished.tryToConclude(namesIn(node))
    return this.#listings.fill(node, handle, cookie, sink, (found) => this.#entries.of(found))
  }

  releasedir(_request: RequestContext, node: bigint, handle: bigint): void {
    this.#listings.close(handle)
    this.#handles.close(node, handle)
    this.names.removal.purgeIfUnused(node)
  }

  fsyncdir(_request: RequestContext, node: bigint, _handle: bigint, dataOnly: boolean): Promise<void> {
    return this.#sync.directory(node, dataOnly)
  }

  syncfs(): Promise<void> {
    return this.#sync.everything()
  }

  statfs(): StatFs {
    const legacy = this.#context.policy().writeTo === 'legacy' ? this.#context.legacy() : undefined
    // Elsewhere the next write goes to staging: as much is free as the limit and the disk leave.
    const space = legacy?.space() ?? this.#context.staging.space()
    return { ...space, namelen: NAME_MAX, frsize: space.bsize }
  }

  /** Opening on the volume shows at once what would only fail later: a read-only volume, an immutable file. */
  #checkOpen(inode: Inode, flags: number): void {
    const { legacyFiles } = this.#context
    if (!isRegular(inode.mode)) return
    const writing = isWriting(flags)
    const now = writing ? this.#attributes.get(inode.ino) : inode
    if (writing) requireOpenable(now, flags)
    if (inode.authority !== 'legacy') return
    this.#attributes.requireThere(inode)
    if (writing && !isAppendOnly(now) && this.#context.policy().writeTo === 'legacy') {
      legacyFiles.withWriter(inode.ino, () => undefined)
    } else if (this.#context.policy().readFrom === 'legacy') {
      legacyFiles.statOpen(inode.ino)
    }
  }
}

const isWriting = (flags: number): boolean => (flags & O_ACCMODE) !== 0
