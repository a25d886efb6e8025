import type { Activity } from '../content/index.ts'
import type { Answer } from '../fuse/operations.ts'

/** Runs `body`, in this tick if no write to one of these legacy files is under way. */
export function afterWrites<T>(activity: Activity, nodes: readonly bigint[], body: () => T): Answer<T> {
  const busy = nodes.find((node) => activity.isWritingVolume(node))
  if (busy === undefined) return body()
  return activity.landed(busy).then(() => afterWrites(activity, nodes, body))
}
