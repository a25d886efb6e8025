import { faultPoint } from '../../base/faults.ts'
import { syncFileSystem } from '../../sys/index.ts'
import { dress } from './attributes.ts'
import type { Destination } from './destination.ts'
import { settle } from './file-bytes.ts'
import { guard } from './guards.ts'
import type { TreeFile } from './tree.ts'

/**
 * The end of a run: all that it wrote is on the medium when this resolves. With `root` the restore is over: DEST gets the root's
 * attributes, by which it opens to others. What DEST cannot hold of these, in words.
 *
 * Crash points: first the working directory says that nothing but this is left to do, then DEST opens, then that directory goes. So
 * the next run never looks again at a tree that others have had in their hands, and never takes an open one for a finished one.
 *
 * @throws FsError where DEST cannot be synced: then nothing of it can be relied on
 */
export async function finish(destination: Destination, root: TreeFile | undefined): Promise<string[]> {
  const { descriptor, work } = destination
  await settle(descriptor)
  await syncFileSystem(descriptor)
  if (!root) return []
  work.beginToFinish()
  faultPoint('migration.restore.finishing')
  dress(descriptor, root)
  faultPoint('migration.restore.opened')
  work.remove()
  // That has moved its times.
  const lacks = [...dress(descriptor, root), ...guard(descriptor, root)]
  await settle(descriptor)
  return lacks
}
