import { isDirectory, isRegular } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { DIRTY_LOST, type Inode, isLost, isStored, lacksNames } from '../catalog/index.ts'
import type { ContentContext } from './context.ts'
import { legacyStat, matches, owe } from './takeover.ts'

/**
 * The store has lost or damaged what the catalog says it has of a file or directory. Where all of it is still here, on the
 * legacy volume or in the catalog, it is owed to the store again. True if so.
 */
export function renew(context: ContentContext, ino: bigint): boolean {
  const { catalog, log } = context
  const inode = catalog.get(ino)
  if (!inode || inode.orphan) return false
  try {
    if (isDirectory(inode.mode)) return renewRecord(context, inode)
    if (!isStored(inode) || isLost(inode) || !isHere(context, inode)) return false
    owe(catalog, inode, DIRTY_LOST)
  } catch (error) {
    // A volume that does not answer, a catalog without room: whoever meets it next asks again.
    if (error instanceof FsError) return false
    throw error
  }
  log.warn({ ino: ino.toString() }, 'the store has lost or damaged a file; it is written again')
  return true
}

/** Whether all that the file's objects are made of can be had without them. */
function isHere(context: ContentContext, inode: Inode): boolean {
  if (inode.authority === 'catalog' && (!isRegular(inode.mode) || inode.storedSize === 0)) return true
  if (inode.legacyIno === undefined || !context.legacy()) return false
  const stat = legacyStat(context, inode)
  return !isRegular(stat.mode) || matches(inode.fingerprint, stat)
}

function renewRecord({ catalog, log }: ContentContext, inode: Inode): boolean {
  if (inode.dirShards === 0 || lacksNames(inode) || catalog.outbox.find('directory', inode.ino)) return false
  catalog.transaction(() => {
    for (let shard = 0; shard < inode.dirShards; shard += 1) catalog.outbox.markShard(inode.ino, shard)
    catalog.outbox.add('directory', inode.ino)
  })
  log.warn(
    { ino: inode.ino.toString() },
    "the store has lost or damaged a directory's record; it is written again",
  )
  return true
}
