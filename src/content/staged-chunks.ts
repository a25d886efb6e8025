import { KeyedMutex } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import type { Inode, StagedChunk } from '../catalog/index.ts'
import { lengthOf } from './chunk-length.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import { bytesFromStore } from './rescue.ts'
import { matchesSums, sumsOf } from './staged-sums.ts'
import type { Staging } from './staging.ts'

/**
 * Whether staged chunks are what was staged. A chunk that an earlier process staged is looked at before its bytes are served,
 * uploaded or changed: what is missing, short or rotten is an error, never zeros. Checksums are taken when a file has been
 * quiet for a while (`seal`), and are given up, committed, before the chunk is changed (`unseal`).
 */
export class StagedChunks {
  readonly #context: ContentContext
  readonly #staging: Staging
  /** One change of a file's staged bytes at a time. */
  readonly turns = new KeyedMutex<bigint>()
  constructor(context: ContentContext, staging: Staging) {
    this.#context = context
    this.#staging = staging
  }

  /** Within the file's turn. @throws FsError EIO if the chunk's bytes are not there, or not what they were */
  async check(ino: bigint, index: number): Promise<void> {
    const flaw = await this.#find(ino, index)
    if (flaw !== undefined) throw this.#failed(ino, index, flaw)
  }

  /** Outside the file's turn: as `check`, or else what the store has of the very same state is taken. @throws FsError EIO */
  async checkOrRescue(ino: bigint, index: number): Promise<void> {
    if ((await this.#find(ino, index)) === undefined) return
    // Perhaps it was being cut just then.
    const flaw = await this.turns.run(ino, () => this.#find(ino, index))
    if (flaw !== undefined && !(await this.#rescue(ino, index))) throw this.#failed(ino, index, flaw)
  }

  /** What is wrong with the chunk, as far as nobody changes it meanwhile. */
  async #find(ino: bigint, index: number): Promise<string | undefined> {
    const { catalog } = this.#context
    for (;;) {
      const inode = catalog.get(ino)
      const row = catalog.staged.get(ino, index)
      if (!inode || !row || this.#staging.isSound(ino, index)) return undefined
      const { staged } = inode
      const flaw = await this.#flawOf(inode, index, row)
      const now = catalog.staged.get(ino, index)
      // Changed while it was read.
      if (catalog.get(ino)?.staged !== staged || !now || !isSame(now, row)) continue
      if (flaw === undefined) this.#staging.markSound(ino, index)
      return flaw
    }
  }

  async #rescue(ino: bigint, index: number): Promise<boolean> {
    const { catalog, log } = this.#context
    const before = catalog.get(ino)
    const bytes = before && (await bytesFromStore(this.#context, before, index))
    if (!bytes) return false
    const { mtimeNs, size } = before
    return this.turns.run(ino, async () => {
      const inode = catalog.get(ino)
      // Changed meanwhile: what the store has is not that any more.
      if (!inode || inode.mtimeNs !== mtimeNs || inode.size !== size || !catalog.staged.has(ino, index))
        return false
      if (!this.#staging.isThere(inode)) catalog.transaction(() => this.#replaceFile(inode))
      this.unseal(ino, [index])
      await this.#staging.write(inode, bytes, index * CHUNK_BYTES)
      this.#staging.markSound(ino, index)
      log.warn(
        { ino: ino.toString(), index },
        'staged bytes were lost; the store has them, and gave them back',
      )
      return true
    })
  }

  /** In a transaction: a new staging file in the place of one that is missing. */
  #replaceFile(inode: Inode): void {
    inode.staged = this.#staging.create(inode)
    inode.failure = undefined
    this.#context.catalog.save(inode)
  }

  /** The chunks are about to be changed: a crash meanwhile must not make them look rotten. */
  unseal(ino: bigint, indexes: readonly number[]): void {
    const { catalog } = this.#context
    const sealed = indexes.filter((index) => catalog.staged.get(ino, index)?.sums !== undefined)
    if (sealed.length > 0) catalog.transaction(() => catalog.staged.unseal(ino, sealed))
  }

  /** Takes checksums of the chunks that have none. Within the exclusive turn of the file. @throws FsError EIO */
  async seal(ino: bigint): Promise<void> {
    const { catalog } = this.#context
    for (let next = catalog.staged.nextUnsealed(ino, 0); next !== undefined; ) {
      const index = next
      next = catalog.staged.nextUnsealed(ino, index + 1)
      await giveWay()
      await this.check(ino, index)
      const inode = catalog.get(ino)
      if (!inode || !catalog.staged.get(ino, index)) continue
      const { staged } = inode
      const sums = sumsOf(await this.#bytesOf(inode, index))
      await catalog.shared(() => {
        if (catalog.get(ino)?.staged === staged) catalog.staged.seal(ino, index, sums)
      })
    }
  }

  async #flawOf(inode: Inode, index: number, row: StagedChunk): Promise<string | undefined> {
    const length = lengthOf(inode, index)
    let bytes: Buffer
    try {
      bytes = await this.#bytesOf(inode, index)
    } catch (error) {
      if (error instanceof FsError && error.code === 'EIO') return error.message
      throw error
    }
    if (bytes.length < length) return `${length - bytes.length} staged bytes are missing`
    if (row.sums === undefined) {
      return row.cut && row.synced === 0
        ? 'the power loss took staged bytes that nobody had synced'
        : undefined
    }
    if (matchesSums(bytes, row.sums)) return undefined
    // What was changed since its last sync is whatever the disk got of it, as on any file system.
    if (row.cut && row.synced > 0) {
      this.#context.log.warn(
        { ino: inode.ino.toString(), index },
        'staged bytes are not those that were checked last: a change that the power loss cut short, or damage',
      )
      return undefined
    }
    return 'staged bytes are damaged'
  }

  async #bytesOf(inode: Inode, index: number): Promise<Buffer> {
    const buffer = Buffer.alloc(lengthOf(inode, index))
    return buffer.subarray(0, await this.#staging.read(inode, buffer, index * CHUNK_BYTES))
  }

  /** Lists the file as one that failed, and says so. */
  #failed(ino: bigint, index: number, flaw: string): FsError {
    const { catalog, log } = this.#context
    const error = new FsError(
      'EIO',
      `${flaw} (offset ${index * CHUNK_BYTES}); truncate or replace the file, or take it from a backup`,
    )
    log.error({ err: error, ino: ino.toString() }, 'a staged file is damaged')
    const inode = catalog.get(ino)
    if (inode && inode.failure !== error.message) {
      catalog.transaction(() => {
        inode.failure = error.message
        catalog.save(inode)
      })
    }
    return error
  }
}

const isSame = (one: StagedChunk, other: StagedChunk): boolean =>
  one.cut === other.cut &&
  (one.sums === undefined || other.sums === undefined ? one.sums === other.sums : one.sums.equals(other.sums))
