import { isRegular } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { type Inode, isStored } from '../catalog/index.ts'
import { StoreCorrupt, StoreError } from '../store/errors.ts'
import type { Stat } from '../sys/index.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount, type ReadCounters } from './context.ts'
import type { LegacyFiles } from './legacy-files.ts'
import { renew } from './renewal.ts'
import { type DataRun, Seeker } from './seek.ts'
import type { StagedChunks } from './staged-chunks.ts'
import { ReadPlaces } from './read-places.ts'
import type { Staging } from './staging.ts'
import { partOf, type StoredContent } from './stored.ts'
import { giveBack, legacyStat, matches } from './takeover.ts'

// How often a read starts over because the chunk it was after moved to another place meanwhile.
const ATTEMPTS = 5

/** The bytes of a file from wherever they are, as the policy prefers. */
export class Reader {
  readonly #context: ContentContext
  readonly #legacy: LegacyFiles
  readonly #staging: Staging
  readonly #chunks: StagedChunks
  readonly #stored: StoredContent
  readonly #seeker: Seeker
  readonly #counters: ReadCounters
  readonly #places = new ReadPlaces()

  constructor(
    context: ContentContext,
    parts: {
      legacy: LegacyFiles
      staging: Staging
      chunks: StagedChunks
      stored: StoredContent
      counters: ReadCounters
    },
  ) {
    this.#context = context
    this.#legacy = parts.legacy
    this.#staging = parts.staging
    this.#chunks = parts.chunks
    this.#stored = parts.stored
    this.#seeker = new Seeker(context, parts)
    this.#counters = parts.counters
  }

  /** Bytes [offset, offset + size) as far as the file goes. @throws FsError */
  async read(ino: bigint, offset: number, size: number, signal?: AbortSignal): Promise<Buffer> {
    const inode = this.#require(ino)
    this.#places.note(ino, offset, offset + size)
    if (inode.authority === 'catalog') return this.#readOwn(ino, offset, size, signal)
    if (this.#context.policy().readFrom === 'store' && isStored(inode) && this.#isCurrent(inode)) {
      const bytes = await this.#readEither(inode, offset, size, signal)
      if (bytes) return bytes
      // Meanwhile the catalog may have taken the file over.
      if (this.#require(ino).authority === 'catalog') return this.#readOwn(ino, offset, size, signal)
    }
    return this.#readLegacy(ino, offset, size)
  }

  /**
   * From the store, or from the volume as well where that takes long: both have the same bytes as of now. What is written meanwhile
   * is on the volume, so its answer is never older than anything that was read since this read began; nor is the store's older than
   * when it began. All of one answer or all of the other. `undefined` where the store has none.
   */
  async #readEither(
    inode: Inode,
    offset: number,
    size: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | undefined> {
    const { ino } = inode
    const enough = new AbortController()
    const signals = signal ? [signal, enough.signal] : [enough.signal]
    const fromStore = this.#readCurrent(inode, offset, size, AbortSignal.any(signals))
    const { patience } = this.#stored
    const objects = Math.max(
      1,
      chunkCount(Math.min(offset + size, inode.storedSize)) - Math.floor(offset / CHUNK_BYTES),
    )
    if (await isSettledWithin(objects * patience.milliseconds, fromStore)) return fromStore
    patience.spent()
    // What was taken over meanwhile is not to be had from the volume.
    if (this.#require(ino).authority !== 'legacy') return fromStore
    let isAnswered = false
    const fromVolume = this.#readLegacy(ino, offset, size).then((bytes) => {
      if (isAnswered) return bytes
      this.#counters.overtaken += 1
      enough.abort(new FsError('EIO', 'the volume was faster'))
      return bytes
    })
    const first = fromStore.then((bytes) => {
      if (bytes) isAnswered = true
      return bytes ?? fromVolume
    })
    return Promise.any([fromVolume, first]).catch((error: unknown) => {
      throw error instanceof AggregateError ? error.errors[0] : error
    })
  }

  /**
   * One chunk of a file under the catalog's authority, padded to the chunk's full length within the file.
   * @throws FsError, StoreError
   */
  async chunk(ino: bigint, index: number, signal?: AbortSignal): Promise<Buffer> {
    const inode = this.#require(ino)
    const length = Math.min(CHUNK_BYTES, inode.size - index * CHUNK_BYTES)
    if (length <= 0) return Buffer.alloc(0)
    return this.#piece(ino, index, 0, length, signal)
  }

  /**
   * The bytes that an unstaged chunk has from its base, at most a chunk long; short where the base ends.
   * @throws FsError, StoreError
   */
  async baseChunk(ino: bigint, index: number, signal?: AbortSignal): Promise<Buffer> {
    const inode = this.#require(ino)
    if (index >= inode.baseLimit) return Buffer.alloc(0)
    if (inode.base === 'store') {
      if (index >= chunkCount(inode.storedSize)) return Buffer.alloc(0)
      return this.#storedOrLegacy(inode, index, signal)
    }
    if (inode.base === 'legacy') return this.#legacyChunk(inode, index)
    return Buffer.alloc(0)
  }

  /**
   * What the unstaged bytes of a file of the catalog's come from is still there, as it was recorded.
   * @throws FsError EIO if it is not; others if the volume does not answer
   */
  async requireBase(ino: bigint): Promise<void> {
    const inode = this.#require(ino)
    const { authority, base, baseLimit, mode } = inode
    if (authority !== 'catalog' || base !== 'legacy' || baseLimit === 0 || !isRegular(mode)) return
    try {
      await this.#legacyChunk(inode, 0)
    } catch (error) {
      // Meanwhile it may have been given back, stored or removed: nothing of it comes from there then.
      const now = this.#context.catalog.get(ino)
      if (now && !now.orphan && now.authority === 'catalog' && now.base === 'legacy') throw error
    }
  }

  /** As lseek(2) with SEEK_DATA or SEEK_HOLE. @throws FsError ENXIO past the end */
  seek(ino: bigint, offset: number, whence: number): Promise<number> {
    return this.#seeker.seek(ino, offset, whence)
  }

  /** The file's data from an offset on, ascending, wherever it is; all between is holes. @throws FsError */
  dataRuns(ino: bigint, from = 0): AsyncGenerator<DataRun> {
    return this.#seeker.dataRuns(ino, from)
  }

  /** The first chunk from an index on that has, or may have, data in the file's base. */
  nextBaseChunk(inode: Inode, index: number): number | undefined {
    return this.#seeker.nextBaseChunk(inode, index)
  }

  /** The file of the catalog's has, or may have, bytes that are not zeros. */
  mayHaveData(inode: Inode): boolean {
    return this.#seeker.mayHaveData(inode)
  }

  #require(ino: bigint): Inode {
    const inode = this.#context.catalog.get(ino)
    if (!inode) throw new FsError('ESTALE', `inode ${ino} is gone`)
    return inode
  }

  /**
   * Whether the store's copy is what the legacy volume has. A volume that cannot answer is no reason to refuse what the
   * catalog knows to be current.
   */
  #isCurrent(inode: Inode): boolean {
    try {
      const stat = this.#legacy.isHeld(inode.ino)
        ? this.#legacy.statOpen(inode.ino)
        : legacyStat(this.#context, inode)
      return matches(inode.fingerprint, stat)
    } catch (error) {
      return error instanceof FsError && error.code === 'EIO'
    }
  }

  /** From the store, or `undefined` where the legacy file has to serve. */
  async #readCurrent(
    inode: Inode,
    offset: number,
    size: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | undefined> {
    const end = Math.min(offset + size, inode.storedSize)
    if (offset >= end) return Buffer.alloc(0)
    const { version } = inode
    const parts: Buffer[] = []
    try {
      for (let index = Math.floor(offset / CHUNK_BYTES); index * CHUNK_BYTES < end; index += 1) {
        const now = this.#require(inode.ino)
        if (now.version !== version || now.dirty !== 0 || now.authority !== 'legacy') return undefined
        const { start, end: stop } = partOf(index, offset, end)
        parts.push(await this.#stretch(now, index, { start, end: stop }, signal))
      }
    } catch (error) {
      if (!(error instanceof StoreError || error instanceof FsError)) throw error
      if (signal?.aborted) return undefined
      this.#context.log.warn(
        { err: error, ino: inode.ino.toString() },
        'read from the legacy file instead of the store',
      )
      if (error instanceof StoreCorrupt) renew(this.#context, inode.ino)
      return undefined
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)
  }

  /** Bytes [start, end) of a stored chunk: all of it is fetched, and the next one, where what follows will be wanted. */
  async #stretch(
    inode: Inode,
    index: number,
    { start, end }: { readonly start: number; readonly end: number },
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const goesOn = this.#places.goesOn(inode.ino)
    const part = goesOn ? undefined : await this.#stored.part(inode, index, start, end)
    if (part) return part
    const bytes = await this.#stored.chunk(inode, index, signal)
    if (goesOn) this.#stored.prefetch(inode, index + 1)
    return bytes.subarray(start, end)
  }

  async #readLegacy(ino: bigint, offset: number, size: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(size)
    this.#counters.legacy += 1
    const length = await this.#legacy.read(ino, buffer, offset, 'application')
    return buffer.subarray(0, length)
  }

  async #readOwn(
    ino: bigint,
    offset: number,
    size: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const end = Math.min(offset + size, this.#require(ino).size)
    if (offset >= end) return Buffer.alloc(0)
    const parts: Buffer[] = []
    for (let index = Math.floor(offset / CHUNK_BYTES); index * CHUNK_BYTES < end; index += 1) {
      const { start, end: stop } = partOf(index, offset, end)
      try {
        const piece = await this.#piece(ino, index, start, stop, signal)
        parts.push(piece)
        if (piece.length < stop - start) break
      } catch (error) {
        if (error instanceof StoreError)
          throw new FsError('EIO', 'the store did not give the content', { cause: error })
        throw error
      }
    }
    const bytes = parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)
    // Cut short meanwhile: what was read beyond its new end was never in the file.
    const { size: left } = this.#require(ino)
    return bytes.subarray(0, Math.max(0, left - offset))
  }

  /** Bytes [start, end) of one chunk, zeros where nothing is. Starts over if the chunk moved while it was fetched. */
  async #piece(
    ino: bigint,
    index: number,
    start: number,
    end: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { catalog } = this.#context
    for (let attempt = 1; ; attempt += 1) {
      const inode = this.#require(ino)
      if (inode.authority === 'legacy') return this.#readLegacy(ino, index * CHUNK_BYTES + start, end - start)
      if (catalog.staged.has(ino, index)) {
        if (!this.#staging.isSound(ino, index)) {
          await this.#chunks.checkOrRescue(ino, index)
          continue
        }
        this.#counters.staging += 1
        const piece = Buffer.alloc(end - start)
        await this.#staging.read(inode, piece, index * CHUNK_BYTES + start)
        return piece
      }
      const { base, version } = inode
      try {
        const goesOn = this.#places.goesOn(ino)
        const part = goesOn ? undefined : await this.#basePart(inode, index, start, end)
        if (part) return part
        const bytes = await this.baseChunk(ino, index, signal)
        if (base === 'store' && goesOn) this.#stored.prefetch(this.#require(ino), index + 1)
        if (bytes.length >= end) return bytes.subarray(start, end)
        const padded = Buffer.alloc(end - start)
        if (start < bytes.length) bytes.copy(padded, 0, start, Math.min(end, bytes.length))
        return padded
      } catch (error) {
        const now = this.#require(ino)
        const moved =
          now.version !== version ||
          now.base !== base ||
          now.authority !== 'catalog' ||
          // Given back, and taken over anew.
          now.fingerprint?.ctimeNs !== inode.fingerprint?.ctimeNs ||
          catalog.staged.has(ino, index)
        if (!moved || attempt === ATTEMPTS) throw error
      }
    }
  }

  /** Bytes of a chunk that is in the store and nowhere else, where they are at hand without the others. */
  async #basePart(inode: Inode, index: number, start: number, end: number): Promise<Buffer | undefined> {
    if (inode.base !== 'store' || index >= Math.min(inode.baseLimit, chunkCount(inode.storedSize)))
      return undefined
    return this.#stored.part(inode, index, start, end)
  }

  /**
   * A chunk of the store's version; where the store fails, the legacy copy that has not been removed yet, if it is
   * still what was copied.
   */
  async #storedOrLegacy(inode: Inode, index: number, signal: AbortSignal | undefined): Promise<Buffer> {
    try {
      return await this.#stored.chunk(inode, index, signal)
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      const now = this.#require(inode.ino)
      if (now.legacyIno === undefined || now.fingerprint === undefined || !this.#context.legacy()) throw error
      try {
        const bytes = await this.#legacyChunk(now, index)
        this.#context.log.warn({ err: error, ino: now.ino.toString() }, 'read from the remaining legacy copy')
        if (error instanceof StoreCorrupt) renew(this.#context, now.ino)
        return bytes
      } catch {
        throw error
      }
    }
  }

  /** A chunk of the legacy base. @throws FsError EIO if the file is gone, or is not the one that was recorded */
  async #legacyChunk(inode: Inode, index: number): Promise<Buffer> {
    const { ino, fingerprint } = inode
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
    this.#counters.legacy += 1
    let length: number
    let stat: Stat
    try {
      length = await this.#legacy.read(ino, buffer, index * CHUNK_BYTES)
      stat = this.#legacy.statOpen(ino)
    } catch (cause) {
      // The name is the overlay's, and is there.
      if (!(cause instanceof FsError && (cause.code === 'ENOENT' || cause.code === 'ESTALE'))) throw cause
      throw new FsError('EIO', `the legacy copy of inode ${ino} is gone: ${cause.message}`, { cause })
    }
    if (matches(fingerprint, stat)) return buffer.subarray(0, length)
    const now = this.#require(ino)
    if (
      now.base === 'legacy' &&
      !now.staged &&
      matches(now.fingerprint, stat) === false &&
      now.legacyIno !== undefined
    ) {
      this.#context.log.warn(
        { ino: ino.toString() },
        'the legacy file was changed past the overlay; it is newer and wins',
      )
      giveBack(this.#context, ino)
    }
    throw new FsError('EIO', `the legacy copy of inode ${ino} was changed past the overlay`)
  }
}

async function isSettledWithin(milliseconds: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds)
  })
  const settled = promise.then(
    () => true,
    () => true,
  )
  try {
    return await Promise.race([settled, late])
  } finally {
    clearTimeout(timer)
  }
}
