import { guardIn, isGuarded } from '../base/inode-flags.ts'
import { giveWay } from '../base/pace.ts'
import { pagesOf } from '../base/pages.ts'
import type { Inode } from '../catalog/index.ts'
import type { ContentContext } from './context.ts'

const NAMES_AT_ONCE = 64
const DOT = Buffer.from('.')

/**
 * Why the volume does not let go of the copy that it has of a file or directory: that, or a directory that it is in there, is immutable
 * or append-only. In words; undefined if nothing of the kind keeps it. @throws FsError
 */
export async function keptByFlags(
  { catalog, legacy }: ContentContext,
  inode: Inode,
): Promise<string | undefined> {
  const { ino, legacyIno } = inode
  for (const page of pagesOf(catalog.links.places(ino), NAMES_AT_ONCE)) {
    const tree = legacy()
    if (!tree || legacyIno === undefined) return undefined
    for (const place of page) {
      const stat = tree.find(place)
      if (stat?.ino !== legacyIno) continue
      if (isGuarded(stat)) return `kept on the volume: ${guardIn(stat)} is set`
      const directory = tree.find({ parent: place.parent, name: DOT })
      if (directory && isGuarded(directory))
        return `kept on the volume: ${guardIn(directory)} of its directory is set`
    }
    await giveWay()
  }
  return undefined
}
