import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import { requireLegacy } from '../content/index.ts'
import { isMissingDisk, type LegacyPlace, NOT_MOUNTED, tellsMissingDisk } from '../legacy/index.ts'
import type { Stat } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'

// Of a file with very many names.
const NAMES_LOOKED_AT = 64

/**
 * What the volume has under a name.
 * @param known what the catalog has there; `isSame`: whether that is it
 * @throws FsError; EIO where it was mounted there from another file system, and is missing: what it was mounted on looks as if somebody
 * had emptied it. That is listed as a failure for as long as it is so.
 */
export function statBelow(
  context: OverlayContext,
  place: LegacyPlace,
  known: Inode | undefined,
  isSame: (known: Inode, stat: Stat) => boolean,
): Stat | undefined {
  const legacy = requireLegacy(context)
  if (!known) return legacy.find(place)
  try {
    const stat = legacy.findKnown(known, place)
    if (tellsMissingDisk(known.failure) && stat && isSame(known, stat) && !isOnMissingDisk(context, known))
      noteFailure(context, known.ino, undefined)
    return stat
  } catch (error) {
    if (isMissingDisk(error) && known.failure === undefined) noteFailure(context, known.ino, NOT_MOUNTED)
    throw error
  }
}

/** Under one of its names it was mounted from another file system, and is missing. */
export function isOnMissingDisk({ catalog, legacy }: OverlayContext, inode: Inode): boolean {
  const tree = legacy()
  if (!tree || inode.orphan || inode.legacyIno === undefined) return false
  try {
    const places = catalog.links.places(inode.ino).take(NAMES_LOOKED_AT)
    return places.some((place) => tree.isMissing(inode, place))
  } catch (error) {
    // A volume that does not say is another matter, which others tell.
    if (error instanceof FsError) return false
    throw error
  }
}

function noteFailure({ catalog }: OverlayContext, ino: bigint, failure: string | undefined): void {
  const inode = catalog.get(ino)
  if (!inode) return
  try {
    catalog.transaction(() => catalog.save(Object.assign(inode, { failure })))
  } catch (error) {
    // Without room it is told by the next who looks.
    if (!(error instanceof FsError)) throw error
  }
}
