import { constants, openSync, read as readCallback, write as writeCallback } from 'node:fs'
import { isDirectory, isRegular } from '../base/attributes.ts'
import { SharedJob } from '../base/concurrency.ts'
import { FsError, Unanswered } from '../base/errors.ts'
import type { ReadBy } from '../legacy/index.ts'
import {
  type Caller,
  closeDescriptor,
  closeWritten,
  cutsMuch,
  DescriptorCache,
  diskOf,
  flagsOf,
  readCached,
  SEEK_DATA,
  type Stat,
  seek,
  setFlagsOf,
  statDescriptor,
  syncDescriptor,
  truncateByThread,
  truncateDescriptor,
  underLease,
  whileGuarded,
  type Writers,
} from '../sys/index.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import { asCaller, placeOf, requireLegacy } from './takeover.ts'

const CAPACITY = 512

/** Keeps descriptors of files without a name alive beyond this process; the supervisor does. */
export interface Holder {
  /** Resolves when the file behind the descriptor is held. */
  hold(id: string, descriptor: number): Promise<void>
  drop(id: string): void
  /** Path under /proc by which a held file can be opened, if it is held. */
  path(id: string): string | undefined
  /** All that is held. */
  ids(): string[]
}

interface Syncing {
  readonly job: SharedJob
  /** Of one who waits for `job`, and so is open until that ends. */
  descriptor: number
  /** Somebody who waits wants the attributes as well. */
  whole: boolean
  /** Syncs that failed. */
  failures: number
}

/** Open legacy files. A file that lost its last name is reached through its holder. */
export class LegacyFiles {
  readonly #context: ContentContext
  readonly #holder: Holder
  readonly #readers = new DescriptorCache(CAPACITY, closeWritten)
  /** Of those that applications read through, which moves access times. */
  readonly #applications = new DescriptorCache(CAPACITY, closeWritten)
  readonly #writers = new DescriptorCache(CAPACITY, closeWritten)
  /** Of append-only files. */
  readonly #appenders = new DescriptorCache(CAPACITY, closeWritten)
  readonly #all = [this.#readers, this.#applications, this.#writers, this.#appenders]
  readonly #syncs = new Map<bigint, Syncing>()

  constructor(context: ContentContext, holder: Holder) {
    this.#context = context
    this.#holder = holder
  }

  /** Fewer bytes than asked only at the end of the file. @throws FsError */
  read(ino: bigint, buffer: Buffer, position: number, by: ReadBy = 'ferryfs'): Promise<number> {
    return this.withReader(ino, (descriptor) => readFully(descriptor, buffer, position), by)
  }

  /** In the name of `caller`, whom the volume may have less room for than for root. */
  write(ino: bigint, data: Buffer, position: number, caller?: Caller): Promise<number> {
    return this.#writers.use(
      ino,
      () => this.#open(ino, constants.O_RDWR),
      (descriptor) => writeFully(descriptor, data, position, caller),
    )
  }

  /**
   * The same of an append-only file, which the volume lets nobody open in another way: wherever its end is now, the bytes go there.
   */
  append(ino: bigint, data: Buffer, caller: Caller): Promise<number> {
    return this.#appenders.use(
      ino,
      () => this.#open(ino, constants.O_RDWR | constants.O_APPEND),
      (descriptor) => writeFully(descriptor, data, 0, caller),
    )
  }

  /** Flags of ioctl_iflags(2) of a file or directory. @throws FsError ENOTTY, EOPNOTSUPP where it has none */
  flags(ino: bigint): number {
    return this.#withAny(ino, flagsOf)
  }

  /** In the name of `caller`, who may set some and not others; by default of ferryfs. @throws FsError EPERM */
  setFlags(ino: bigint, flags: number, caller?: Caller): void {
    this.#withAny(ino, (descriptor) => {
      const set = (): void => setFlagsOf(descriptor, flags)
      if (caller) asCaller(this.#context, caller, set)
      else set()
    })
    // What was opened before could do what nobody can who opens it now.
    this.forget(ino)
  }

  #withAny<T>(ino: bigint, body: (descriptor: number) => T): T {
    const mode = this.#context.catalog.get(ino)?.mode ?? 0
    if (isRegular(mode)) return this.#readers.useSync(ino, () => this.#open(ino, constants.O_RDONLY), body)
    if (!isDirectory(mode)) throw new FsError('ENOTTY', 'only files and directories have flags')
    const descriptor = requireLegacy(this.#context).openDirectory(ino)
    try {
      return body(descriptor)
    } finally {
      closeDescriptor(descriptor)
    }
  }

  /** Runs `body` in this tick with a descriptor for writing. */
  withWriter<T>(ino: bigint, body: (descriptor: number) => T): T {
    return this.#writers.useSync(ino, () => this.#open(ino, constants.O_RDWR), body)
  }

  /** Cuts or grows it, on a thread where that frees much. @throws FsError, Unanswered */
  async truncate(ino: bigint, size: number): Promise<void> {
    await this.#writers.use(
      ino,
      () => this.#open(ino, constants.O_RDWR),
      async (descriptor) => {
        if (cutsMuch(statDescriptor(descriptor), size)) await truncateByThread(descriptor, size)
        else truncateDescriptor(descriptor, size)
      },
    )
  }

  /** Runs `body` with a descriptor for reading. */
  withReader<T>(ino: bigint, body: (descriptor: number) => Promise<T>, by: ReadBy = 'ferryfs'): Promise<T> {
    const descriptors = by === 'application' ? this.#applications : this.#readers
    return descriptors.use(ino, () => this.#open(ino, constants.O_RDONLY, by), body)
  }

  /**
   * Offset of the next data or hole of the file (`whence` as in lseek(2)), within this tick; `undefined` where there is none.
   * @throws FsError where the volume cannot tell
   */
  seek(ino: bigint, offset: number, whence: number): number | undefined {
    return this.#readers.useSync(
      ino,
      () => this.#open(ino, constants.O_RDONLY),
      (descriptor) => {
        try {
          return seek(descriptor, offset, whence)
        } catch (error) {
          if (error instanceof FsError && error.code === 'ENXIO') return undefined
          throw error
        }
      },
    )
  }

  /** Indexes of the chunks below `count` that hold data, ascending. A volume that cannot tell says that all is data. */
  async *dataChunks(ino: bigint, count: number): AsyncGenerator<number> {
    for (let next: number | undefined = 0; ; next += 1) {
      next = this.nextDataChunk(ino, next, count)
      if (next === undefined) return
      yield next
    }
  }

  /** The first chunk from `from` on, and before `end`, that holds data, within this tick. */
  nextDataChunk(ino: bigint, from: number, end: number): number | undefined {
    if (from >= end) return undefined
    let offset: number | undefined
    try {
      offset = this.seek(ino, from * CHUNK_BYTES, SEEK_DATA)
    } catch (error) {
      // Read it and see.
      if (!(error instanceof FsError)) throw error
      return from
    }
    const index = offset === undefined ? end : Math.floor(offset / CHUNK_BYTES)
    return index < end ? index : undefined
  }

  /**
   * What was written before the call is on the medium when this resolves. One sync of a file at a time: the kernel tells a
   * descriptor of a failure once, and of two syncs at once one would pass for well done.
   * @throws FsError; the error of fsync(2)
   */
  async sync(ino: bigint, dataOnly: boolean): Promise<void> {
    const syncing = this.#syncs.get(ino) ?? newSyncing()
    this.#syncs.set(ino, syncing)
    try {
      await this.withReader(ino, async (descriptor) => {
        syncing.descriptor = descriptor
        syncing.whole ||= !dataOnly
        await syncing.job.run()
      })
    } finally {
      if (syncing.failures === 0 && !syncing.job.isBusy) this.#syncs.delete(ino)
    }
  }

  /** How many syncs of the file have failed while somebody has it open: each handle is to hear of one. */
  failedSyncs(ino: bigint): number {
    return this.#syncs.get(ino)?.failures ?? 0
  }

  /** Nobody has the file open any more. */
  forgetFailedSyncs(ino: bigint): void {
    if (this.failedSyncs(ino) > 0) this.#syncs.delete(ino)
  }

  statOpen(ino: bigint): Stat {
    return this.#readers.useSync(ino, () => this.#open(ino, constants.O_RDONLY), statDescriptor)
  }

  /**
   * Resolves once nothing of this process has the file open for writing that had it so at the call: it would look like somebody else in
   * `underLease`. Closing what was written may take as long as writing it. @throws Unanswered
   */
  async letWritersGo(ino: bigint): Promise<void> {
    await Promise.all([this.#writers.letGo(ino), this.#appenders.letGo(ino)])
  }

  /** This process has the file open for writing. */
  hasWriters(ino: bigint): boolean {
    return this.#writers.has(ino) || this.#appenders.has(ino)
  }

  /**
   * Runs `body` in this tick with whether anybody has the file open or mapped for writing, this process too (`letWritersGo`); after
   * `none` nobody gets it so before it has ended. @throws FsError if it cannot be opened
   */
  underLease<T>(ino: bigint, body: (writers: Writers) => T): T {
    try {
      return this.#readers.useSync(
        ino,
        () => this.#open(ino, constants.O_RDONLY),
        (descriptor) => underLease(descriptor, body),
      )
    } catch (error) {
      // A lease that could not be given back ends with the descriptor.
      if (error instanceof Unanswered) this.#readers.drop(ino)
      throw error
    }
  }

  /** The file's content stays reachable after its last name is gone, for this process and its successors. */
  async hold(ino: bigint): Promise<void> {
    const id = holdId(ino)
    if (this.#holder.path(id) !== undefined) return
    const open = (): number => {
      try {
        return this.#open(ino, constants.O_RDWR)
      } catch (error) {
        // A volume or file that cannot be written can still be read.
        if (!(error instanceof FsError)) throw error
        return this.#open(ino, constants.O_RDONLY)
      }
    }
    const descriptor = open()
    try {
      await this.holdOpen(ino, descriptor)
    } finally {
      closeDescriptor(descriptor)
    }
  }

  /** The same of a file that is open already, and may have no name from the beginning. */
  async holdOpen(ino: bigint, descriptor: number): Promise<void> {
    await whileGuarded(descriptor, () => this.#holder.hold(holdId(ino), descriptor))
  }

  /** Nobody uses the nameless file any more, or it has a name again. */
  release(ino: bigint): void {
    this.forget(ino)
    this.#holder.drop(holdId(ino))
  }

  /** Lets go of what a killed predecessor held and did not come to unlink, or purged and did not come to release. */
  releaseUnless(needed: (ino: bigint) => boolean): void {
    for (const id of this.#holder.ids()) {
      const ino = BigInt(id.slice(HELD.length))
      if (!needed(ino)) this.release(ino)
    }
  }

  isHeld(ino: bigint): boolean {
    return this.#holder.path(holdId(ino)) !== undefined
  }

  /** The next access opens the file anew. */
  forget(ino: bigint): void {
    for (const descriptors of this.#all) descriptors.drop(ino)
  }

  close(): void {
    for (const descriptors of this.#all) descriptors.clear()
  }

  #open(ino: bigint, flags: number, by: ReadBy = 'ferryfs'): number {
    const held = this.#holder.path(holdId(ino))
    if (held !== undefined) return this.#context.legacy()?.openPath(held, flags) ?? openSync(held, flags)
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    const place = inode && placeOf(catalog, ino, this.#context.legacy())
    if (!place) throw new FsError('ESTALE', `inode ${ino} is not on the legacy volume`)
    return requireLegacy(this.#context).openFile(place, inode.legacyIno, flags, by)
  }
}

function newSyncing(): Syncing {
  const syncing: Syncing = {
    descriptor: -1,
    whole: false,
    failures: 0,
    job: new SharedJob(async () => {
      const { descriptor, whole } = syncing
      syncing.whole = false
      try {
        await syncDescriptor(descriptor, !whole)
      } catch (error) {
        syncing.failures += 1
        throw error
      }
    }),
  }
  return syncing
}

const HELD = 'legacy:'
const holdId = (ino: bigint): string => `${HELD}${ino}`

// Copying more than this would keep everybody else waiting for longer than the thread pool does.
const CACHED_READ_BYTES = 256 * 1024

type InPool = (body: () => Promise<number>) => Promise<number>

/** Reads until the buffer is full or the file ends. `inPool` runs what needs a thread of the pool. */
export async function readFully(
  descriptor: number,
  buffer: Buffer,
  position: number,
  inPool: InPool = (body) => whileGuarded(descriptor, body),
): Promise<number> {
  let done = 0
  if (buffer.length <= CACHED_READ_BYTES) {
    const { count, isAll } = readCached(descriptor, buffer, position)
    if (isAll) return count
    done = count
  }
  while (done < buffer.length) {
    const at = done
    const count = await inPool(
      () =>
        new Promise((resolve, reject) =>
          readCallback(descriptor, buffer, at, buffer.length - at, position + at, (error, bytes) =>
            error ? reject(error) : resolve(bytes),
          ),
        ),
    )
    if (count === 0) break
    done += count
  }
  return done
}

/** Writes all of it; on failure with some bytes written, says how many, as write(2) would. */
export async function writeFully(
  descriptor: number,
  data: Buffer,
  position: number,
  caller?: Caller,
): Promise<number> {
  const disk = diskOf(descriptor)
  let done = 0
  while (done < data.length) {
    try {
      if (disk) {
        done += await disk.write(descriptor, data.subarray(done), position + done, caller)
        continue
      }
      done += await new Promise<number>((resolve, reject) =>
        writeCallback(descriptor, data, done, data.length - done, position + done, (error, bytes) =>
          error ? reject(error) : resolve(bytes),
        ),
      )
    } catch (error) {
      if (done > 0) return done
      throw error
    }
  }
  return done
}
