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
  for (const ino of catalog.stagedInodes()) {
    const inode = catalog.get(ino)
    if (!inode) continue
    const rows = [...catalog.stagedRows(ino)]
    const size = Math.min(sizeOnDisk(inode, rows, staging), sizeBeforeUnsynced(inode, rows))
    if (size >= inode.size) continue
    log.warn(
      { ino: ino.toString(), size, lost: inode.size - size },
      'the power loss took the end of a file that nobody had synced',
    )
    catalog.transaction(() => {
      catalog.dropStaged(ino, chunkCount(size))
      inode.size = size
      catalog.save(inode)
    })
  }
  // Last: what it drops has told above where the files ended.
  catalog.transaction(() => catalog.cutStaged())
}

/** The file's size without what was staged behind its last synced byte, and is not on the disk. */
function sizeOnDisk(inode: Inode, rows: readonly StagedRow[], staging: Staging): number {
  const kept = rows.filter(({ index, synced }) => synced > 0 || index >= inode.baseLimit)
  const last = kept.findLast(({ synced }) => synced > 0)
  const length = last && lengthOnDisk(inode, staging)
  if (!last || length === undefined) return inode.size
  const start = last.index * CHUNK_BYTES
  const wanted = lengthOf(inode, last.index)
  const there = Math.min(wanted, Math.max(0, length - start))
  if (there < last.synced) return inode.size
  const end = Math.max(start + there, Math.min(inode.size, inode.baseLimit * CHUNK_BYTES))
  // Behind the last chunk that was synced nothing is staged that anybody synced.
  const isEnd = there < wanted || kept.at(-1) !== last
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

/**
 * Where the file ended before the first chunk grew that nobody synced since. Of a file that has nothing but what nobody synced
 * there is no such size: empty, it would look like a file that somebody left so.
 */
function sizeBeforeUnsynced(inode: Inode, rows: readonly StagedRow[]): number {
  let size = inode.size
  for (const { index, synced, former } of rows) {
    if (synced > 0 || former === undefined || former >= lengthOf(inode, index)) continue
    size = Math.min(size, index * CHUNK_BYTES + former)
  }
  return size > 0 ? size : inode.size
}
