import { isDirectory } from '../base/attributes.ts'
import type { Catalog } from './catalog.ts'
import type { Inode } from './inode.ts'

const NAME = 'met-since-power-loss'
// Directories whose records are asked for in one transaction: a fraction of a millisecond.
const DIRECTORIES_AT_ONCE = 64

/**
 * A power loss may leave the volume before or behind the catalog: a file that the overlay had moved is then under a name that the
 * catalog does not know, and the name that it knows is gone. Until the whole volume has been looked at, a file that the store has
 * and that has no name left is therefore kept, with its object and the records that lead to it: met under another name, it goes on
 * as the file that it is.
 */
export function keepVanished(catalog: Catalog): void {
  catalog.meta.set(NAME, 'no')
}

/** Everything on the volume has been met since: what has no name has been removed. Follow it with `oweWhatWasKept`. */
export function letVanishedGo(catalog: Catalog): void {
  catalog.meta.set(NAME, 'going')
}

/**
 * The records that kept names of what had vanished are owed from now on, whether it was met again or is gone for good: nobody owed
 * them meanwhile. A page of them at each step; a crash in between leaves the rest to the next start. Nothing unless `letVanishedGo`
 * came first.
 */
export function* oweWhatWasKept(catalog: Catalog): Generator<void> {
  if (catalog.meta.get(NAME) !== 'going') return
  for (let after: bigint | undefined; ; ) {
    const directories = catalog.departures.directories(after, DIRECTORIES_AT_ONCE)
    catalog.transaction(() => {
      for (const ino of directories) catalog.records.touchHeader(ino)
    })
    after = directories.at(-1)
    if (after === undefined) break
    yield
  }
  catalog.transaction(() => catalog.meta.set(NAME, 'yes'))
}

/** Whether files that have vanished are kept for now. */
export const keepsVanished = (catalog: Catalog): boolean => catalog.meta.get(NAME) === 'no'

/** Whether a file without a name may have one that nobody has met yet. One that was removed through the overlay has no links. */
export function mayBeElsewhere(catalog: Catalog, inode: Inode): boolean {
  return hasVanished(inode) && keepsVanished(catalog)
}

/** In the catalog's own tree: the names of the file that anybody has met are gone, and it has others on the volume. */
export function isUnmet(catalog: Catalog, inode: Inode): boolean {
  const mayBe = inode.authority === 'catalog' && !inode.orphan && inode.nlink > 0 && !isDirectory(inode.mode)
  return mayBe && catalog.links.first(inode.ino) === undefined
}

/** The store has it, and its last name is gone from the volume, by nobody's doing here. */
export function hasVanished(inode: Inode): boolean {
  const isVanished = inode.orphan && inode.nlink > 0 && inode.authority === 'legacy'
  return isVanished && (inode.version > 0 || inode.dirShards > 0)
}
