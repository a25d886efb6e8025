import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { ROOT_INO } from '../catalog/index.ts'
import { takeOver } from '../content/index.ts'
import { HIDDEN, type Overlay, type OverlayContext, type Resolved } from '../overlay/index.ts'

// What one transaction, and so one turn of the event loop, may take (P6).
const TURN_MS = 8

/** A directory that was met. Its number alone may be another file's by its turn. */
interface Met {
  readonly ino: bigint
  readonly generation: number
}

/**
 * Walks the whole tree as the overlay shows it, legacy files included; every file met has an inode afterwards. Gives way
 * to applications between batches. A directory or entry that cannot be read is told to `onError` and passed over, and so is one of the
 * volume that the overlay hides.
 */
export async function* walk(
  context: OverlayContext,
  overlay: Overlay,
  onError: (path: Buffer, error: unknown) => void,
): AsyncGenerator<Resolved[]> {
  const { catalog } = context
  const directories: Met[] = [{ ino: ROOT_INO, generation: catalog.get(ROOT_INO)?.generation ?? 0 }]
  // An application may remove a directory before its turn or between two batches: there is nothing left to read, also while
  // somebody still has it open, and also where another file has got its number.
  const isThere = ({ ino, generation }: Met): boolean => {
    const inode = catalog.get(ino)
    return inode?.orphan === false && inode.generation === generation
  }
  const look = (directory: Met, name: Buffer, met: Resolved[]): void =>
    catalog.attempt(
      () => {
        const found = overlay.names.find(directory.ino, name)
        if (!found) return
        const { ino, generation, mode } = found.inode
        if (isDirectory(mode)) directories.push({ ino, generation })
        else met.push(settle(context, found))
      },
      (error) => {
        if (isThere(directory)) onError(pathIn(catalog.links.pathOf(directory.ino), name), error)
      },
    )
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    const current = directory
    const { ino } = current
    if (!isThere(current)) continue
    const hidden = new FsError('EEXIST', HIDDEN)
    const pages = overlay.listNames(ino, (name) => onError(pathIn(catalog.links.pathOf(ino), name), hidden))
    const next = async (): Promise<Buffer[] | 'failed' | undefined> => {
      try {
        const { done, value } = await pages.next()
        return done ? undefined : value
      } catch (error) {
        if (isThere(current)) onError(catalog.links.pathOf(ino) ?? Buffer.alloc(0), error)
        return 'failed'
      }
    }
    let names = await next()
    await catalog.ready()
    if (names === 'failed' || !isThere(current)) continue
    try {
      catalog.transaction(() => {
        if (context.policy().copies) catalog.records.begin(ino)
        if (context.policy().removesLegacy) takeOver(context, ino)
      })
    } catch (error) {
      if (isThere(current)) onError(catalog.links.pathOf(ino) ?? Buffer.alloc(0), error)
      continue
    }
    for (; names !== undefined && names !== 'failed'; names = await next()) {
      for (let at = 0; at < names.length; ) {
        const met: Resolved[] = []
        const some = names
        catalog.transaction(() => {
          const until = performance.now() + TURN_MS
          do {
            const name = some[at]
            at += 1
            if (name) look(current, name, met)
          } while (at < some.length && performance.now() < until)
        })
        if (met.length > 0) yield met
        await new Promise((resolve) => setImmediate(resolve))
        await catalog.ready()
      }
    }
  }
}

const pathIn = (directory: Buffer | undefined, name: Buffer): Buffer =>
  directory === undefined || directory.length === 0
    ? name
    : Buffer.concat([directory, Buffer.from('/'), name])

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
