import { BLOCK_BYTES, type Inode, isChunked } from '../catalog/index.ts'
import { FsError } from '../base/errors.ts'
import { SEEK_DATA, SEEK_HOLE } from '../sys/index.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import type { LegacyFiles } from './legacy-files.ts'
import type { Staging } from './staging.ts'
import { dataBlocks } from './zeros.ts'

// st_blocks counts in these.
const UNIT_BYTES = 512

// Of the volume's file, in one chunk. What is behind them is not taken off: too many blocks do no harm.
const RUNS_LOOKED_AT = 16

/**
 * The blocks (st_blocks of stat(2)) of a file whose content changes: what comes to its staging file, less what that takes the place of
 * in its base. Where either is not known exactly the file has rather more than less: tar takes a file without blocks for one hole.
 */
export class AllocatedBlocks {
  readonly #context: ContentContext
  readonly #legacy: LegacyFiles
  readonly #staging: Staging
  // During a change: staging bytes that the inode's blocks include, and base blocks that the change replaces.
  readonly #counted = new Map<bigint, number>()
  readonly #displaced = new Map<bigint, number>()

  constructor(context: ContentContext, parts: { legacy: LegacyFiles; staging: Staging }) {
    this.#context = context
    this.#legacy = parts.legacy
    this.#staging = parts.staging
  }

  /** The file is about to change, and nobody else changes it until `end`. */
  begin(ino: bigint): void {
    this.#counted.set(ino, this.#staging.bytesOf(ino))
    this.#displaced.set(ino, 0)
  }

  end(ino: bigint): void {
    this.#counted.delete(ino)
    this.#displaced.delete(ino)
  }

  /** The change takes the place of a chunk that was not staged. */
  displace(inode: Inode, index: number): void {
    const { ino } = inode
    this.#displaced.set(ino, (this.#displaced.get(ino) ?? 0) + this.#ofBase(inode, index))
  }

  /** What the file has by now. Holes count nothing. */
  of(inode: Inode): number {
    const staged = this.#staging.bytesOf(inode.ino)
    const grown = staged - (this.#counted.get(inode.ino) ?? staged)
    this.#counted.set(inode.ino, staged)
    const displaced = this.#displaced.get(inode.ino) ?? 0
    this.#displaced.set(inode.ino, 0)
    const blocks = inode.blocks + grown / UNIT_BYTES - displaced
    const most = Math.ceil(inode.size / BLOCK_BYTES) * (BLOCK_BYTES / UNIT_BYTES)
    return Math.max(staged / UNIT_BYTES, Math.min(blocks, most), 0)
  }

  /** Blocks that an unstaged chunk has in its base. */
  #ofBase(inode: Inode, index: number): number {
    if (index >= inode.baseLimit || inode.base === 'none') return 0
    if (inode.base === 'legacy') return this.#ofLegacy(inode, index)
    const { content } = this.#context.catalog
    if (isChunked(inode) && !content.chunk(inode, index)) return 0
    const length = Math.min(CHUNK_BYTES, Math.max(0, inode.storedSize - index * CHUNK_BYTES))
    const zeros = content.zeros(inode.generation, index)
    return (dataBlocks(zeros, Math.ceil(length / BLOCK_BYTES)) * BLOCK_BYTES) / UNIT_BYTES
  }

  #ofLegacy({ ino, size }: Inode, index: number): number {
    const end = Math.min(size, (index + 1) * CHUNK_BYTES)
    const first = index * CHUNK_BYTES
    let bytes = 0
    try {
      let at = first
      for (let run = 0; run < RUNS_LOOKED_AT; run += 1) {
        const start = this.#legacy.seek(ino, at, SEEK_DATA)
        if (start === undefined || start >= end) break
        at = Math.min(this.#legacy.seek(ino, start, SEEK_HOLE) ?? end, end)
        bytes += at - start
      }
    } catch (error) {
      // A volume that cannot tell, or does not answer.
      if (!(error instanceof FsError)) throw error
    }
    const blocks = first + bytes === end ? Math.ceil(bytes / BLOCK_BYTES) : Math.floor(bytes / BLOCK_BYTES)
    return (blocks * BLOCK_BYTES) / UNIT_BYTES
  }
}
