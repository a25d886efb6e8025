import { isBornElsewhere, isDirectory, isRegular, isSameKind } from '../base/attributes.ts'
import { type Catalog, type Inode, isLost, isOwnIno } from '../catalog/index.ts'
import type { Stat } from '../sys/index.ts'

/**
 * Of two files that have one number on a volume one after the other the times of birth differ. False where either is
 * not known.
 */
export function isBornWith(inode: Inode, stat: Stat): boolean {
  return inode.btimeNs !== 0n && inode.btimeNs === stat.btimeNs
}

/** Whether the store's file can be SOURCE's for all that is known: of one that is lost nothing is. */
function canBe(inode: Inode, stat: Stat): boolean {
  return isLost(inode)
    ? !isDirectory(stat.mode)
    : isSameKind(inode.mode, stat.mode) && !isBornElsewhere(inode, stat)
}

/**
 * Whether SOURCE's file is the store's under the same name. A file keeps the number that it had on SOURCE's own disk;
 * on another one the time of birth has to tell, which many files share that were made together: `maybe`.
 */
export function isSameByName(inode: Inode, stat: Stat, device: bigint): 'yes' | 'maybe' | 'no' {
  if (!canBe(inode, stat)) return 'no'
  if (device === 0n && inode.ino === stat.ino) return 'yes'
  return isOwnIno(inode.ino) && isBornWith(inode, stat) ? 'maybe' : 'no'
}

/**
 * The file of the store that has the number of this one, which is on SOURCE's own disk. The number may have been
 * another file's before: only where the time of birth tells (`isBornWith`) it is the same for sure. In a catalog of
 * which all files are the store's.
 */
export function storedByNumber(catalog: Catalog, stat: Stat, device: bigint): Inode | undefined {
  const inode = device === 0n ? catalog.get(stat.ino) : undefined
  return inode && !isDirectory(inode.mode) && canBe(inode, stat) ? inode : undefined
}

/** The same for a directory; undefined as well for one that has its place on SOURCE. */
export function storedDirectory(catalog: Catalog, stat: Stat, device: bigint): Inode | undefined {
  const inode = device === 0n ? catalog.get(stat.ino) : undefined
  const isThere = inode?.legacyIno !== undefined
  return inode && isDirectory(inode.mode) && !isThere && canBe(inode, stat) ? inode : undefined
}

/**
 * Why the store's file may be older than SOURCE's. In a mode that drains it is at least as new as what SOURCE has left
 * of it.
 */
export function whyInDoubt(inode: Inode, stat: Stat): string | undefined {
  if (isLost(inode)) return 'the store has lost what was there, and SOURCE has something, perhaps older'
  if (isDirectory(stat.mode)) return 'SOURCE has a directory there, of which nothing is shown'
  const isLater = stat.mtimeNs > inode.mtimeNs || stat.ctimeNs > inode.ctimeNs
  if (isLater) return 'SOURCE has a file there that was changed later'
  const isOther = isSameKind(inode.mode, stat.mode) && stat.mtimeNs === inode.mtimeNs
  return isOther && isRegular(stat.mode) && stat.size !== inode.size
    ? 'SOURCE has a file there of another size and the same time'
    : undefined
}
