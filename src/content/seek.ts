import { FsError } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import { BLOCK_BYTES, type Inode } from '../catalog/index.ts'
import { SEEK_DATA, SEEK_HOLE } from '../sys/index.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import type { LegacyFiles } from './legacy-files.ts'
import type { StagedChunks } from './staged-chunks.ts'
import type { Staging } from './staging.ts'
import { matches } from './takeover.ts'

type Whence = typeof SEEK_DATA | typeof SEEK_HOLE

/** A range of a file that holds data, in bytes; `end` is the first byte behind it. */
export interface DataRun {
  readonly start: number
  readonly end: number
}

// Of a run of staged chunks, so that a turn is short (P6).
const CHUNKS_AT_ONCE = 1024

/** Where the bytes of a stretch are. `unseen`: one staged chunk that nobody has looked at since an earlier process staged it. */
interface Span {
  readonly place: 'staged' | 'unseen' | 'base'
  readonly end: number
}

/**
 * Where a file has data and where it has holes, wherever its bytes are. Invariant (P1): what is called a hole reads as zeros, so
 * nothing is called one that reading would find missing or changed. It is called data, not answered with an error: a program that
 * cannot seek goes on to look for zeros itself, and GNU tar then takes a read that fails for the end of all data. Whoever reads what
 * is called data learns of it. The time follows the number of runs of data on the way, never the size.
 */
export class Seeker {
  readonly #context: ContentContext
  readonly #legacy: LegacyFiles
  readonly #staging: Staging
  readonly #chunks: StagedChunks

  constructor(
    context: ContentContext,
    parts: { legacy: LegacyFiles; staging: Staging; chunks: StagedChunks },
  ) {
    this.#context = context
    this.#legacy = parts.legacy
    this.#staging = parts.staging
    this.#chunks = parts.chunks
  }

  /**
   * Offset of the next data or hole at or after `offset`; what may have been data, and is missing, counts as data. Outside the
   * file's turn.
   * @throws FsError ENXIO past the end, and where no data follows; EIO where the volume does not say how long the file is
   */
  async seek(ino: bigint, offset: number, whence: number): Promise<number> {
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError('EINVAL')
    for (let at = offset; ; ) {
      const inode = this.#context.catalog.get(ino)
      if (!inode) throw new FsError('ESTALE', `inode ${ino} is gone`)
      if (inode.authority === 'legacy') return this.#onVolume(inode, at, whence)
      if (at < 0 || offset >= inode.size) throw new FsError('ENXIO')
      if (at >= inode.size) return whence === SEEK_HOLE ? inode.size : defined(undefined)
      const { place, end } = this.#span(inode, at)
      if (place === 'unseen' && whence === SEEK_DATA) {
        if (!(await this.#isWhole(ino, Math.floor(at / CHUNK_BYTES)))) return at
        continue
      }
      const found = this.#inSpan(inode, place, at, whence)
      if (found !== undefined && found < end) return found
      at = end
      await giveWay()
    }
  }

  /** The file's data from an offset on, ascending; what lies between two of them is a hole. @throws FsError */
  async *dataRuns(ino: bigint, from = 0): AsyncGenerator<DataRun> {
    for (let at = from; ; ) {
      const start = await this.#orNone(ino, at, SEEK_DATA)
      if (start === undefined) return
      // Cut short in between: what is left up to there is all there was.
      const end = await this.#orNone(ino, start, SEEK_HOLE)
      if (end === undefined) return
      yield { start, end }
      at = end
    }
  }

  /** The first chunk from an index on that has, or may have, data in the base of a file of the catalog's. */
  nextBaseChunk(inode: Inode, index: number): number | undefined {
    const limit = inode.base === 'none' ? 0 : inode.baseLimit
    if (index >= limit) return undefined
    const at = index * CHUNK_BYTES
    const found =
      inode.base === 'legacy' ? this.#inLegacy(inode, at, SEEK_DATA) : this.#inStore(inode, at, SEEK_DATA)
    const chunk = found === undefined ? limit : Math.floor(found / CHUNK_BYTES)
    return chunk < limit ? chunk : undefined
  }

  /** The file has, or may have, bytes that are not zeros: it is not one hole. */
  mayHaveData(inode: Inode): boolean {
    if (inode.size === 0) return false
    return (
      this.#context.catalog.staged.next(inode.ino, 0) !== undefined ||
      this.nextBaseChunk(inode, 0) !== undefined
    )
  }

  async #orNone(ino: bigint, offset: number, whence: Whence): Promise<number | undefined> {
    try {
      return await this.seek(ino, offset, whence)
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENXIO') return undefined
      throw error
    }
  }

  /** The stretch from `at` on whose bytes are in one place, as far as one look tells. */
  #span({ ino, size }: Inode, at: number): Span {
    const first = Math.floor(at / CHUNK_BYTES)
    const run = this.#context.catalog.staged.run(ino, first)
    if (!run.staged) return { place: 'base', end: Math.min(size, run.end * CHUNK_BYTES) }
    let next = first
    const limit = Math.min(run.end, first + CHUNKS_AT_ONCE)
    while (next < limit && this.#staging.isSound(ino, next)) next += 1
    const place = next === first ? 'unseen' : 'staged'
    return { place, end: Math.min(size, Math.max(next, first + 1) * CHUNK_BYTES) }
  }

  /** A staged chunk that nobody has looked at yet is what was staged. */
  async #isWhole(ino: bigint, index: number): Promise<boolean> {
    try {
      await this.#chunks.checkOrRescue(ino, index)
      return true
    } catch (error) {
      if (error instanceof FsError) return false
      throw error
    }
  }

  /** Of a file of the volume's, which says itself. */
  #onVolume(inode: Inode, at: number, whence: Whence): number {
    try {
      return defined(this.#legacy.seek(inode.ino, at, whence))
    } catch (error) {
      // Nobody knows where its data is, if any is left; its size is remembered.
      const fails = error instanceof FsError && error.code === 'EIO'
      if (!fails || at < 0 || at >= inode.size) throw error
      return whence === SEEK_DATA ? at : inode.size
    }
  }

  #inSpan(inode: Inode, place: Span['place'], at: number, whence: Whence): number | undefined {
    // SEEK_DATA has looked at it by now; to SEEK_HOLE it is data, which it may be.
    if (place === 'unseen') return undefined
    return place === 'staged' ? this.#inStaging(inode, at, whence) : this.#inBase(inode, at, whence)
  }

  #inStaging(inode: Inode, at: number, whence: Whence): number | undefined {
    let found: number | undefined
    try {
      found = this.#staging.seek(inode, at, whence)
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      return whence === SEEK_DATA ? at : undefined
    }
    // Beyond the end of the staging file the rest of the file is a hole.
    return found ?? (whence === SEEK_HOLE ? at : undefined)
  }

  /** In an unstaged stretch: what the base has below the limit, a hole from there on. */
  #inBase(inode: Inode, at: number, whence: Whence): number | undefined {
    const limit = inode.base === 'none' ? 0 : inode.baseLimit * CHUNK_BYTES
    if (at < limit) {
      const found =
        inode.base === 'legacy' ? this.#inLegacy(inode, at, whence) : this.#inStore(inode, at, whence)
      if (found !== undefined && found < limit) return found
    }
    return whence === SEEK_HOLE ? Math.max(at, limit) : undefined
  }

  #inLegacy(inode: Inode, at: number, whence: Whence): number | undefined {
    try {
      const found = this.#legacy.seek(inode.ino, at, whence)
      if (matches(inode.fingerprint, this.#legacy.statOpen(inode.ino))) return found
    } catch (error) {
      if (!(error instanceof FsError)) throw error
    }
    // The volume cannot tell, or has another file there by now: there may have been data, and reading finds out.
    return whence === SEEK_DATA ? at : undefined
  }

  #inStore(inode: Inode, at: number, whence: Whence): number | undefined {
    const { storedSize } = inode
    if (at >= storedSize) return whence === SEEK_HOLE ? at : undefined
    const { content } = this.#context.catalog
    const block = Math.floor(at / BLOCK_BYTES)
    const found = whence === SEEK_DATA ? content.nextData(inode, block) : content.nextHole(inode, block)
    if (found * BLOCK_BYTES < storedSize) return Math.max(at, found * BLOCK_BYTES)
    return whence === SEEK_HOLE ? storedSize : undefined
  }
}

function defined(offset: number | undefined): number {
  if (offset === undefined) throw new FsError('ENXIO')
  return offset
}
