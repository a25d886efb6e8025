import type { Inode } from '../catalog/index.ts'
import type { LegacyPlace } from '../legacy/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import type { Stat } from '../sys/index.ts'

/** A legacy file at one of its places. */
export interface Found {
  readonly place: LegacyPlace
  readonly stat: Stat
}

/** Those of the places at which the inode's legacy file is. @throws FsError EIO where it was mounted, and is missing: nobody knows */
export function placesThere(context: OverlayContext, inode: Inode, places: readonly LegacyPlace[]): Found[] {
  const legacy = context.legacy()
  if (!legacy) return []
  return places.flatMap((place) => {
    const stat = legacy.findKnown(inode, place)
    return stat && stat.ino === inode.legacyIno ? [{ place, stat }] : []
  })
}

/** The first of its known places at which it is. */
export function firstPlace(context: OverlayContext, inode: Inode): Found | undefined {
  for (const place of context.catalog.links.places(inode.ino)) {
    const [found] = placesThere(context, inode, [place])
    if (found) return found
  }
  return undefined
}
