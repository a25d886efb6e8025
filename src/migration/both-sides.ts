import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import { legacyStat, matches } from '../content/index.ts'
import type { OverlayContext } from '../overlay/index.ts'

/** What is said of a file that has another version on the volume than the one that was changed through the overlay (P3). */
export const CHANGED_ON_BOTH_SIDES =
  'SOURCE has another version of it, changed there past the overlay after it was changed at the mount, which shows its own: keep what you need of the one on SOURCE, then remove it there'

/** Whether that is so. A volume that does not answer, or has nothing of the file, has no version. */
export function isChangedOnBothSides(context: OverlayContext, inode: Inode): boolean {
  if (!inode.superseded || inode.legacyIno === undefined || !context.legacy()) return false
  try {
    return !matches(inode.superseded, legacyStat(context, inode))
  } catch (error) {
    if (error instanceof FsError) return false
    throw error
  }
}
