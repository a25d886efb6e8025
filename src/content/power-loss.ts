import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import { lengthOf } from './chunk-length.ts'
import { CHUNK_BYTES, type ContentContext, chunkCount } from './context.ts'
import type { Staging } from './staging.ts'
import { distrustUnproven } from './volume-proof.ts'

/**
 * What a power loss took of staged files. Chunks that nobody synced fall back to their base, if they have one. A file whose
 * synced bytes are there, and that lacks what was appended since, is as long as it was then, as on any file system. What is
 * missing besides is found when it is needed, and is an error (`StagedChunks`). Within recovery.
 */
export function afterPowerLoss(context: ContentContext, staging: Staging): void {
  const { catalog, log } = context
  distrustUnproven(context)
  catalog.transaction(() => catalog.cutStaged())
  for (const ino of catalog.stagedInodes()) {
    const inode = catalog.get(ino)
    if (!inode) continue
    try {
      const size = certainSize(context, inode, staging.lengthOf(inode))
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
    } catch (error) {
      // The staging file is missing: whoever needs it learns of it.
      if (!(error instanceof FsError)) throw error
    }
  }
}

/** The file's size without what was staged behind its last synced byte, and is not there. */
function certainSize({ catalog }: ContentContext, inode: Inode, length: number): number {
  const rows = catalog.stagedRows(inode.ino)
  const last = rows.findLast(({ synced }) => synced > 0)
  if (!last) return inode.size
  const start = last.index * CHUNK_BYTES
  const wanted = lengthOf(inode, last.index)
  const there = Math.min(wanted, Math.max(0, length - start))
  if (there < last.synced) return inode.size
  const end = Math.max(start + there, Math.min(inode.size, inode.baseLimit * CHUNK_BYTES))
  // Behind the last chunk that was synced nothing is staged that anybody synced.
  const isEnd = there < wanted || rows.at(-1) !== last
  return isEnd ? end : inode.size
}
