import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import { requireLegacy } from '../content/index.ts'
import { isMissingDisk, type LegacyPlace, NOT_MOUNTED } from '../legacy/index.ts'
import type { Stat } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'

/**
 * What the volume has under a name.
 * @param known what the catalog has there; `isSame`: whether that is it
 * @throws FsError; EIO where it is the root of another file system, and that is missing: the directory that it was mounted on looks as if
 * somebody had emptied it. That is listed as a failure for as long as it is so.
 */
export function statBelow(
  context: OverlayContext,
  place: LegacyPlace,
  known: Inode | undefined,
  isSame: (stat: Stat) => boolean,
): Stat | undefined {
  const legacy = requireLegacy(context)
  const stat = legacy.find(place)
  if (!known || !stat || !isDirectory(known.mode) || !isDirectory(stat.mode)) return stat
  if (isSame(stat)) {
    if (known.failure === NOT_MOUNTED) noteFailure(context, known.ino, undefined)
    return stat
  }
  try {
    return legacy.inPlaceOf(known.ino, place)
  } catch (error) {
    if (isMissingDisk(error) && known.failure === undefined) noteFailure(context, known.ino, NOT_MOUNTED)
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
