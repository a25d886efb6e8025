import { fileId, type Forgetting, type GoneDirectory, type Inode } from '../catalog/index.ts'
import type { ContentContext } from './context.ts'
import { headerKey, shardKey } from './directory-record.ts'

// Listed as garbage, and names forgotten, in one turn of the event loop: a few milliseconds.
const SHARDS_AT_ONCE = 64
const NAMES_AT_ONCE = 256

/**
 * Removes a directory's record from the store, in the transaction that removes the directory. Of one that had very many names a part:
 * the rest is noted, and `GoneDirectories` goes on with it.
 */
export function discardDirectoryRecord(context: ContentContext, inode: Inode): void {
  const { catalog, epoch } = context
  if (inode.dirGeneration === 0) return
  catalog.outbox.discard('dirs', headerKey(fileId(inode)), epoch, catalog.numbers.nextVersion(), inode.ino)
  const left = discardSome(context, {
    ino: inode.ino,
    generation: inode.generation,
    recordGeneration: inode.dirGeneration,
    // A record whose first writing a crash cut short has a shard that the catalog does not know of.
    shards: Math.max(1, inode.dirShards),
  })
  const forgetting = left.shards === 0 ? catalog.records.forgettingOf(inode) : undefined
  const isDone = left.shards === 0 && (!forgetting || catalog.records.departed(forgetting, NAMES_AT_ONCE))
  if (!isDone || catalog.records.forgettingOf(inode)) catalog.records.putGone(left)
}

function discardSome({ catalog, epoch }: ContentContext, gone: GoneDirectory): GoneDirectory {
  const shards = Math.max(0, gone.shards - SHARDS_AT_ONCE)
  for (let shard = shards; shard < gone.shards; shard += 1) {
    const key = shardKey(fileId(gone), gone.recordGeneration, shard)
    catalog.outbox.discard('dirs', key, epoch, catalog.numbers.nextVersion(), gone.ino)
  }
  return { ...gone, shards }
}

/**
 * Directories that are gone, with what was too much for the transaction that removed them. Each step is a transaction; after a crash
 * it goes on with what the catalog has noted.
 */
export class GoneDirectories {
  readonly #context: ContentContext
  /** What is being forgotten of one: a new look at it would begin at the top of what may be a whole tree. */
  #under: { readonly generation: number; readonly forgetting: Forgetting } | undefined

  constructor(context: ContentContext) {
    this.#context = context
  }

  /** Takes the next step; false if there was none to take. */
  step(): boolean {
    const { catalog } = this.#context
    const gone = catalog.records.gone()
    if (!gone) return false
    catalog.transaction(() => {
      if (gone.shards > 0) catalog.records.putGone(discardSome(this.#context, gone))
      else if (this.#forget(gone)) catalog.records.dropGone(gone)
    })
    return true
  }

  /** True once nothing is left. */
  #forget(gone: GoneDirectory): boolean {
    const { catalog } = this.#context
    let under = this.#under
    if (under?.generation !== gone.generation) {
      const forgetting = catalog.records.forgettingOf(gone)
      if (!forgetting) return true
      under = { generation: gone.generation, forgetting }
      this.#under = under
    }
    if (catalog.records.departed(under.forgetting, NAMES_AT_ONCE)) this.#under = undefined
    return false
  }
}
