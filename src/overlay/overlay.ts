import { fdatasync, fsync } from 'node:fs'
import { isDirectory, isRegular, S_IFDIR, S_IFLNK, S_IFREG } from '../base/attributes.ts'
import { untilNextTick } from '../base/clock.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { attributesOf, type Inode, NAME_MAX } from '../catalog/index.ts'
import { placeOf, requireLegacy, takeOver, type UploadResult } from '../content/index.ts'
import type {
  Answer,
  AttributeAnswer,
  AttributeChanges,
  DirectorySink,
  Entry,
  FileSystem,
  OpenAnswer,
  RequestContext,
  StatFs,
} from '../fuse/operations.ts'
import {
  closeDescriptor,
  copyFileRange,
  fallocate,
  RENAME_EXCHANGE,
  readlinkAt,
  printable,
  syncFileSystem,
} from '../sys/index.ts'
import { Answers } from './answers.ts'
import { AttributeOperations } from './attributes.ts'
import { CatalogNamespace } from './catalog-namespace.ts'
import type { OverlayContext } from './context.ts'
import { Handles } from './handles.ts'
import { LegacyNamespace, type NewFile } from './legacy-namespace.ts'
import { Listings } from './listing.ts'
import { lookingOnly } from './looking-only.ts'
import { Names, type Resolved } from './names.ts'
import { eitherName, everyName, namesIn, oneName, Unfinished } from './unfinished.ts'

// A change made past the overlay on the legacy volume is seen within this time.
const LEGACY_TTL_MS = 1000
// What the catalog has authority over changes only through this mount.
const CATALOG_TTL_MS = 10_000
// open(2)
const O_ACCMODE = 3
// One call of copy_file_range runs in one tick; the kernel asks again for the rest.
const COPY_BYTES = 8 * 1024 * 1024
// Between two looks at a file that has to be in the store and keeps changing.
const BUSY_MS = 10
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
  readonly #legacyNamespace: LegacyNamespace
  readonly #catalogNamespace: CatalogNamespace
  readonly #listings: Listings
  readonly #handles: Handles

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
    this.#listings = new Listings(context, this.names)
    this.#handles = new Handles(context)
    context.carrier.onVanished = (ino) => {
      this.unfinished.conclude(everyName)
      this.names.lookAgain(ino)
    }
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
    return this.#entry(lookingOnly(this.#context.catalog, () => this.names.resolve(parent, name)))
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

  rmdir(request: RequestContext, parent: bigint, name: Buffer): void {
    this.unfinished.conclude(oneName(parent, name))
    if (this.answers.recorded(request) !== undefined) return
    const { inode } = this.names.resolve(parent, name)
    if (this.#onVolume([parent], [inode])) this.#legacyNamespace.rmdir(request, parent, name)
    else this.#catalogNamespace.rmdir(request, parent, name)
  }

  rename(
    request: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): Answer<void> {
    this.unfinished.conclude(eitherName(oneName(parent, name), oneName(newParent, newName)))
    if (this.answers.recorded(request) !== undefined) return
    const { inode } = this.names.resolve(parent, name)
    const target = this.names.find(newParent, newName)?.inode
    if (this.#onVolume([parent, newParent], target ? [inode, target] : [inode])) {
      const replaces = target !== undefined && (flags & RENAME_EXCHANGE) === 0
      const held = replaces ? this.#legacyNamespace.hold(newParent, newName, true) : undefined
      if (held) return held.then(() => this.rename(request, parent, name, newParent, newName, flags))
      return this.#legacyNamespace.rename(request, parent, name, newParent, newName, flags)
    }
    return this.#afterWrites(target ? [inode.ino, target.ino] : [inode.ino], () =>
      this.#catalogNamespace.rename(request, parent, name, newParent, newName, flags),
    )
  }

  link(request: RequestContext, node: bigint, newParent: bigint, newName: Buffer): Answer<Entry> {
    this.unfinished.conclude(oneName(newParent, newName))
    const done = this.answers.recorded(request)
    if (typeof done === 'bigint') return this.#entryOf(done)
    const inode = this.names.inode(node)
    if (this.#onVolume([newParent], [inode])) {
      return this.#entry(this.#legacyNamespace.link(request, node, newParent, newName))
    }
    return this.#afterWrites([node], () =>
      this.#entry(this.#catalogNamespace.link(request, node, newParent, newName)),
    )
  }

  readlink(_request: RequestContext, node: bigint): Buffer {
    return this.readTarget(node)
  }

  /** Target of a symlink. @throws FsError */
  readTarget(node: bigint): Buffer {
    const inode = this.names.inode(node)
    if (inode.authority === 'catalog') {
      if (!inode.target) throw new FsError('EINVAL')
      return inode.target
    }
    const place = placeOf(this.#context.catalog, node, this.#context.legacy())
    if (!place) throw new FsError('ESTALE')
    return readlinkAt(requireLegacy(this.#context).directory(place.parent), place.name)
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
      this.#attributes.setXattr(node, name, copy, begun ? 0 : flags, options?.killSgid ?? false)
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

  // ---- content

  open(_request: RequestContext, node: bigint, flags: number): OpenAnswer {
    const inode = this.names.inode(node)
    if (isDirectory(inode.mode)) throw new FsError('EISDIR')
    const writing = isWriting(flags)
    this.#checkOpen(inode, writing)
    const activity = this.#context.activity.of(node)
    const tag = this.#contentTag(inode)
    const keepCache = tag !== undefined && activity.cacheTag === tag
    activity.cacheTag = tag
    return { handle: this.#handles.open(node, writing), keepCache }
  }

  async read(
    request: RequestContext,
    node: bigint,
    _handle: bigint,
    offset: number,
    size: number,
  ): Promise<Buffer> {
    const bytes = await this.#withDeadline(request, (signal) =>
      this.#context.reader.read(node, offset, size, signal),
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
    options: { readonly killSuidGid: boolean; readonly flags: number },
  ): Promise<number> {
    const { activity, writer, legacyFiles } = this.#context
    const takes = this.#takesOver(node)
    if (takes && activity.isWritingVolume(node)) {
      return activity.landed(node).then(() => this.write(request, node, _handle, offset, data, options))
    }
    const inode = takes ? takeOver(this.#context, node) : this.names.inode(node)
    activity.of(node).cacheTag = undefined
    if (inode.authority === 'catalog') {
      return this.#withDeadline(request, (signal) =>
        writer.write(node, offset, data, options.killSuidGid, signal),
      )
    }
    this.#attributes.markDirty(inode)
    faultPoint('overlay.write.dirty')
    return activity.writingVolume(node, async () => {
      const flush = this.#attributes.beforeBytes(inode, offset)
      if (flush) await flush
      const written = await legacyFiles.write(node, data, offset)
      faultPoint('overlay.write.effect')
      if (options.killSuidGid) this.#attributes.killSetId(node)
      return written
    })
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
      return this.#withDeadline(request, async (signal) => {
        await writer.allocate(node, mode, offset, length, signal)
        faultPoint('overlay.fallocate.effect')
        await this.#changedBy(request, node)
      })
    }
    this.#attributes.markDirty(inode)
    faultPoint('overlay.fallocate.dirty')
    const change = (): Answer<void> => {
      legacyFiles.withWriter(node, (descriptor) => fallocate(descriptor, mode, offset, length))
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
    this.#attributes.markDirty(to)
    faultPoint('overlay.copy.dirty')
    const copied = await activity.writingVolume(destination.node, async () => {
      const flush = this.#attributes.beforeBytes(to, destination.offset)
      if (flush) await flush
      return legacyFiles.withReader(source.node, async (reader) =>
        legacyFiles.withWriter(destination.node, (writer) =>
          copyFileRange(reader, source.offset, writer, destination.offset, Math.min(length, COPY_BYTES)),
        ),
      )
    })
    faultPoint('overlay.copy.effect')
    await this.#changedBy(request, destination.node)
    return copied
  }

  async flush(request: RequestContext, node: bigint): Promise<void> {
    await this.#acknowledge(request, node)
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
    await this.#acknowledge(request, node)
  }

  async #syncLegacy(node: bigint, handle: bigint, dataOnly: boolean): Promise<void> {
    const { catalog, legacyFiles, failedSyncs } = this.#context
    try {
      await legacyFiles.sync(node, dataOnly)
    } catch (error) {
      this.#handles.hearsOfFailedSync(node, handle)
      const path = catalog.pathOf(node)
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
    this.names.directory(node)
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
    for (const ino of catalog.stagedInodes()) {
      await writer.sync(ino).catch((error: unknown) => failed.push(error))
    }
    await catalog.flush()
    // One file whose bytes are lost is no reason not to sync the others.
    if (failed.length > 0) throw failed[0]
  }

  statfs(): StatFs {
    const legacy = this.#context.legacy()
    if (legacy && this.#context.policy().writeTo === 'legacy') {
      const space = legacy.space()
      return { ...space, namelen: NAME_MAX, frsize: space.bsize }
    }
    // The next write goes to staging: as much is free as the limit and the disk leave.
    const space = this.#context.staging.space()
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
    return {
      nodeId: inode.ino,
      generation: BigInt(inode.generation),
      attributes: stat
        ? { ...stat, ino: inode.ino }
        : own
          ? attributesOf(inode)
          : this.#attributes.get(inode.ino),
      entryTtlMs: own ? CATALOG_TTL_MS : LEGACY_TTL_MS,
      attributeTtlMs: own ? CATALOG_TTL_MS : LEGACY_TTL_MS,
    }
  }

  #attributeAnswer(node: bigint): AttributeAnswer {
    const attributes = this.#attributes.get(node)
    const own = this.names.inode(node).authority === 'catalog'
    return { attributes, attributeTtlMs: own ? CATALOG_TTL_MS : LEGACY_TTL_MS }
  }

  /** Opening on the volume shows at once what would only fail later: a read-only volume, an immutable file. */
  #checkOpen(inode: Inode, writing: boolean): void {
    const { legacyFiles } = this.#context
    if (inode.authority !== 'legacy' || !isRegular(inode.mode)) return
    if (writing && this.#context.policy().writeTo === 'legacy') {
      legacyFiles.withWriter(inode.ino, () => undefined)
    } else if (this.#context.policy().readFrom === 'legacy') {
      legacyFiles.statOpen(inode.ino)
    }
  }

  /** Names a state of the content; the kernel may keep what it cached under the same name. */
  #contentTag(inode: Inode): string | undefined {
    if (inode.authority === 'catalog') return `${inode.mtimeNs}.${inode.size}`
    const stat = this.#attributes.stat(inode)
    // What was changed within this tick of the volume's clock may be changed again under the same times.
    if (!stat || untilNextTick(stat.ctimeNs, Date.now()) > 0) return undefined
    return `${stat.mtimeNs}.${stat.size}.${stat.ctimeNs}`
  }

  #copyOnRead(node: bigint): void {
    if (this.#context.policy().copies) this.#context.carrier.want(node)
  }

  /** With `--ack store` the caller waits until the store has the file; nothing is lost if it has to give up. */
  async #acknowledge(request: RequestContext, node: bigint): Promise<void> {
    const { copies, writeTo } = this.#context.policy()
    // In a mode that copies nothing the volume is all that there is to wait for.
    if (this.#context.ack === 'local' || !(copies || writeTo === 'store')) return
    await this.#withDeadline(request, async (signal) => {
      for (;;) {
        const inode = this.#context.catalog.get(node)
        if (!inode || inode.orphan || inode.dirty === 0) return
        signal.throwIfAborted()
        const result = await this.#uploaded(node, signal)
        if (result === 'gone') return
        // Somebody is in the middle of changing it, and never gets to the end of that if this here takes no pause.
        if (result === 'busy') await new Promise((resolve) => setTimeout(resolve, BUSY_MS))
      }
    })
  }

  /** A file that was removed past the overlay has nothing that the store could acknowledge: close(2) does not fail for that. */
  async #uploaded(node: bigint, signal: AbortSignal): Promise<UploadResult> {
    try {
      return await this.#context.uploader.upload(node, signal)
    } catch (error) {
      const isGone = error instanceof FsError && error.code === 'ENOENT'
      if (isGone && this.#context.catalog.get(node)?.authority === 'legacy') return 'gone'
      throw error
    }
  }

  /** Ends the caller's wait at the deadline or on an interrupt; work that goes on behind it is harmless. */
  async #withDeadline<T>(request: RequestContext, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadline = new AbortController()
    const milliseconds = this.#context.settings.opTimeoutMs
    const timer = setTimeout(
      () => deadline.abort(new FsError('EIO', `no answer from the store within ${milliseconds} ms`)),
      milliseconds,
    )
    const signal = AbortSignal.any([deadline.signal, request.signal])
    try {
      return await body(signal)
    } catch (error) {
      if (request.signal.aborted) throw new FsError('EINTR')
      if (deadline.signal.aborted) throw deadline.signal.reason
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
}

const isWriting = (flags: number): boolean => (flags & O_ACCMODE) !== 0

function syncDescriptor(descriptor: number, dataOnly: boolean): Promise<void> {
  return new Promise((resolve, reject) =>
    (dataOnly ? fdatasync : fsync)(descriptor, (error) => (error ? reject(error) : resolve())),
  )
}
