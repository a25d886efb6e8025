import { FsError } from '../base/errors.ts'
import type { ContentContext } from './context.ts'

/**
 * Whether nothing is written to the store of a file or directory until somebody accepts the losses: what the
 * store has of it may be newer than the catalog, which has lost transactions. Of an older copy of the catalog
 * also where the volume has the truth: that may be as old.
 */
export function isHeld({ catalog, policy }: ContentContext, ino: bigint): boolean {
  const { doubts } = catalog
  const compared = doubts.comparedOf(ino)
  if (compared === undefined) return false
  if (doubts.isOlderCopy || (compared === 'not' && policy().writeTo === 'store')) return true
  return catalog.get(ino)?.authority === 'catalog'
}

/** For those who do not wait. @throws FsError EIO if an older copy of the catalog is in doubt about it */
export function requireNotHeld(context: ContentContext, ino: bigint): void {
  if (!context.catalog.doubts.isOlderCopy || !isHeld(context, ino)) return
  throw new FsError(
    'EIO',
    "what the store has of it may be newer than this older copy of the catalog: see 'ferryfs verify', then 'ferryfs verify --accept-losses'",
  )
}
