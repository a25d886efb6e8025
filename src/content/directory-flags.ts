import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { GUARDS } from '../base/inode-flags.ts'
import type { Inode } from '../catalog/index.ts'
import type { ContentContext } from './context.ts'
import { guardsSeen, legacyStat } from './takeover.ts'

/**
 * A directory that the catalog has the authority on may be guarded, or set free, on the volume, past the overlay. The volume's flags are
 * the newer ones if they are not those that it was seen to have. Within this tick.
 */
export function adoptGuardsPast(context: ContentContext, inode: Inode): void {
  const { catalog, log } = context
  if (inode.authority !== 'catalog' || !isDirectory(inode.mode) || inode.legacyIno === undefined) return
  const now = guardsOnVolume(context, inode)
  if (now === undefined) return
  // Of one that an earlier ferryfs took over nobody knows: what was set in the mount may never have been on the volume.
  const known = inode.fingerprint?.size ?? now & inode.flags
  if (now === known) return
  catalog.transaction(() => {
    inode.flags = (inode.flags & ~GUARDS) | now
    inode.fingerprint = guardsSeen(now)
    catalog.records.touchHeader(inode.ino)
    catalog.save(inode)
  })
  log.info({ ino: inode.ino.toString() }, 'the flags of a directory were changed past the overlay')
}

function guardsOnVolume(context: ContentContext, inode: Inode): number | undefined {
  if (!context.legacy()) return undefined
  try {
    return legacyStat(context, inode).flags & GUARDS
  } catch (error) {
    // It has left the volume, or that does not answer: the catalog's flags are in force.
    if (error instanceof FsError) return undefined
    throw error
  }
}
