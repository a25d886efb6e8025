import { FsError } from '../base/errors.ts'
import type { Catalog } from '../catalog/index.ts'

/**
 * Runs `body`, which only looks at files, on a full disk, and one that hangs, as well: files that it meets are then kept in memory. It may run twice, the
 * second time after nothing of the first is left in the catalog.
 */
export function lookingOnly<T>(catalog: Catalog, body: () => T): T {
  if (catalog.tight || catalog.isAway) return catalog.withoutRoom(body)
  try {
    return body()
  } catch (error) {
    if (!(error instanceof FsError && error.code === 'ENOSPC')) throw error
    return catalog.withoutRoom(body)
  }
}
