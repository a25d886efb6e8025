import { isDirectory } from '../base/attributes.ts'
import { ROOT_INO } from '../catalog/index.ts'
import { takeOver } from '../content/index.ts'
import type { Overlay, OverlayContext, Resolved } from '../overlay/index.ts'

// Names looked at in one transaction and one turn of the event loop.
const BATCH = 64

/**
 * Walks the whole tree as the overlay shows it, legacy files included; every file met has an inode afterwards. Gives way
 * to applications between batches. A directory or entry that cannot be read is told to `onError` and passed over.
 */
export async function* walk(
  context: OverlayContext,
  overlay: Overlay,
  onError: (path: Buffer, error: unknown) => void,
): AsyncGenerator<Resolved[]> {
  const { catalog } = context
  // An application may remove a directory before its turn or between two batches: there is nothing left to read, also while
  // somebody still has it open.
  const isThere = (ino: bigint): boolean => catalog.get(ino)?.orphan === false
  const directories: bigint[] = [ROOT_INO]
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    const ino = directory
    if (!isThere(ino)) continue
    let names: Buffer[]
    try {
      names = overlay.listNames(ino)
      catalog.transaction(() => {
        if (context.policy().copies) catalog.recordDirectory(ino)
        if (context.policy().removesLegacy) takeOver(context, ino)
      })
    } catch (error) {
      if (isThere(ino)) onError(catalog.pathOf(ino) ?? Buffer.alloc(0), error)
      continue
    }
    for (let from = 0; from < names.length; from += BATCH) {
      const met: Resolved[] = []
      catalog.transaction(() => {
        for (const name of names.slice(from, from + BATCH)) {
          catalog.attempt(
            () => {
              const found = overlay.names.find(ino, name)
              if (!found) return
              if (isDirectory(found.inode.mode)) directories.push(found.inode.ino)
              else met.push(settle(context, found))
            },
            (error) => {
              if (!isThere(ino)) return
              onError(Buffer.concat([catalog.pathOf(ino) ?? Buffer.alloc(0), Buffer.from('/'), name]), error)
            },
          )
        }
      })
      if (met.length > 0) yield met
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

/** Keeps what was seen of a file; where legacy copies are to go, the catalog becomes the authority on it. */
function settle(context: OverlayContext, found: Resolved): Resolved {
  const { catalog, activity } = context
  const { inode } = found
  if (
    inode.authority === 'legacy' &&
    context.policy().removesLegacy &&
    !activity.isWritingVolume(inode.ino)
  ) {
    return { inode: takeOver(context, inode.ino), stat: undefined }
  }
  catalog.recount(inode)
  return found
}
