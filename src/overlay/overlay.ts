import { constants } from 'node:fs'
import { isDirectory, isRegular, S_IFDIR, S_IFLNK, S_IFREG } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { isAppendOnly } from '../base/inode-flags.ts'
import { type Inode, NAME_MAX } from '../catalog/index.ts'
import { asCaller, placeOf, requireLegacy, takeOver } from '../content/index.ts'
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
import type { ReadBy } from '../legacy/index.ts'
import {
  type Caller,
  closeDescriptor,
  copyFileRange,
  fallocate,
  printable,
  RENAME_EXCHANGE,
  syncDescriptor,
  syncFileSystem,
} from '../sys/index.ts'
import { Answers } from './answers.ts'
import { AttributeOperations } from './attributes.ts'
import { byNode } from './by-node.ts'
import { CatalogNamespace } from './catalog-namespace.ts'
import type { OverlayContext } from './context.ts'
import { FileFlags } from './file-flags.ts'
import { requireAllocatable, requireOpenable, requireWritable } from './guards.ts'
import { Handles } from './handles.ts'
import { CATALOG_TTL_MS, KernelCache, LEGACY_TTL_MS } from './kernel-cache.ts'
import { LegacyNamespace, type NewFile } from './legacy-namespace.ts'
import { Listings } from './listing.ts'
import { lookingOnly } from './looking-only.ts'
import { Nameless } from './nameless.ts'
import { Names, type Resolved } from './names.ts'
import { eitherName, everyName, namesIn, oneName, Unfinished } from './unfinished.ts'
import { Waits } from './waits.ts'

// open(2)
const O_ACCMODE = 3
const { O_APPEND } = constants
// One call of copy_file_range runs in one tick; the kernel asks again for the rest.
const COPY_BYTES = 8 * 1024 * 1024
const TRUSTED = Buffer.from('trusted.')

// linux/xattr.h
const XATTR_REPLACE = 2

interface Rename {
  readonly parent: bigint
  readonly name: Buffer
  readonly newParent: bigint
  readonly newName: Buffer
  readonly flags: number
}

/** The file system that applications see: POSIX semantics over catalog, legacy volume and store. */
export class Overlay implements FileSystem {
  readonly names: Names
  readonly answers: Answers
  readonly unfinished: Unfinished
  readonly #context: OverlayContext
  readonly #attributes: AttributeOperations
  readonly #flags: FileFlags
  readonly #legacyNamespace: LegacyNamespace
  readonly #catalogNamespace: CatalogNamespace
  readonly #listings: Listings
  readonly #handles: Handles
  readonly #cache: KernelCache
  readonly #nameless: Nameless
  readonly #waits: Waits

  constructor(context: OverlayContext) {
    this.#context = context
    this.names = new Names(context)
    // A file that lost its last name while it was copied goes when the copy ends.
    context.activity.onUnused = (ino) => this.names.purgeIfUnused(ino)
    this.answers = new Answers(context.catalog)
    const legacyNamespace = new LegacyNamespace(context, this.names, this.answers)
    this.#legacyNamespace = legacyNamespace
    this.unfinished = new Unfinished(context, { legacyNamespace, answers: this.answers })
    this.#catalogNamespace = new CatalogNamespace(context, this.names, this.answers)
    this.#attributes = new AttributeOperations(context, this.names)
    this.#flags = new FileFlags(context, this.names, this.#attributes)
    this.#listings = new Listings(context, this.names)
    this.#handles = new Handles(context)
    this.#waits = new Waits(context)
    this.#nameless = new Nameless(context, {
      names: this.names,
      answers: this.answers,
      inCatalog: this.#catalogNamespace,
    })
    this.#cache = new KernelCache(context, (inode) => this.#attributes.stat(inode))
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

  /** Shown names of a directory, some at a time. */
  listNames(directory: bigint): AsyncGenerator<Buffer[]> {
    this.unfinished.tryToConclude(namesIn(directory))
    return this.#listings.names(directory)
  }

  // ---- names

  lookup(_request: RequestContext, parent: bigint, name: Buffer): Entry {
    this.unfinished.tryToConclude(oneName(parent, name))
    const { catalog } = this.#context
    const known = byNode(catalog, this.names, parent, name)
    return this.#entry(known ?? lookingOnly(catalog, () => this.names.resolve(parent, name)))
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
    return this.#create(request, parent, name, { mode, rdev, target: undefined })
  }

  mkdir(request: RequestContext, parent: bigint, name: Buffer, mode: number): Entry {
    return this.#create(request, parent, name, {
      mode: S_IFDIR | (mode & 0o7777),
      rdev: 0,
      target: undefined,
    })
  }

  symlink(request: RequestContext, parent: bigint, name: Buffer, target: Buffer): Entry {
    return this.#create(request, parent, name, {
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
    const entry = this.#create(request, parent, name, {
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
    const opened = (ino: bigint) => this.#opened(this.#entryOf(ino), flags)
    const made = this.#nameless.create(request, directory, mode, this.#onVolume([directory], []))
    return made instanceof Promise ? made.then(opened) : opened(made)
  }

  /** What has just been made, open. */
  #opened(entry: Entry, flags: number): { entry: Entry; open: OpenAnswer } {
    return { entry, open: { handle: this.#handles.open(entry.nodeId, isWriting(flags)) } }
  }

  unlink(request: RequestContext, parent: bigint, name: Buffer): Answer<void> {
    this.unfinished.conclude(oneName(parent, name))
    if (this.answers.recorded(request) !== undefined) return
    const { inode } = this.names.resolve(parent, name)
    if (this.#onVolume([parent], [inode])) {
      const held = this.#legacyNamespace.hold(parent, name, false)
      // After a wait all is decided anew: meanwhile the mode may have changed, and the catalog have taken over.
      if (held) return held.then(() => this.unlink(request, parent, name))
      return this.#legacyNamespace.unlink(request, parent, name)
    }
    return this.#afterWrites([inode.ino], () => this.#catalogNamespace.unlink(request, parent, name))
  }

  rmdir(request: RequestContext, parent: bigint, name: Buffer): Answer<void> {
    return this.#rmdir(request, parent, name, undefined)
  }

  /** `seen`: the directory in which no names were found a moment ago. */
  #rmdir(request: RequestContext, parent: bigint, name: Buffer, seen: bigint | undefined): Answer<void> {
    this.unfinished.conclude(oneName(parent, name))
    if (this.answers.recorded(request) !== undefined) return
    const { inode } = this.names.resolve(parent, name)
    if (this.#onVolume([parent], [inode])) return this.#legacyNamespace.rmdir(request, parent, name)
    const looked = inode.ino === seen ? undefined : this.#requireEmpty(inode)
    if (looked) return looked.then(() => this.#rmdir(request, parent, name, inode.ino))
    return this.#catalogNamespace.rmdir(request, parent, name)
  }

  rename(
    request: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): Answer<void> {
    return this.#rename(request, { parent, name, newParent, newName, flags }, undefined)
  }

  #rename(request: RequestContext, change: Rename, seen: bigint | undefined): Answer<void> {
    const { parent, name, newParent, newName, flags } = change
    this.unfinished.conclude(eitherName(oneName(parent, name), oneName(newParent, newName)))
    if (this.answers.recorded(request) !== undefined) return
    const { inode } = this.names.resolve(parent, name)
    const target = this.names.find(newParent, newName)?.inode
    if (this.#onVolume([parent, newParent], target ? [inode, target] : [inode])) {
      const replaces = target !== undefined && (flags & RENAME_EXCHANGE) === 0
      const held = replaces ? this.#legacyNamespace.hold(newParent, newName, true) : undefined
      if (held) return held.then(() => this.#rename(request, change, seen))
      return this.#legacyNamespace.rename(request, parent, name, newParent, newName, flags)
    }
    const isReplaced =
      target && target.ino !== seen && target.ino !== inode.ino && (flags & RENAME_EXCHANGE) === 0
    const looked = isReplaced && isDirectory(inode.mode) ? this.#requireEmpty(target) : undefined
    if (looked) return looked.then(() => this.#rename(request, change, target?.ino))
    return this.#afterWrites(target ? [inode.ino, target.ino] : [inode.ino], () =>
      this.#catalogNamespace.rename(request, parent, name, newParent, newName, flags),
    )
  }

  link(request: RequestContext, node: bigint, newParent: bigint, newName: Buffer): Answer<Entry> {
    this.unfinished.conclude(oneName(newParent, newName))
    const done = this.answers.recorded(request)
    if (typeof done === 'bigint') return this.#entryOf(done)
    const inode = this.names.inode(node)
    if (this.#onVolume([newParent], [inode]))
      return this.#entry(this.#legacyNamespace.link(request, node, newParent, newName))
    const brought = this.#nameless.bring(request, inode)
    if (brought) return brought.then(() => this.link(request, node, newParent, newName))
    return this.#afterWrites([node], () =>
      this.#entry(this.#catalogNamespace.link(request, node, newParent, newName)),
    )
  }

  readlink(_request: RequestContext, node: bigint): Buffer {
    return this.readTarget(node, 'application')
  }

  /** Target of a symlink. @throws FsError */
  readTarget(node: bigint, by: ReadBy = 'ferryfs'): Buffer {
    const inode = this.names.inode(node)
    if (inode.authority === 'catalog') {
      if (!inode.target) throw new FsError('EINVAL')
      return inode.target
    }
    const place = placeOf(this.#context.catalog, node, this.#context.legacy())
    if (!place) throw new FsError('ESTALE')
    return requireLegacy(this.#context).target(place, by)
  }

  // ---- attributes

  getattr(_request: RequestContext, node: bigint): AttributeAnswer {
    return this.#attributeAnswer(node)
  }

  async setattr(request: RequestContext, node: bigint, changes: AttributeChanges): Promise<AttributeAnswer> {
    await this.#context.activity.landed(node)
    return this.#context.activity.during(node, async () => {
      await this.#attributes.set(node, changes, request)
      return this.#attributeAnswer(node)
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
    return this.#afterWrites([node], () => {
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
    return this.#afterWrites([node], () => {
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

  async read(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    size: number,
    flags = 0,
  ): Promise<Buffer> {
    const bytes = await this.#cache.reading(node, { flags, offset, size }, () =>
      this.#waits.withDeadline(request, (signal) => this.#context.reader.read(node, offset, size, signal)),
    )
    this.#copyOnRead(node)
    return bytes
  }

  write(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    data: Buffer,
    options: Parameters<FileSystem['write']>[5],
  ): Promise<number> {
    const { activity, writer } = this.#context
    const takes = this.#takesOver(node)
    if (takes && activity.isWritingVolume(node)) {
      return activity.landed(node).then(() => this.write(request, node, _handle, offset, data, options))
    }
    const inode = takes ? takeOver(this.#context, node) : this.names.inode(node)
    if (inode.authority === 'catalog') requireWritable(inode, options)
    activity.of(node).cacheTag = undefined
    if (options.killSuidGid) this.#attributes.killSetId(node, request)
    const visible = async (written: Promise<number>): Promise<number> => {
      const bytes = await written
      await this.#cache.written(node, options.flags, offset, data.length)
      return bytes
    }
    if (inode.authority === 'catalog') {
      const write = (signal: AbortSignal): Promise<number> => writer.write(node, offset, data, signal)
      return visible(this.#waits.withDeadline(request, write))
    }
    this.#attributes.markDirty(inode)
    faultPoint('overlay.write.dirty')
    return visible(
      activity.writingVolume(node, async () => {
        const flush = this.#attributes.beforeBytes(inode, offset)
        if (flush) await flush
        // Who made the change is not known when the page is written; whoever owns the file pays for it.
        const { uid, gid } = options.isWriteBack === true ? this.#attributes.get(node) : request
        const caller = { uid, gid, umask: 0 }
        const written = await this.#writeVolume(request, { node, data, offset, caller, ...options })
        faultPoint('overlay.write.effect')
        return written
      }),
    )
  }

  /** An append-only file takes what a process appends that has opened it so, and nothing else. */
  async #writeVolume(
    { resent }: RequestContext,
    write: {
      readonly node: bigint
      readonly data: Buffer
      readonly offset: number
      readonly caller: Caller
      readonly flags: number
      readonly isWriteBack?: boolean
    },
  ): Promise<number> {
    const { legacyFiles } = this.#context
    const { node, data, offset, caller, flags, isWriteBack } = write
    try {
      return await legacyFiles.write(node, data, offset, caller)
    } catch (error) {
      const isAppend = (flags & O_APPEND) !== 0 && isWriteBack !== true
      const isRefused = error instanceof FsError && error.code === 'EPERM'
      if (!isAppend || !isRefused || !isAppendOnly(this.#attributes.get(node))) throw error
    }
    // What is asked for again may have been appended, as far as a predecessor came.
    const done = resent ? Math.min(data.length, Math.max(0, legacyFiles.statOpen(node).size - offset)) : 0
    return done === data.length ? done : done + (await legacyFiles.append(node, data.subarray(done), caller))
  }

  fallocate(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    mode: number,
    offset: number,
    length: number,
  ): Answer<void> {
    const { activity, writer, legacyFiles } = this.#context
    const takes = this.#takesOver(node)
    if (takes && activity.isWritingVolume(node)) {
      return activity.landed(node).then(() => this.fallocate(request, node, _handle, mode, offset, length))
    }
    const inode = takes ? takeOver(this.#context, node) : this.names.inode(node)
    if (inode.authority === 'catalog') {
      requireAllocatable(inode, mode)
      return this.#waits.withDeadline(request, async (signal) => {
        await writer.allocate(node, mode, offset, length, signal)
        faultPoint('overlay.fallocate.effect')
        await this.#changedBy(request, node)
      })
    }
    this.#attributes.markDirty(inode)
    faultPoint('overlay.fallocate.dirty')
    const change = (): Answer<void> => {
      legacyFiles.withWriter(node, (descriptor) =>
        asCaller(this.#context, request, () => fallocate(descriptor, mode, offset, length)),
      )
      activity.changed(node)
      faultPoint('overlay.fallocate.effect')
      return this.#changedBy(request, node)
    }
    const flush = this.#attributes.beforeBytes(inode, offset)
    return flush ? activity.writingVolume(node, () => flush.then(change)) : change()
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

  async copyFileRange(
    request: RequestContext,
    source: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    destination: { readonly node: bigint; readonly handle: bigint; readonly offset: number },
    length: number,
  ): Promise<number> {
    const from = this.names.inode(source.node)
    const to = this.names.inode(destination.node)
    const { activity, legacyFiles } = this.#context
    // The kernel then copies through read and write.
    if (
      from.authority !== 'legacy' ||
      to.authority !== 'legacy' ||
      this.#context.policy().writeTo !== 'legacy'
    ) {
      throw new FsError('EOPNOTSUPP')
    }
    if (request.uid !== 0) this.#attributes.killSetId(destination.node, request)
    this.#attributes.markDirty(to)
    faultPoint('overlay.copy.dirty')
    const copied = await activity.writingVolume(destination.node, async () => {
      const flush = this.#attributes.beforeBytes(to, destination.offset)
      if (flush) await flush
      return legacyFiles.withReader(
        source.node,
        async (reader) =>
          legacyFiles.withWriter(destination.node, (writer) =>
            asCaller(this.#context, request, () =>
              copyFileRange(reader, source.offset, writer, destination.offset, Math.min(length, COPY_BYTES)),
            ),
          ),
        'application',
      )
    })
    faultPoint('overlay.copy.effect')
    return copied
  }

  async flush(request: RequestContext, node: bigint): Promise<void> {
    await this.#waits.acknowledged(request, node)
  }

  release(_request: RequestContext, node: bigint, handle: bigint): void {
    this.#handles.close(node, handle)
    this.names.purgeIfUnused(node)
    this.#context.carrier.wake()
  }

  async fsync(request: RequestContext, node: bigint, handle: bigint, dataOnly: boolean): Promise<void> {
    const { catalog, writer } = this.#context
    const inode = this.names.inode(node)
    // A file that the catalog took over has bytes on the volume that may have been written a moment ago.
    const onVolume = inode.authority === 'legacy' || inode.base === 'legacy'
    if (onVolume && isRegular(inode.mode)) await this.#syncLegacy(node, handle, dataOnly)
    if (inode.authority !== 'legacy') await writer.sync(node)
    await catalog.flush()
    await this.#waits.acknowledged(request, node)
  }

  async #syncLegacy(node: bigint, handle: bigint, dataOnly: boolean): Promise<void> {
    const { catalog, legacyFiles, failedSyncs } = this.#context
    try {
      await legacyFiles.sync(node, dataOnly)
    } catch (error) {
      this.#handles.hearsOfFailedSync(node, handle)
      const path = catalog.links.pathOf(node)
      failedSyncs.note(
        path ? printable(path) : `(inode ${node})`,
        `it could not be synced: ${reasonOf(error)}`,
        error,
      )
      throw error
    }
    if (this.#handles.hearsOfFailedSync(node, handle))
      throw new FsError('EIO', 'a sync of the legacy file failed, and some of what was written may be lost')
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
    return this.#listings.fill(node, handle, cookie, sink, (found) => this.#entry(found))
  }

  releasedir(_request: RequestContext, node: bigint, handle: bigint): void {
    this.#listings.close(handle)
    this.#handles.close(node, handle)
    this.names.purgeIfUnused(node)
  }

  async fsyncdir(_request: RequestContext, node: bigint, _handle: bigint, dataOnly: boolean): Promise<void> {
    const inode = this.names.inode(node)
    if (inode.authority === 'legacy' && !inode.orphan) {
      const descriptor = requireLegacy(this.#context).openDirectory(node)
      try {
        await syncDescriptor(descriptor, dataOnly)
      } finally {
        closeDescriptor(descriptor)
      }
    }
    await this.#context.catalog.flush()
  }

  async syncfs(): Promise<void> {
    const { catalog, writer } = this.#context
    const legacy = this.#context.legacy()
    if (legacy && this.#context.policy().writeTo === 'legacy') {
      const descriptor = legacy.openDirectory(1n)
      try {
        await syncFileSystem(descriptor)
      } finally {
        closeDescriptor(descriptor)
      }
    }
    const failed: unknown[] = []
    for (const ino of catalog.lists.staged()) {
      await writer.sync(ino).catch((error: unknown) => failed.push(error))
    }
    await catalog.flush()
    // One file whose bytes are lost is no reason not to sync the others.
    if (failed.length > 0) throw failed[0]
  }

  statfs(): StatFs {
    const legacy = this.#context.policy().writeTo === 'legacy' ? this.#context.legacy() : undefined
    // Elsewhere the next write goes to staging: as much is free as the limit and the disk leave.
    const space = legacy?.space() ?? this.#context.staging.space()
    return { ...space, namelen: NAME_MAX, frsize: space.bsize }
  }

  // ---- parts

  #create(request: RequestContext, parent: bigint, name: Buffer, file: NewFile): Entry {
    this.unfinished.conclude(oneName(parent, name))
    const done = this.answers.recorded(request)
    if (typeof done === 'bigint') return this.#entryOf(done)
    const directory = this.names.directory(parent)
    if (directory.orphan) throw new FsError('ENOENT')
    const on = this.#onVolume([parent], []) ? this.#legacyNamespace : this.#catalogNamespace
    return this.#entry(on.create(request, parent, name, file))
  }

  /** Of a directory that is to go: looks for names in it, now or in turns of its own. @throws FsError ENOTEMPTY */
  #requireEmpty(inode: Inode): Promise<void> | undefined {
    return isDirectory(inode.mode) ? this.names.requireEmpty(inode) : undefined
  }

  /** Whether a change of the file makes the catalog its authority first. */
  #takesOver(node: bigint): boolean {
    const inode = this.names.inode(node)
    return inode.authority === 'legacy' && this.#context.policy().writeTo === 'store' && !inode.orphan
  }

  /** Clears the set-id bits where the kernel leaves that to us without a flag: it has one for writes and truncation only. */
  #changedBy(request: RequestContext, node: bigint): Answer<void> {
    if (request.uid === 0) return
    return this.#attributes.set(node, { killSuidGid: true }, request).then(() => undefined)
  }

  /** Runs `body`, in this tick if no write to one of these legacy files is under way. */
  #afterWrites<T>(nodes: readonly bigint[], body: () => T): Answer<T> {
    const busy = nodes.find((node) => this.#context.activity.isWritingVolume(node))
    if (busy === undefined) return body()
    return this.#context.activity.landed(busy).then(() => this.#afterWrites(nodes, body))
  }

  /** Whether the legacy volume is the place of a change that involves these directories and files. */
  #onVolume(parents: readonly bigint[], files: readonly Inode[]): boolean {
    if (this.#context.policy().writeTo !== 'legacy') return false
    return (
      parents.every((parent) => this.names.directory(parent).authority === 'legacy') &&
      files.every((file) => file.authority === 'legacy')
    )
  }

  #entryOf(ino: bigint): Entry {
    return this.#entry({ inode: this.names.inode(ino), stat: undefined })
  }

  /** The reply for a name: counts as one look-up. */
  #entry({ inode, stat }: Resolved): Entry {
    const activity = this.#context.activity.of(inode.ino)
    activity.lookups += 1n
    activity.forgotten = false
    const own = inode.authority === 'catalog'
    const known = stat ? { ...stat, ino: inode.ino } : undefined
    const attributes = known ?? this.#attributes.get(inode.ino)
    this.#cache.tell(inode, attributes)
    return {
      nodeId: inode.ino,
      generation: BigInt(inode.generation),
      attributes,
      entryTtlMs: own ? CATALOG_TTL_MS : LEGACY_TTL_MS,
      attributeTtlMs: own ? CATALOG_TTL_MS : LEGACY_TTL_MS,
    }
  }

  #attributeAnswer(node: bigint): AttributeAnswer {
    const attributes = this.#attributes.get(node)
    const inode = this.names.inode(node)
    this.#cache.tell(inode, attributes)
    const own = inode.authority === 'catalog'
    return { attributes, attributeTtlMs: own ? CATALOG_TTL_MS : LEGACY_TTL_MS }
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

  #copyOnRead(node: bigint): void {
    if (this.#context.policy().copies) this.#context.carrier.want(node)
  }
}

const isWriting = (flags: number): boolean => (flags & O_ACCMODE) !== 0
