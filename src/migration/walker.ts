import { isDirectory } from '../base/attributes.ts'
import { type Inode, ROOT_INO } from '../catalog/index.ts'
import { takeOver } from '../content/index.ts'
import type { Overlay, OverlayContext } from '../overlay/index.ts'
import type { Stat } from '../sys/index.ts'

// Names looked at in one transaction and one turn of the event loop.
const BATCH = 64

/** A file met on a walk; `stat` where the legacy file is the authority. */
export interface Met {
  readonly inode: Inode
  readonly stat: Stat | undefined
}

/**
 * Walks the whole tree as the overlay shows it, legacy files included; every file met has an inode afterwards. Gives way
 * to applications between batches. A directory or entry that cannot be read is told to `onError` and passed over.
 */
export async function* walk(
  context: OverlayContext,
  overlay: Overlay,
  onError: (path: Buffer, error: unknown) => void,
): AsyncGenerator<Met[]> {
  const { catalog } = context
  const directories: bigint[] = [ROOT_INO]
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    const ino = directory
    let names: Buffer[]
    try {
      names = overlay.listNames(ino)
      catalog.transaction(() => {
        if (context.policy().copies) catalog.recordDirectory(ino)
        if (context.policy().writeTo === 'store') takeOver(context, ino)
      })
    } catch (error) {
      onError(catalog.pathOf(ino) ?? Buffer.alloc(0), error)
      continue
    }
    for (let from = 0; from < names.length; from += BATCH) {
      const met: Met[] = []
      catalog.transaction(() => {
        for (const name of names.slice(from, from + BATCH)) {
          try {
            const found = overlay.names.find(ino, name)
            if (!found) continue
            catalog.save(found.inode)
            if (isDirectory(found.inode.mode)) directories.push(found.inode.ino)
            else met.push(found)
          } catch (error) {
            onError(Buffer.concat([catalog.pathOf(ino) ?? Buffer.alloc(0), Buffer.from('/'), name]), error)
          }
        }
      })
      if (met.length > 0) yield met
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}
