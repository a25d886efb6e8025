import { FsError } from '../base/errors.ts'
import type { Inode, StagedRow } from '../catalog/index.ts'
import { lengthOf } from './chunk-length.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount } from './context.ts'
import type { Staging } from './staging.ts'
import { distrustUnproven } from './volume-proof.ts'

/**
 * What a power loss took of staged files. Chunks that nobody synced fall back to their base, if they have one. A file is as long
 * as it was before what nobody synced was appended, as on any file system: nothing stands for bytes that are missing. What is
 * missing besides is found when it is needed, and is an error (`StagedChunks`). Within recovery; done again, it changes nothing.
 */
export function afterPowerLoss(context: ContentContext, staging: Staging): void {
  const { catalog, log } = context
  distrustUnproven(context)
  for (const ino of catalog.lists.staged()) {
    const inode = catalog.get(ino)
    if (!inode) continue
    const found = lookAt(inode, catalog.staged.rows(ino))
    const size = Math.min(sizeOnDisk(inode, found, staging), found.sizeBeforeUnsynced)
    if (size >= inode.size) continue
    log.warn(
      { ino: ino.toString(), size, lost: inode.size - size },
      'the power loss took the end of a file that nobody had synced',
    )
    catalog.transaction(() => {
      while (!catalog.staged.drop(ino, chunkCount(size))) continue
      inode.size = size
      catalog.save(inode)
    })
  }
  // Last: what it drops has told above where the files ended.
  catalog.transaction(() => catalog.staged.cut())
}

/** What the rows of a file's staged chunks say, of which there may be any number. */
interface Found {
  /** The last one of which anything was synced. */
  readonly lastSynced: StagedRow | undefined
  /** Whether chunks follow it that have no base to fall back to. */
  readonly isLast: boolean
  /**
   * Where the file ended before the first chunk grew that nobody synced since. Of a file that has nothing but what nobody synced
   * there is no such size: empty, it would look like a file that somebody left so.
   */
  readonly sizeBeforeUnsynced: number
}

function lookAt(inode: Inode, rows: Iterable<StagedRow>): Found {
  let size = inode.size
  let lastSynced: StagedRow | undefined
  let isLast = true
  for (const row of rows) {
    const { index, synced, former } = row
    if (synced > 0) {
      lastSynced = row
      isLast = true
      continue
    }
    if (index >= inode.baseLimit) isLast = false
    if (former === undefined || former >= lengthOf(inode, index)) continue
    size = Math.min(size, index * CHUNK_BYTES + former)
  }
  return { lastSynced, isLast, sizeBeforeUnsynced: size > 0 ? size : inode.size }
}

/** The file's size without what was staged behind its last synced byte, and is not on the disk. */
function sizeOnDisk(inode: Inode, { lastSynced, isLast }: Found, staging: Staging): number {
  const length = lastSynced && lengthOnDisk(inode, staging)
  if (!lastSynced || length === undefined) return inode.size
  const start = lastSynced.index * CHUNK_BYTES
  const wanted = lengthOf(inode, lastSynced.index)
  const there = Math.min(wanted, Math.max(0, length - start))
  if (there < lastSynced.synced) return inode.size
  // Chunks behind that one may have a base; of this one it is in the staging file, or nowhere.
  const isBehind = inode.baseLimit > lastSynced.index + 1
  const end = isBehind ? Math.min(inode.size, inode.baseLimit * CHUNK_BYTES) : start + there
  // Behind the last chunk that was synced nothing is staged that anybody synced.
  const isEnd = there < wanted || !isLast
  return isEnd ? end : inode.size
}

/** Undefined if the staging file is missing: whoever needs it learns of it. */
function lengthOnDisk(inode: Inode, staging: Staging): number | undefined {
  try {
    return staging.lengthOf(inode)
  } catch (error) {
    if (error instanceof FsError) return undefined
    throw error
  }
}
