import { S_ISGID } from '../base/attributes.ts'
import { legacyStat } from '../content/index.ts'
import type { RequestContext } from '../fuse/operations.ts'
import type { Stat } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'
import type { Names } from './names.ts'

/**
 * Whose a file is that was just made on the volume: the caller's, but for the group where the directory hands down its own, which the
 * volume has given it. `undefined` if it has this owner already. @throws FsError
 */
export function ownerToGive(
  context: OverlayContext,
  names: Names,
  parent: bigint,
  made: Stat,
  { uid, gid }: Pick<RequestContext, 'uid' | 'gid'>,
): { readonly uid: number; readonly gid: number } | undefined {
  const inherits = (legacyStat(context, names.inode(parent)).mode & S_ISGID) !== 0
  const group = inherits ? made.gid : gid
  return made.uid === uid && made.gid === group ? undefined : { uid, gid: group }
}
