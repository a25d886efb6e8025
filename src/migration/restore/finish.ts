import { faultPoint } from '../../base/faults.ts'
import { syncFileSystem } from '../../sys/index.ts'
import { dress, forgetOwner } from './attributes.ts'
import type { Destination } from './destination.ts'
import { markEnding, unmarkEnding } from './ending-mark.ts'
import { settle } from './file-bytes.ts'
import { guard } from './guards.ts'
import type { TreeFile } from './tree.ts'

/**
 * The end of a run: all that it wrote is on the medium when this resolves. With `root` the restore is over: DEST gets the root's
 * attributes, by which it opens to others. What DEST cannot hold of these, in words.
 *
 * Crash points: first the working directory says that DEST opens, then a mark on DEST does, then DEST opens, that directory goes, DEST
 * gets the times that this has moved, and the mark goes. So the next run never takes an open DEST for a finished one: it closes DEST
 * and compares everything with what it is asked for itself, but replaces nothing, as others may have changed what is there. The flags
 * that guard DEST come last: behind them nothing of it can be changed, the mark neither. The mark of a SOURCE that DEST is goes
 * with it, if `isComplete`: all of the tree is in DEST then, on the medium.
 *
 * @throws FsError where DEST cannot be synced: then nothing of it can be relied on
 */
export async function finish(
  destination: Destination,
  root: TreeFile | undefined,
  isComplete: boolean,
): Promise<string[]> {
  const { descriptor, work } = destination
  await settle(descriptor)
  await syncFileSystem(descriptor)
  if (!root) return []
  work.beginToOpen()
  faultPoint('migration.restore.finishing')
  markEnding(descriptor, destination.namespace)
  await settle(descriptor)
  dress(descriptor, root)
  faultPoint('migration.restore.opened')
  work.remove()
  faultPoint('migration.restore.removed')
  // That has moved its times.
  const lacks = dress(descriptor, root)
  await settle(descriptor)
  faultPoint('migration.restore.dressed')
  if (isComplete) forgetOwner(descriptor)
  unmarkEnding(descriptor)
  lacks.push(...guard(descriptor, root))
  await settle(descriptor)
  return lacks
}
