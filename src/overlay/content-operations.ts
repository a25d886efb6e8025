import { constants } from 'node:fs'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { isAppendOnly } from '../base/inode-flags.ts'
import { asCaller, takeOver } from '../content/index.ts'
import type { Answer, FileSystem, RequestContext } from '../fuse/operations.ts'
import { type Caller, copyFileRange, fallocate } from '../sys/index.ts'
import type { AttributeOperations } from './attributes.ts'
import type { OverlayContext } from './context.ts'
import { requireAllocatable, requireWritable } from './guards.ts'
import type { KernelCache } from './kernel-cache.ts'
import type { Names } from './names.ts'
import type { Waits } from './waits.ts'

// open(2)
const { O_APPEND } = constants
// One call of copy_file_range runs in one tick; the kernel asks again for the rest.
const COPY_BYTES = 8 * 1024 * 1024

/** An offset in a file. */
interface Place {
  readonly node: bigint
  readonly offset: number
}

interface Parts {
  readonly names: Names
  readonly attributes: AttributeOperations
  readonly cache: KernelCache
  readonly waits: Waits
}

/** Requests that read and change the bytes of files: on the volume or in the catalog's own, whichever is their place. */
export class ContentOperations {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #attributes: AttributeOperations
  readonly #cache: KernelCache
  readonly #waits: Waits

  constructor(context: OverlayContext, { names, attributes, cache, waits }: Parts) {
    this.#context = context
    this.#names = names
    this.#attributes = attributes
    this.#cache = cache
    this.#waits = waits
  }

  async read(
    request: RequestContext,
    node: bigint,
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
    offset: number,
    data: Buffer,
    options: Parameters<FileSystem['write']>[5],
  ): Promise<number> {
    const { activity, writer } = this.#context
    const takes = this.#takesOver(node)
    if (takes && activity.isWritingVolume(node)) {
      return activity.landed(node).then(() => this.write(request, node, offset, data, options))
    }
    const inode = takes ? takeOver(this.#context, node) : this.#names.inode(node)
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
    const change = async (): Promise<number> => {
      const flush = this.#attributes.beforeBytes(inode, offset)
      if (flush) await flush
      // Who made the change is not known when the page is written; whoever owns the file pays for it.
      const { uid, gid } = options.isWriteBack === true ? this.#attributes.get(node) : request
      const caller = { uid, gid, umask: 0 }
      const written = await this.#writeVolume(request, { node, data, offset, caller, ...options })
      faultPoint('overlay.write.effect')
      return written
    }
    return visible(activity.writingVolume(node, change, offset))
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
    mode: number,
    offset: number,
    length: number,
  ): Answer<void> {
    const { activity, writer, legacyFiles } = this.#context
    const takes = this.#takesOver(node)
    if (takes && activity.isWritingVolume(node)) {
      return activity.landed(node).then(() => this.fallocate(request, node, mode, offset, length))
    }
    const inode = takes ? takeOver(this.#context, node) : this.#names.inode(node)
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
      this.#cache.reaches(node, offset + length)
      faultPoint('overlay.fallocate.effect')
      return this.#changedBy(request, node)
    }
    const flush = this.#attributes.beforeBytes(inode, offset)
    return flush ? activity.writingVolume(node, () => flush.then(change)) : change()
  }

  async copyFileRange(
    request: RequestContext,
    source: Place,
    destination: Place,
    length: number,
  ): Promise<number> {
    const from = this.#names.inode(source.node)
    const to = this.#names.inode(destination.node)
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
    this.#cache.reaches(destination.node, destination.offset + copied)
    faultPoint('overlay.copy.effect')
    return copied
  }

  /** Whether a change of the file makes the catalog its authority first. */
  #takesOver(node: bigint): boolean {
    const inode = this.#names.inode(node)
    return inode.authority === 'legacy' && this.#context.policy().writeTo === 'store' && !inode.orphan
  }

  /** Clears the set-id bits where the kernel leaves that to us without a flag: it has one for writes and truncation only. */
  #changedBy(request: RequestContext, node: bigint): Answer<void> {
    if (request.uid === 0) return
    return this.#attributes.set(node, { killSuidGid: true }, request).then(() => undefined)
  }

  #copyOnRead(node: bigint): void {
    if (this.#context.policy().copies) this.#context.carrier.want(node)
  }
}
