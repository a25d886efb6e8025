import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import { lacksNames, type ShownEntry } from '../catalog/index.ts'
import { DT_DIR, type RawDirent } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'

// Names looked at between two turns.
const NAMES_AT_ONCE = 64

type VolumeEntry = Pick<RawDirent, 'name' | 'ino' | 'type'>

/** What is said of a name that hides something which was put on the volume past the overlay. */
export const HIDDEN =
  'SOURCE has something else under this name, put there past the overlay, and it is hidden: rename it on SOURCE to see it, or remove it there'

/**
 * What the catalog has under a name that the volume has, and whether that hides what the volume has there and the catalog knows
 * nothing of. A directory of the catalog's takes up one that was made or moved there, where it can.
 */
export function shownOver(
  { catalog, legacy }: OverlayContext,
  directory: bigint,
  { name, ino, type }: VolumeEntry,
): { readonly shown: ShownEntry | undefined; readonly hides: boolean } {
  const shown = catalog.dirents.shownEntry(directory, name)
  if (shown?.ino === undefined || !shown.inode) return { shown, hides: false }
  const { authority, legacyIno, mode } = shown.inode
  const isOwn = shown.legacy === shown.ino
  if (shown.legacy !== undefined && !isOwn) return { shown, hides: false }
  const mayTakeUp = type === DT_DIR && authority === 'catalog' && isDirectory(mode)
  if (!mayTakeUp || (isOwn && legacyIno === ino)) return { shown, hides: !isOwn }
  let hides = false
  try {
    hides = legacy()?.follow(shown.ino, { parent: directory, name }) === 'other'
  } catch (error) {
    // What is in it says so to who looks there.
    if (!(error instanceof FsError)) throw error
  }
  return { shown: catalog.dirents.shownEntry(directory, name), hides }
}

/** The first name in a directory that hides something of the volume's, as `shownOver` says. @throws FsError as the listing does */
export async function firstHiding(context: OverlayContext, directory: bigint): Promise<Buffer | undefined> {
  const { catalog, legacy } = context
  const inode = catalog.get(directory)
  if (!inode || inode.orphan || lacksNames(inode) || inode.legacyIno === undefined) return undefined
  for (const batch of legacy()?.batches(directory) ?? [])
    for (const [nth, entry] of batch.entries()) {
      if (shownOver(context, directory, entry).hides) return entry.name
      if (nth % NAMES_AT_ONCE === 0) await giveWay()
    }
  return undefined
}
