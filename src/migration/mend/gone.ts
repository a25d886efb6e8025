import { isDirectory } from '../../base/attributes.ts'
import { FsError } from '../../base/errors.ts'
import { fileId, type Inode, isStored, noteLost } from '../../catalog/index.ts'
import { type DirectoryHeader, headerKey, legacyStat, takeOver } from '../../content/index.ts'
import { isMissingDisk } from '../../legacy/index.ts'
import type { OverlayContext } from '../../overlay/index.ts'
import { directoryOf } from '../rebuild/place-directories.ts'

// No time is later.
const NEVER_BEFORE = 2n ** 63n

/**
 * The catalog takes it for the volume's, which does not have it: the catalog may have lost that it was taken over, and that it went. In
 * a mode that writes to the volume whoever deletes something there is right.
 * @throws FsError where the volume cannot say
 */
export function isGoneFromVolume(context: OverlayContext, inode: Inode): boolean {
  if (inode.authority !== 'legacy' || inode.orphan) return false
  if (context.policy().writeTo !== 'store' || !context.legacy()) return false
  return !isOnVolume(context, inode)
}

/**
 * Whether nothing is left of a file or directory but what the store has of it: as the catalog has it, all of it was there, and the
 * volume has none of it.
 * @throws FsError where the volume cannot say
 */
export function isInStoreAlone(context: OverlayContext, inode: Inode): boolean {
  if (isGoneFromVolume(context, inode)) return true
  const { catalog } = context
  const { ino, authority, orphan, mode, staged, dirty } = inode
  if (authority === 'legacy' || orphan || context.policy().writeTo !== 'store') return false
  const isStoredWhole = isDirectory(mode)
    ? inode.dirShards > 0 && !catalog.outbox.find('directory', ino)
    : isStored(inode) && staged === 0 && dirty === 0 && !catalog.outbox.find('upload', ino)
  return isStoredWhole && !isOnVolume(context, inode)
}

function isOnVolume(context: OverlayContext, inode: Inode): boolean {
  if (!context.legacy()) return false
  try {
    legacyStat(context, inode)
    return true
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENOENT') return false
    if (isMissingDisk(error)) return true
    throw error
  }
}

/**
 * Makes a directory what its record says: one that is gone from the volume, and one of which the catalog, or what the volume still has,
 * was changed before.
 * @returns whether something was taken
 */
export function takeDirectory(context: OverlayContext, ino: bigint, header: DirectoryHeader): boolean {
  const { catalog } = context
  const known = catalog.get(ino)
  if (!known || !isDirectory(known.mode)) return false
  const isGone = isGoneFromVolume(context, known)
  if (!isGone && !(header.ctimeNs > changedAt(context, known))) return false
  const { mode, uid, gid, nlink, atimeNs, mtimeNs, ctimeNs, btimeNs, flags, xattrs } = directoryOf(
    header,
    ino,
  )
  catalog.transaction(() => {
    if (!isGone && known.authority === 'legacy') takeOver(context, ino)
    const inode = catalog.get(ino)
    if (!inode) return
    Object.assign(inode, { mode, uid, gid, nlink, atimeNs, mtimeNs, ctimeNs, flags, xattrs })
    if (isGone) Object.assign(inode, { btimeNs })
    catalog.save(inode)
    if (isGone) leaveVolume(context, ino)
  })
  return true
}

/** When it was changed last, as far as the catalog or the volume says. On a disk that is missing nobody can say. */
function changedAt(context: OverlayContext, known: Inode): bigint {
  if (known.authority === 'catalog') return known.ctimeNs
  try {
    return legacyStat(context, known).ctimeNs
  } catch (error) {
    if (!isMissingDisk(error)) throw error
    return NEVER_BEFORE
  }
}

/**
 * Nobody can say what a file was that is gone from the volume, or what was in a directory: by its name it is there, and whatever is
 * not known of it is an error. Nothing of it goes from the store: what is lost may come back.
 * @param isOthers the object under its key is another file's
 */
export function lose(context: OverlayContext, ino: bigint, why: string, isOthers = false): void {
  const { catalog } = context
  const known = catalog.get(ino)
  const isGone = known !== undefined && isGoneFromVolume(context, known)
  catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode) return
    if (!isDirectory(inode.mode)) {
      // With a version its name stays in the record when that is written.
      inode.version = Math.max(1, inode.version)
      inode.base = 'store'
      inode.dirty = 0
      if (isOthers) inode.key = undefined
      const owed = catalog.outbox.find('upload', ino)
      if (owed) catalog.outbox.done(owed)
    }
    noteLost(inode, why)
    catalog.save(inode)
    if (isGone) leaveVolume(context, ino)
  })
}

/** A directory that was removed since, but for what is back in it: what is left of its record is not relied on, all is written anew. */
export function keepGone(context: OverlayContext, ino: bigint): void {
  const { catalog } = context
  const known = catalog.get(ino)
  const isGone = known !== undefined && isGoneFromVolume(context, known)
  catalog.transaction(() => {
    if (isGone) leaveVolume(context, ino)
    if (known) catalog.outbox.keep('dirs', headerKey(fileId(known)))
    catalog.records.begin(ino)
    catalog.outbox.markAllShards(ino)
    catalog.outbox.add('directory', ino)
  })
}

/** Within a transaction: the catalog's from now on, and nowhere on the volume. */
function leaveVolume({ catalog, legacy }: OverlayContext, ino: bigint): void {
  for (const place of [...catalog.links.places(ino)])
    catalog.dirents.set(place.parent, place.name, place.ino, undefined)
  const inode = catalog.get(ino)
  if (!inode) return
  inode.authority = 'catalog'
  inode.legacyIno = undefined
  inode.fingerprint = undefined
  inode.superseded = undefined
  catalog.save(inode)
  catalog.afterCommit(() => legacy()?.forget(ino))
}

/**
 * Neither the volume nor the store has it, and no record names it: it was removed. Nothing goes from the store for it.
 * @returns the directories that have had it
 */
export function removeGone({ catalog }: OverlayContext, ino: bigint): bigint[] {
  return catalog.transaction(() => {
    const links = [...catalog.links.of(ino)]
    for (const { parent, name } of links) catalog.dirents.set(parent, name, undefined, undefined)
    const inode = catalog.get(ino)
    if (!inode) return []
    Object.assign(inode, {
      key: undefined,
      dirGeneration: 0,
      dirShards: 0,
      dirty: 0,
      nlink: 0,
      orphan: true,
    } satisfies Partial<Inode>)
    const owed = catalog.outbox.find('upload', ino)
    if (owed) catalog.outbox.done(owed)
    catalog.save(inode)
    return links.map(({ parent }) => parent)
  })
}
