import { FsError } from '../base/errors.ts'
import type { Inode } from '../catalog/index.ts'
import type { OverlayContext } from './context.ts'

const WHY =
  "it is gone from the legacy volume, and the catalog may have lost that it was moved to the store: see 'ferryfs verify'"

/**
 * Whether it says nothing that the volume lacks a file: the catalog may be older than the volume, and where changes go to the store
 * ferryfs itself may have taken the file away. Then the store has the last copy, which goes with the name.
 */
export function mayBeInStoreAlone({ catalog, policy }: OverlayContext, { ino }: Pick<Inode, 'ino'>): boolean {
  return catalog.doubts.comparedOf(ino) !== undefined && policy().writeTo === 'store'
}

/** Of a file that the volume lacks. @throws FsError EIO where that is no proof that somebody has removed it */
export function requireRemoved(context: OverlayContext, inode: Inode): void {
  if (mayBeInStoreAlone(context, inode)) throw new FsError('EIO', WHY)
}
