import { FsError, reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { pagesOf } from '../base/pages.ts'
import type { Inode } from '../catalog/index.ts'
import { printable } from '../sys/index.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import type { StagedChunks } from './staged-chunks.ts'
import type { Staging } from './staging.ts'

// Rows written in one turn of the event loop.
const ROWS_AT_ONCE = 512

interface Parts {
  readonly staging: Staging
  readonly chunks: StagedChunks
}

/** Brings what is staged to the medium, and notes in the catalog how much of it is there. */
export class StagedSyncs {
  readonly #context: ContentContext
  readonly #staging: Staging
  readonly #chunks: StagedChunks
  /** Syncs under way: the smallest size that the file has had since each began. */
  readonly #underWay = new Map<bigint, Set<{ size: number }>>()

  constructor(context: ContentContext, { staging, chunks }: Parts) {
    this.#context = context
    this.#staging = staging
    this.#chunks = chunks
  }

  /**
   * What is staged when this is called, on the medium; the catalog has to be flushed after it. What is staged meanwhile is
   * not claimed to be there: after a power loss it would be taken for bytes that it may not be.
   */
  async sync(ino: bigint): Promise<void> {
    const { catalog } = this.#context
    if (this.#staging.isDoubtful(ino)) await this.#chunks.turns.run(ino, () => this.#writeAnew(ino))
    const inode = catalog.get(ino)
    if (!inode?.staged) return
    const under = { size: inode.size }
    const syncs = this.#underWay.get(ino) ?? new Set()
    this.#underWay.set(ino, syncs.add(under))
    try {
      // What was cut meanwhile, and may have been written again, is not vouched for.
      const kept = (index: number): number =>
        Math.max(0, Math.min(CHUNK_BYTES, under.size - index * CHUNK_BYTES))
      const unsynced: Array<{ index: number; synced: number }> = []
      for (const row of catalog.staged.rows(ino)) {
        await this.#chunks.checkOrRescue(ino, row.index)
        if (kept(row.index) > row.synced) unsynced.push(row)
        await giveWay()
      }
      const now = catalog.get(ino)
      if (!now?.staged) return
      const isThere = await this.#syncStaging(now)
      await catalog.ready()
      faultPoint('content.fsync.synced')
      // A staging file that was given up had gone to the store.
      if (!isThere) return
      for (const page of pagesOf(unsynced, ROWS_AT_ONCE)) {
        const more = page
          .map(({ index, synced }) => ({ index, synced, bytes: kept(index) }))
          .filter(({ synced, bytes }) => bytes > synced)
        catalog.transaction(() => catalog.staged.markSynced(ino, more))
        await giveWay()
      }
    } finally {
      syncs.delete(under)
      if (syncs.size === 0) this.#underWay.delete(ino)
    }
  }

  /** The same of the staging file alone, within the file's turn. */
  async inTurn(ino: bigint): Promise<void> {
    await this.#writeAnew(ino)
    const inode = this.#context.catalog.get(ino)
    if (!inode) throw new FsError('ESTALE', `inode ${ino} is gone`)
    await this.#syncStaging(inode)
  }

  /** Within a transaction: the file is cut to so many bytes, and no sync under way vouches for more. */
  cut(ino: bigint, size: number): void {
    for (const sync of this.#underWay.get(ino) ?? []) sync.size = Math.min(sync.size, size)
  }

  /** @throws FsError EIO or ENOSPC; nothing that is synced later counts before it is written anew, by this process or the next */
  async #syncStaging(inode: Inode): Promise<boolean> {
    const { catalog, failedSyncs } = this.#context
    try {
      return await this.#staging.sync(inode)
    } catch (error) {
      const path = catalog.links.pathOf(inode.ino)
      failedSyncs.note(path ? printable(path) : `(inode ${inode.ino})`, reasonOf(error), error)
      catalog.transaction(() => catalog.staged.doubt(inode.ino))
      throw error
    }
  }

  /** After a failed sync: what is staged goes to the disk once more, within the file's turn. */
  async #writeAnew(ino: bigint): Promise<void> {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (!inode?.staged || !this.#staging.isDoubtful(ino)) return
    await this.#staging.rewrite(inode)
    catalog.transaction(() => catalog.staged.trust(ino))
  }
}
