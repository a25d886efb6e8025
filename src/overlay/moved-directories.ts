import { isBornElsewhere, isDirectory } from '../base/attributes.ts'
import type { Catalog, Inode } from '../catalog/index.ts'
import type { Followed, FoundDirectory, LegacyPlace } from '../legacy/index.ts'
import type { Stat } from '../sys/index.ts'

// Directories that took one another's places, in one go.
const MOST_MOVED = 256

/** What the volume has at a place, its device as the catalog numbers those. */
type Find = (place: LegacyPlace) => Stat | undefined

/** A directory that moved, and where its legacy one is now. */
interface Move {
  readonly inode: Inode
  readonly from: LegacyPlace
  readonly to: LegacyPlace
}

/**
 * Directories under the catalog's authority that were moved on the volume, past the overlay. A legacy directory is the same one
 * wherever it lies, and the catalog's goes with it: it has one name, and what nobody has looked at in it is not hidden. Its name
 * changes with its place where nothing speaks against it: it is shown where the volume had it, and the new place is free, or those
 * that took one another's places did so in a circle. Else the name stays, and a row that hides it says where the legacy one is.
 */
export function followDirectory(
  catalog: Catalog,
  ino: bigint,
  place: LegacyPlace,
  found: FoundDirectory,
  find: Find,
): Followed {
  const inode = catalog.get(ino)
  if (inode?.authority !== 'catalog' || !isDirectory(inode.mode))
    return inode && inode.legacyIno === undefined ? 'here' : 'other'
  const other = knownAs(catalog, found)
  if (other?.ino === ino) return 'here'
  if (other && isOwned(other)) return followCircle(catalog, place, other, find) ? 'moved' : 'other'
  // Its own may come back.
  if (inode.legacyIno !== undefined && found.isEmpty()) return 'nothing'
  // A copy of it was put there, or it was made anew. One that the catalog knows has to have been moved there.
  const own = catalog.links.places(ino).find((at) => !isSame(at, place) && isAt(find, at, inode))
  if (own) return 'other'
  if (other && catalog.links.places(other.ino).some((at) => !isSame(at, place) && isAt(find, at, other)))
    return 'other'
  catalog.transaction(() => {
    if (other) catalog.save(Object.assign(other, { legacyIno: undefined }))
    const { ino: legacyIno, dev: legacyDev, btimeNs } = found
    catalog.save(Object.assign(inode, { legacyIno, legacyDev, btimeNs }))
    setPlace(catalog, place, ino)
  })
  return 'here'
}

/** Under the catalog's authority, so that what is in it has to be found wherever it is. */
const isOwned = ({ authority, mode }: Inode): boolean => authority === 'catalog' && isDirectory(mode)

/** The place is that of `other` now; and so on, with what lies where that had been. */
function followCircle(catalog: Catalog, place: LegacyPlace, other: Inode, find: Find): boolean {
  const moves: Move[] = []
  const met = new Set<bigint>()
  let isCircle = false
  for (let [inode, to] = [other, place]; moves.length < MOST_MOVED; ) {
    const [from] = catalog.links.places(inode.ino).take(1)
    const stat = from && find(from)
    // In two places at once: it is mounted there as well.
    if (isFile(inode, stat)) return false
    met.add(inode.ino)
    moves.push({ inode, from: from ?? to, to })
    isCircle = from !== undefined && isSame(from, place)
    if (!from || isCircle) break
    const next = stat && knownAs(catalog, stat)
    if (!next || !isOwned(next) || met.has(next.ino)) break
    ;[inode, to] = [next, from]
  }
  const isShownThere = ({ inode, from }: Move): boolean =>
    catalog.dirents.get(from.parent, from.name)?.ino === inode.ino
  const areShown = isCircle && moves.every(isShownThere)
  catalog.transaction(() => {
    if (!areShown) for (const { from } of moves) setPlace(catalog, from, undefined)
    for (const { inode, to } of moves) {
      if (areShown) catalog.dirents.set(to.parent, to.name, inode.ino, inode.ino)
      else setPlace(catalog, to, inode.ino)
    }
  })
  return true
}

/**
 * A directory of the catalog was met at a place that the catalog does not know of. False: its name stays, and it is not shown there.
 */
export function showMoved(catalog: Catalog, inode: Inode, place: LegacyPlace, find: Find): boolean {
  const [before] = catalog.links.places(inode.ino).take(1)
  // In two places at once: it is mounted there as well.
  if (before && isAt(find, before, inode)) return true
  const isShown = before && catalog.dirents.get(before.parent, before.name)?.ino === inode.ino
  const follows = isShown === true && !catalog.links.isBelow(place.parent, inode.ino)
  catalog.transaction(() => {
    if (before && follows) catalog.dirents.set(before.parent, before.name, undefined, undefined)
    else if (before) setPlace(catalog, before, undefined)
    catalog.dirents.set(place.parent, place.name, follows ? inode.ino : undefined, inode.ino)
  })
  return follows
}

/** What the overlay shows there stays. */
function setPlace(catalog: Catalog, { parent, name }: LegacyPlace, legacy: bigint | undefined): void {
  catalog.dirents.set(parent, name, catalog.dirents.get(parent, name)?.ino, legacy)
}

const isAt = (find: Find, place: LegacyPlace, inode: Inode): boolean => isFile(inode, find(place))

function isFile(inode: Inode, stat: Stat | undefined): boolean {
  const { legacyIno, legacyDev } = inode
  return stat?.ino === legacyIno && stat?.dev === legacyDev && !isBornElsewhere(inode, stat)
}

/** The catalog's inode of what was found. One whose number it has got has no legacy file any more. */
function knownAs(catalog: Catalog, found: Stat): Inode | undefined {
  const known = catalog.byLegacy(found.dev, found.ino)
  if (!known || !isBornElsewhere(known, found)) return known
  catalog.transaction(() => catalog.save(Object.assign(known, { legacyIno: undefined })))
  return undefined
}

const isSame = (one: LegacyPlace, other: LegacyPlace): boolean =>
  one.parent === other.parent && one.name.equals(other.name)
