import { nowNs } from '../base/clock.ts'
import type { KeyedMutex } from '../base/concurrency.ts'
import { FsError, isSystemError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { DIRTY_CONTENT, type Inode } from '../catalog/index.ts'
import { StoreError } from '../store/errors.ts'
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE } from '../sys/index.ts'
import { AllocatedBlocks } from './allocated.ts'
import { lengthOf } from './chunk-length.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import { requireSize } from './file-size.ts'
import type { LegacyFiles } from './legacy-files.ts'
import type { Reader } from './reader.ts'
import { Sealer } from './sealer.ts'
import type { StagedChunks } from './staged-chunks.ts'
import { StagedSyncs } from './staged-syncs.ts'
import type { Staging } from './staging.ts'
import { partOf } from './stored.ts'
import { withoutCapability } from './xattrs.ts'
import { dataOf } from './zeros.ts'

// Chunks dealt with in one turn of the event loop.
const CHUNKS_AT_ONCE = 64

/**
 * Changes content of files under the catalog's authority, in their staging files.
 *
 * Crash points of a write: chunks that were not staged are completed in the staging file first (base bytes, then the
 * new ones); only then one transaction lists them as staged, with the new size. Killed before it, the file is what it
 * was (recovery cuts the leftovers); killed after it, the write took place. Bytes of chunks that were staged already
 * change in place, as on any file system.
 */
export class Writer {
  readonly #context: ContentContext
  readonly #reader: Reader
  readonly #staging: Staging
  readonly #chunks: StagedChunks
  readonly #sealer: Sealer
  readonly #syncs: StagedSyncs
  readonly #locks: KeyedMutex<bigint>
  readonly #blocks: AllocatedBlocks

  constructor(
    context: ContentContext,
    parts: { reader: Reader; legacy: LegacyFiles; staging: Staging; chunks: StagedChunks },
  ) {
    this.#context = context
    this.#reader = parts.reader
    this.#staging = parts.staging
    this.#chunks = parts.chunks
    this.#locks = parts.chunks.turns
    this.#blocks = new AllocatedBlocks(context, parts)
    this.#sealer = new Sealer(context, this)
    this.#syncs = new StagedSyncs(context, parts)
  }

  /** @throws FsError ENOSPC at the staging limit, EIO if base bytes cannot be had */
  write(ino: bigint, offset: number, data: Buffer, signal?: AbortSignal): Promise<number> {
    const end = offset + data.length
    const change = async (): Promise<number> => {
      const apply = async (inode: Inode): Promise<void> => {
        await this.#staging.write(inode, data, offset)
        faultPoint('content.write.staged')
      }
      const first = Math.floor(offset / CHUNK_BYTES)
      const chunks = Array.from({ length: Math.ceil(end / CHUNK_BYTES) - first }, (_, nth) => first + nth)
      await this.#change(ino, { offset, end, chunks, apply }, signal, (inode) => {
        inode.size = Math.max(inode.size, end)
      })
      return data.length
    }
    return this.#exclusive(ino, change, offset)
  }

  /** Sets the size. Within the exclusive turn of the file. */
  truncate(ino: bigint, size: number, signal?: AbortSignal): Promise<void> {
    requireSize(size)
    return this.#exclusive(ino, async () => {
      const before = this.#require(ino)
      if (size >= before.size) {
        this.#commit(ino, size, [], (inode) => {
          inode.size = size
        })
        return
      }
      await this.#shrink(ino, size, signal)
      try {
        await this.#cut(ino)
      } catch (error) {
        // The file is short already. What its staging file has beyond goes before anything else is done to it.
        if (!(error instanceof FsError || isSystemError(error))) throw error
        this.#context.log.warn({ err: error, ino: ino.toString() }, 'a staging file is cut later')
      }
    })
  }

  /** The truncation as the catalog knows it: everything but the cut of the staging file, which is intended from then on. */
  async #shrink(ino: bigint, size: number, signal: AbortSignal | undefined): Promise<void> {
    const { catalog } = this.#context
    const limit = Math.ceil(size / CHUNK_BYTES)
    const boundary = Math.floor(size / CHUNK_BYTES)
    const isPart = size % CHUNK_BYTES !== 0
    const onBase = isPart && boundary < this.#require(ino).baseLimit
    const fresh = onBase && !catalog.staged.has(ino, boundary)
    if (isPart && catalog.staged.has(ino, boundary)) await this.#chunks.check(ino, boundary)
    try {
      if (onBase) {
        if (fresh) await this.#fill(ino, boundary, signal)
        this.#extend(this.#require(ino), size, boundary)
        // The transaction below may reach the medium by itself; what it relies on has to be there first.
        await this.#syncs.inTurn(ino)
      }
      catalog.transaction(() => {
        const inode = this.#require(ino)
        if (isPart && inode.staged && boundary < inode.baseLimit)
          catalog.staged.add(ino, boundary, size - boundary * CHUNK_BYTES)
        catalog.staged.drop(ino, limit)
        if (isPart) catalog.staged.shorten(ino, boundary, size - boundary * CHUNK_BYTES)
        this.#syncs.cut(ino, size)
        inode.baseLimit = Math.min(inode.baseLimit, limit)
        inode.size = size
        inode.truncating = inode.staged ? size : undefined
        if (!catalog.staged.hasRows(ino)) this.#giveUpFile(inode)
        this.#touch(inode)
      })
    } catch (error) {
      this.#undo(ino, fresh ? [boundary] : [])
      throw error
    }
    faultPoint('content.truncate.intended')
  }

  /** As fallocate(2) with these modes. @throws FsError EOPNOTSUPP for others */
  allocate(ino: bigint, mode: number, offset: number, length: number, signal?: AbortSignal): Promise<void> {
    const keepSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0
    const rest = mode & ~FALLOC_FL_KEEP_SIZE
    if (offset < 0 || length <= 0) throw new FsError('EINVAL')
    requireSize(offset + length)
    if (rest === FALLOC_FL_PUNCH_HOLE && keepSize) return this.#zero(ino, offset, length, true, signal)
    if (rest === FALLOC_FL_ZERO_RANGE) return this.#zero(ino, offset, length, keepSize, signal)
    if (rest !== 0) throw new FsError('EOPNOTSUPP')
    return this.#exclusive(ino, async () => {
      const end = offset + length
      this.#staging.reserve(length)
      if (keepSize || end <= this.#require(ino).size) return
      this.#commit(ino, end, [], (inode) => {
        inode.size = end
      })
    })
  }

  /**
   * Copies a chunk, the first by default, into the staging file, safe against power loss: what has its only bytes is about to
   * go, or to be replaced. @throws StoreError, FsError
   */
  async preserve(ino: bigint, signal?: AbortSignal, index = 0): Promise<void> {
    const { catalog } = this.#context
    const { version } = this.#require(ino)
    // Outside the file's turn: no application waits for the store because of this.
    const bytes = await this.#reader.baseChunk(ino, index, signal)
    await this.#exclusive(ino, async () => {
      const inode = this.#require(ino)
      if (catalog.staged.has(ino, index) || index >= inode.baseLimit || inode.version !== version) return
      this.#staging.reserve(CHUNK_BYTES)
      this.#ensureStagingFile(ino)
      const at = index * CHUNK_BYTES
      try {
        await this.#staging.write(inode, bytes.subarray(0, inode.size - at), at)
        this.#extend(inode, inode.size, index)
        await this.#syncs.inTurn(ino)
        faultPoint('content.preserve.written')
        catalog.transaction(() => {
          catalog.staged.add(ino, index, lengthOf(inode, index))
          catalog.staged.markSynced(ino, [{ index, bytes: lengthOf(inode, index) }])
        })
        this.#staging.markSound(ino, index)
      } catch (error) {
        this.#undo(ino, [index])
        throw error
      }
      faultPoint('content.preserve.committed')
      await catalog.flush()
    })
  }

  /** As `StagedSyncs.sync`. */
  sync(ino: bigint): Promise<void> {
    return this.#syncs.sync(ino)
  }

  /**
   * What is staged gets its checksums and goes to the medium, as a kernel writes back what nobody syncs.
   * @throws FsError EIO if it is damaged
   */
  async seal(ino: bigint): Promise<void> {
    await this.check(ino)
    await this.#locks.run(ino, () => this.#chunks.seal(ino))
    if (this.#context.catalog.staged.hasUnsynced(ino)) await this.sync(ino)
  }

  /** Every staged chunk of the file is what was staged. @throws FsError EIO */
  async check(ino: bigint): Promise<void> {
    for (const { index } of this.#context.catalog.staged.rows(ino)) {
      if (!this.#staging.isSound(ino, index)) await this.#chunks.checkOrRescue(ino, index)
      await giveWay()
    }
  }

  /** Makes the staging file as long as what it stands for. @throws FsError EIO if it is missing */
  extend(ino: bigint): void {
    const inode = this.#require(ino)
    this.#extend(inode, inode.size, -1)
  }

  /**
   * The staging file is as long as its chunks, the staged ones and the one at `index`, as far as a file of this size reaches:
   * so what it lacks is missing, and what was not written is zeros.
   */
  #extend(inode: Inode, size: number, index: number): void {
    if (this.#staging.lengthOf(inode) >= size) return
    const last = Math.max(index, this.#context.catalog.staged.last(inode.ino) ?? -1)
    if (last >= 0) this.#staging.extend(inode, Math.min(size, (last + 1) * CHUNK_BYTES))
  }

  /**
   * Takes away a staging file with nothing in it that a change left which found no room in the catalog to say so.
   * @throws FsError ENOSPC if there is still none
   */
  tidy(ino: bigint): Promise<void> {
    return this.#locks.run(ino, async () => {
      await this.#cut(ino)
      this.#leaveEmpty(ino)
    })
  }

  /** Ends what a crash cut short (recovery); the catalog has to be flushed. */
  recover(ino: bigint): void {
    while (!this.#dropLeftOver(ino)) continue
    this.#cutNow(ino)
    this.#leaveEmpty(ino)
    if (this.#context.catalog.get(ino)?.staged) this.#sealer.note(ino)
  }

  /** Nothing more is sealed. */
  stop(): void {
    this.#sealer.stop()
  }

  /**
   * Makes the staging file as short as the catalog says it has to be. Before it no byte beyond can be written. What is cut is
   * what a catalog from before the truncation lists, so that the file is short is flushed first.
   */
  async #cut(ino: bigint): Promise<void> {
    const { catalog } = this.#context
    if (catalog.get(ino)?.truncating === undefined) return
    await catalog.flush()
    while (!this.#dropLeftOver(ino)) {
      faultPoint('content.truncate.dropping')
      await giveWay()
    }
    const inode = catalog.get(ino)
    if (inode?.truncating !== undefined && inode.staged && this.#staging.isThere(inode))
      await this.#staging.cutByThread(inode, inode.truncating)
    this.#cutNow(ino)
    this.#leaveEmpty(ino)
  }

  /** Some of the rows that count for nothing since the truncation: false if there may be more. They are gone before the file is cut. */
  #dropLeftOver(ino: bigint): boolean {
    const { catalog } = this.#context
    const truncating = catalog.get(ino)?.truncating
    if (truncating === undefined) return true
    return catalog.transaction(() => catalog.staged.drop(ino, Math.ceil(truncating / CHUNK_BYTES)))
  }

  #cutNow(ino: bigint): void {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (inode?.truncating === undefined) return
    // One that is missing has nothing beyond; whoever needs what is lacking learns of it.
    if (inode.staged && this.#staging.isThere(inode)) this.#staging.cut(inode, inode.truncating)
    faultPoint('content.truncate.cut')
    catalog.transaction(() => {
      inode.truncating = undefined
      inode.blocks = this.#blocks.of(inode)
      catalog.save(inode)
    })
  }

  #zero(ino: bigint, offset: number, length: number, keepSize: boolean, signal?: AbortSignal): Promise<void> {
    return this.#exclusive(ino, async () => {
      const { size } = this.#require(ino)
      const wanted = offset + length
      const end = keepSize ? Math.min(wanted, size) : wanted
      for (let from = offset; from < end; ) {
        const { chunks, to } = this.#chunksToZero(ino, from, end)
        const start = from
        const apply = async (inode: Inode): Promise<void> => {
          this.#staging.punch(inode, start, to - start)
          faultPoint('content.allocate.punched')
        }
        const alter = (inode: Inode): void => {
          if (to === end) inode.size = Math.max(inode.size, end)
        }
        if (chunks.length > 0)
          await this.#change(ino, { offset: start, end: to, chunks, apply }, signal, alter)
        else if (to === end) this.#commit(ino, end, [], alter)
        from = to
        await giveWay()
      }
    })
  }

  /**
   * Chunks from an offset on that may have something in them: those that are staged, and those that the base has. As many as are
   * dealt with in one step, and where that ends; all others are holes already, and are not met, however many they are.
   */
  #chunksToZero(ino: bigint, from: number, end: number): { chunks: number[]; to: number } {
    const { catalog } = this.#context
    const inode = this.#require(ino)
    const chunks: number[] = []
    for (let index = Math.floor(from / CHUNK_BYTES); ; index += 1) {
      const found = [catalog.staged.next(ino, index), this.#reader.nextBaseChunk(inode, index)]
      index = Math.min(...found.map((chunk) => chunk ?? Number.POSITIVE_INFINITY))
      if (index * CHUNK_BYTES >= end) return { chunks, to: end }
      if (chunks.length === CHUNKS_AT_ONCE) return { chunks, to: index * CHUNK_BYTES }
      chunks.push(index)
    }
  }

  /**
   * Prepares the chunks of [offset, end) in the staging file, runs `apply` on it and commits with `alter`. If any of that
   * fails, the staging file holds nothing that the catalog does not list.
   */
  async #change(
    ino: bigint,
    change: {
      readonly offset: number
      readonly end: number
      /** All in which it changes anything. */
      readonly chunks: readonly number[]
      apply(inode: Inode): Promise<void>
    },
    signal: AbortSignal | undefined,
    alter: (inode: Inode) => void,
  ): Promise<void> {
    const { catalog } = this.#context
    const { offset, end, chunks } = change
    this.#ensureStagingFile(ino)
    const fresh: number[] = []
    const listed: number[] = []
    try {
      for (const index of chunks) {
        const { start, end: stop } = partOf(index, offset, end)
        const inode = this.#require(ino)
        if (catalog.staged.has(ino, index)) {
          listed.push(index)
          if (start > 0 || stop < lengthOf(inode, index)) await this.#chunks.check(ino, index)
          continue
        }
        fresh.push(index)
        this.#blocks.displace(inode, index)
        const length = Math.min(CHUNK_BYTES, inode.size - index * CHUNK_BYTES)
        const replaced = start === 0 && stop >= length
        this.#staging.reserve(stop - start)
        if (index < inode.baseLimit && !replaced) await this.#fill(ino, index, signal)
      }
      if (fresh.length === 0) this.#staging.reserve(0)
      this.#chunks.unseal(ino, listed)
      await change.apply(this.#require(ino))
      this.#commit(ino, end, chunks, alter)
    } catch (error) {
      this.#undo(ino, fresh)
      throw error
    }
  }

  /** After a change that failed: nothing beyond the file's size, nor in chunks that are not staged. */
  #undo(ino: bigint, fresh: readonly number[]): void {
    const inode = this.#context.catalog.get(ino)
    if (!inode?.staged) return
    for (const index of fresh) this.#staging.punch(inode, index * CHUNK_BYTES, CHUNK_BYTES)
    this.#staging.cut(inode, inode.size)
    try {
      this.#leaveEmpty(ino)
    } catch (error) {
      // No room in the catalog: the reaper has it tidied, or the next start.
      if (!(error instanceof FsError)) throw error
    }
  }

  /** A staging file with nothing in it, made for a change that did not take place, goes: the reaper would wait for it for ever. */
  #leaveEmpty(ino: bigint): void {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (!inode?.staged || inode.truncating !== undefined) return
    if (catalog.staged.next(ino, 0) !== undefined) return
    catalog.transaction(() => {
      this.#giveUpFile(inode)
      catalog.save(inode)
    })
  }

  /** In a transaction that saves the inode: nothing is staged, so the staging file goes. */
  #giveUpFile(inode: Inode): void {
    const { staged } = inode
    inode.staged = 0
    inode.truncating = undefined
    this.#context.catalog.afterCommit(() => this.#staging.release(inode, staged))
  }

  /** Copies an unstaged chunk's base bytes into the staging file; the catalog does not list it yet. */
  async #fill(ino: bigint, index: number, signal: AbortSignal | undefined): Promise<void> {
    this.#ensureStagingFile(ino)
    this.#staging.reserve(CHUNK_BYTES)
    try {
      const bytes = await this.#reader.baseChunk(ino, index, signal)
      const inode = this.#require(ino)
      const length = Math.max(0, Math.min(bytes.length, inode.size - index * CHUNK_BYTES))
      // What is zeros is a hole there already.
      for (const { start, end } of dataOf(bytes.subarray(0, length))) {
        await this.#staging.write(inode, bytes.subarray(start, end), index * CHUNK_BYTES + start)
      }
      faultPoint('content.write.filled')
    } catch (error) {
      if (error instanceof StoreError)
        throw new FsError('EIO', 'the store did not give the content', { cause: error })
      throw error
    }
  }

  #ensureStagingFile(ino: bigint): void {
    const { catalog } = this.#context
    let made = 0
    try {
      catalog.transaction(() => {
        const inode = this.#require(ino)
        if (inode.staged) return
        made = this.#staging.create(inode)
        inode.staged = made
        catalog.save(inode)
      })
    } catch (error) {
      if (made > 0) this.#staging.abandon(this.#require(ino), made)
      throw error
    }
    faultPoint('content.write.begun')
  }

  /** The one transaction after which the change is there. `chunks`: those that it has to list as staged. */
  #commit(ino: bigint, end: number, chunks: readonly number[], alter: (inode: Inode) => void): void {
    const { catalog } = this.#context
    const before = this.#require(ino)
    if (before.staged) {
      this.#extend(before, Math.max(before.size, end), chunks.at(-1) ?? -1)
    }
    catalog.transaction(() => {
      const inode = this.#require(ino)
      for (const index of chunks) {
        catalog.staged.add(ino, index, lengthOf(inode, index))
        this.#staging.markSound(ino, index)
      }
      alter(inode)
      this.#touch(inode)
    })
    this.#sealer.note(ino)
  }

  #touch(inode: Inode): void {
    const { catalog } = this.#context
    const now = nowNs()
    inode.mtimeNs = now
    inode.ctimeNs = now
    inode.blocks = this.#blocks.of(inode)
    inode.dirty |= DIRTY_CONTENT
    inode.xattrs = withoutCapability(inode.xattrs)
    catalog.save(inode)
    if (!inode.orphan && !catalog.outbox.find('upload', inode.ino)) catalog.outbox.add('upload', inode.ino)
  }

  /** @param from as `Activity.during` has it */
  #exclusive<T>(ino: bigint, body: () => Promise<T>, from = 0): Promise<T> {
    const change = async (): Promise<T> => {
      // Within the change: from here on no upload is recorded that leaves the file with something to cut.
      await this.#cut(ino)
      this.#blocks.begin(ino)
      try {
        return await body()
      } finally {
        this.#blocks.end(ino)
      }
    }
    return this.#locks.run(ino, () => this.#context.activity.during(ino, change, from))
  }

  #require(ino: bigint): Inode {
    const inode = this.#context.catalog.get(ino)
    if (!inode) throw new FsError('ESTALE', `inode ${ino} is gone`)
    return inode
  }
}
