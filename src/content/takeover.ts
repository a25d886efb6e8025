import { constants } from 'node:os'
import { MOST_XATTR_BYTES } from '../base/attribute-ranges.ts'
import { isDirectory, isRegular, isSameKind, isSymlink } from '../base/attributes.ts'
import { isWholeSeconds } from '../base/clock.ts'
import { FsError } from '../base/errors.ts'
import { GUARDS } from '../base/inode-flags.ts'
import { pagesOf } from '../base/pages.ts'
import { type Catalog, DIRTY_CONTENT, type Fingerprint, type Inode, isStored } from '../catalog/index.ts'
import {
  isMissingDisk,
  type LegacyPlace,
  type LegacyTree,
  NOT_MOUNTED,
  tellsMissingDisk,
} from '../legacy/index.ts'
import { type Caller, getXattr, listXattrs, type Stat } from '../sys/index.ts'
import { type ContentContext, chunkCount } from './context.ts'
import { encodeXattrs } from './xattrs.ts'

// Of a file with very many, in one transaction.
const NAMES_AT_ONCE = 64

export function fingerprintOf({ size, mtimeNs, ctimeNs }: Fingerprint): Fingerprint {
  return { size, mtimeNs, ctimeNs }
}

/**
 * In the place of a fingerprint's ctime while we remove names of the file ourselves, which moves it: cut short, what is
 * left of the file must not look as if somebody had changed it past the overlay.
 */
const MOVING_CTIME = 0n

/** What is remembered of a directory on the volume in the place of a file's fingerprint: the flags that guarded it. */
export function guardsSeen(flags: number): Fingerprint {
  return { size: flags & GUARDS, mtimeNs: 0n, ctimeNs: 0n }
}

/** What the legacy file was when it was copied, or when its content stopped to count. */
export type LegacySeen = Pick<Inode, 'fingerprint' | 'superseded'>

/** Whether the legacy file is still the one that was copied. */
export function matches(fingerprint: Fingerprint | undefined, stat: Stat): boolean {
  return (
    fingerprint !== undefined &&
    fingerprint.size === stat.size &&
    fingerprint.mtimeNs === stat.mtimeNs &&
    (fingerprint.ctimeNs === stat.ctimeNs || fingerprint.ctimeNs === MOVING_CTIME)
  )
}

/**
 * We changed what moves the ctime of a legacy file and not its content: a copy that was current is so still. Not where times are
 * whole seconds: a change past the overlay in the same second could not be told from ours, so its content is looked at again.
 */
export function ctimeMoved(inode: Inode, stat: Stat): void {
  inode.fingerprint = fingerprintOf(stat)
  if (isWholeSeconds(stat.ctimeNs)) inode.dirty |= DIRTY_CONTENT
}

/** The store does not have the file as it is: notes why (a dirty bit), and that it is to be written. */
export function owe(catalog: Catalog, inode: Inode, why: number): void {
  catalog.transaction(() => {
    inode.dirty |= why
    catalog.save(inode)
    catalog.outbox.add('upload', inode.ino)
  })
}

/**
 * A stored file whose legacy file is not the one that was copied: somebody changed it past the overlay. The legacy file is newer
 * and wins, so from now on its copy is owed to the store like that of any other change. True if so.
 */
export function oweIfChangedPast(context: ContentContext, ino: bigint): boolean {
  const { catalog, log } = context
  const inode = catalog.get(ino)
  if (inode?.authority !== 'legacy' || inode.orphan || !isRegular(inode.mode) || !isStored(inode))
    return false
  try {
    if (matches(inode.fingerprint, legacyStat(context, inode))) return false
    owe(catalog, inode, DIRTY_CONTENT)
  } catch (error) {
    // Gone, a volume that does not answer, a catalog without room: no reason to fail whoever only reads. The next one asks again.
    if (error instanceof FsError) return false
    throw error
  }
  log.info(
    { ino: inode.ino.toString() },
    'a file was changed past the overlay: it is newer and is copied again',
  )
  return true
}

/** From now on until `namesRemoved` the ctime of the legacy file may move. To be flushed before a name is removed. */
export function expectMovingCtime({ catalog }: ContentContext, ino: bigint): void {
  catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode) return
    inode.fingerprint &&= { ...inode.fingerprint, ctimeNs: MOVING_CTIME }
    inode.superseded &&= { ...inode.superseded, ctimeNs: MOVING_CTIME }
    catalog.save(inode)
  })
}

/** No name was removed after all: the ctime counts again. */
export function ctimeStays({ catalog }: ContentContext, ino: bigint, before: LegacySeen): void {
  catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode) return
    if (inode.fingerprint?.ctimeNs === MOVING_CTIME) inode.fingerprint = before.fingerprint
    if (inode.superseded?.ctimeNs === MOVING_CTIME) inode.superseded = before.superseded
    catalog.save(inode)
  })
}

/**
 * We have removed names of the legacy file, or wanted to: notes which are left, and the ctime that it has now. In steps of one
 * transaction each; whoever stops in between begins again.
 */
export function* namesRemoved(context: ContentContext, ino: bigint): Generator<void> {
  const { catalog } = context
  const legacy = requireLegacy(context)
  const isThere = (place: LegacyPlace): Stat | undefined => {
    const stat = legacy.find(place)
    return stat && stat.ino === catalog.get(ino)?.legacyIno ? stat : undefined
  }
  // On a disk that is missing it was not removed.
  const isMissing = (place: LegacyPlace): boolean => {
    const inode = catalog.get(ino)
    return inode !== undefined && legacy.isMissing(inode, place)
  }
  let isAway = false
  for (const page of pagesOf(catalog.links.places(ino), NAMES_AT_ONCE)) {
    catalog.transaction(() => {
      for (const { parent, name } of page) {
        const now = catalog.dirents.get(parent, name)
        if (now?.legacy !== ino || isThere(now)) continue
        if (isMissing(now)) isAway = true
        else catalog.dirents.set(parent, name, now.ino, undefined)
      }
    })
    yield
  }
  catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode || isAway) return
    const left = catalog.links
      .places(ino)
      .map(isThere)
      .find((stat) => stat !== undefined)
    if (!left) {
      inode.legacyIno = undefined
      inode.fingerprint = undefined
      inode.superseded = undefined
      // Whatever kept the copy here before has passed.
      if (inode.dirty === 0) inode.failure = undefined
    } else if (matches(inode.fingerprint, left)) {
      inode.fingerprint = fingerprintOf(left)
    } else if (matches(inode.superseded, left)) {
      inode.superseded = fingerprintOf(left)
    }
    catalog.save(inode)
  })
}

/**
 * Where a legacy file is. The root has no place; everything else on the volume has one. Of a file with several names the one
 * that `legacy` has: another may have been removed past the overlay, or a power loss may have taken it.
 * @throws FsError EIO where it was mounted there, and is missing
 */
export function placeOf(catalog: Catalog, ino: bigint, legacy?: LegacyTree): LegacyPlace | undefined {
  const [first, second] = catalog.links.places(ino).take(2)
  const inode = catalog.get(ino)
  if (!legacy || !first || !inode) return first
  const isThere = (place: LegacyPlace): boolean =>
    legacy.find(place)?.ino === inode.legacyIno && !legacy.isMissing(inode, place)
  const there = second && catalog.links.places(ino).find(isThere)
  if (!there && legacy.isMissing(inode, first)) throw new FsError('EIO', NOT_MOUNTED)
  return there ?? first
}

/** Attributes as the legacy volume has them now. @throws FsError ENOENT if it is not there, EIO if the disk that it is on is not */
export function legacyStat(context: ContentContext, inode: Inode): Stat {
  const legacy = requireLegacy(context)
  if (inode.ino === 1n) return legacy.rootNow()
  let missing: FsError | undefined
  for (const place of context.catalog.links.places(inode.ino)) {
    let stat: Stat | undefined
    try {
      stat = legacy.findKnown(inode, place)
    } catch (error) {
      // It may have another name that is there.
      if (!isMissingDisk(error)) throw error
      missing = error
      continue
    }
    // A volume gives a number that has become free to what is made next, whatever kind of file that is.
    const isSame = stat && stat.ino === inode.legacyIno && legacy.deviceOf(stat) === inode.legacyDev
    if (stat && isSame && isSameKind(stat.mode, inode.mode)) return stat
  }
  if (missing) throw missing
  throw new FsError('ENOENT', 'the file is not on the legacy volume any more')
}

export function requireLegacy(context: ContentContext): LegacyTree {
  const legacy = context.legacy()
  if (!legacy) throw new FsError('EIO', 'the legacy volume is detached')
  return legacy
}

/**
 * Runs `body`, which changes something on the volume within this tick, in the name of who asked for it: so the volume keeps from
 * him what it keeps for root, and a quota counts.
 */
export function asCaller<T>(context: ContentContext, caller: Caller, body: () => T): T {
  const legacy = context.legacy()
  return legacy ? legacy.as(caller, body) : body()
}

/** Copies what stat(2) says into the inode. */
export function adoptAttributes(inode: Inode, stat: Stat): void {
  inode.mode = stat.mode
  inode.uid = stat.uid
  inode.gid = stat.gid
  inode.nlink = stat.nlink
  inode.rdev = stat.rdev
  inode.size = stat.size
  inode.blocks = stat.blocks
  inode.atimeNs = stat.atimeNs
  inode.mtimeNs = stat.mtimeNs
  inode.ctimeNs = stat.ctimeNs
  inode.flags = stat.flags
}

/**
 * Names of a file that the catalog alone has: some had gone from the volume when it was given back. Of a file with very many, which
 * would take a turn to count, none.
 */
function ownNames(catalog: Catalog, ino: bigint): number {
  const names = catalog.links
    .of(ino)
    .take(NAMES_AT_ONCE + 1)
    .toArray()
  return names.length > NAMES_AT_ONCE ? 0 : names.filter(({ legacy }) => legacy !== ino).length
}

/** All extended attributes of a legacy file as a blob. @throws FsError E2BIG if they are more than ferryfs keeps */
export function readLegacyXattrs(legacy: LegacyTree, place: LegacyPlace): Buffer | undefined {
  const directory = legacy.directory(place.parent)
  const xattrs = new Map<string, Buffer>()
  try {
    for (const name of listXattrs(directory, place.name)) {
      xattrs.set(name.toString('latin1'), getXattr(directory, place.name, name))
    }
  } catch (error) {
    if (!(error instanceof FsError && error.errno === constants.errno.EOPNOTSUPP)) throw error
  }
  const blob = encodeXattrs(xattrs)
  const length = blob?.length ?? 0
  if (length > MOST_XATTR_BYTES)
    throw new FsError('E2BIG', `extended attributes of ${length} bytes; at most ${MOST_XATTR_BYTES}`)
  return blob
}

/**
 * Makes the catalog the authority on a file: its attributes, xattrs and link target are copied, its content keeps
 * coming from where it is (the store if its copy is current, else the legacy file) until changed. Within one tick.
 * @throws FsError if the legacy file cannot be read
 */
export function takeOver(context: ContentContext, ino: bigint): Inode {
  const { catalog } = context
  return catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode) throw new FsError('ENOENT')
    if (inode.authority === 'catalog') return inode
    if (context.activity.isWritingVolume(ino)) {
      throw new FsError('EAGAIN', `inode ${ino} is being written on the legacy volume`)
    }
    const legacy = requireLegacy(context)
    const stat = legacyStat(context, inode)
    const place = ino === 1n ? { parent: 1n, name: Buffer.from('.') } : placeOf(catalog, ino, legacy)
    if (!place) throw new FsError('ENOENT')
    const inStore = isStored(inode) && (!isRegular(stat.mode) || matches(inode.fingerprint, stat))
    adoptAttributes(inode, stat)
    if (!isDirectory(stat.mode)) inode.nlink += ownNames(catalog, ino)
    inode.xattrs = readLegacyXattrs(legacy, place)
    if (isSymlink(stat.mode)) inode.target = legacy.target(place)
    inode.authority = 'catalog'
    if (isRegular(stat.mode)) {
      inode.base = inStore ? 'store' : 'legacy'
      inode.baseLimit = chunkCount(stat.size)
      inode.fingerprint = fingerprintOf(stat)
      inode.superseded = undefined
    } else if (isDirectory(stat.mode)) {
      inode.fingerprint = guardsSeen(stat.flags)
      // It is there: nobody looks for it on the volume any more who would find that out.
      if (tellsMissingDisk(inode.failure)) inode.failure = undefined
    }
    if (!inStore && inode.version > 0 && !isDirectory(stat.mode)) {
      inode.dirty |= DIRTY_CONTENT
      catalog.outbox.add('upload', ino)
    }
    catalog.save(inode)
    context.activity.onOwned(ino)
    return inode
  })
}

/**
 * Gives a file back to the legacy volume because somebody changed it there, past the overlay, before it was removed:
 * the legacy file is newer and wins. Only for a file without changes of its own.
 */
export function giveBack(context: ContentContext, ino: bigint): void {
  const { catalog } = context
  const given = catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (inode?.authority !== 'catalog' || inode.staged || inode.legacyIno === undefined) return false
    inode.authority = 'legacy'
    inode.base = 'none'
    inode.baseLimit = 0
    inode.fingerprint = undefined
    inode.superseded = undefined
    inode.xattrs = undefined
    inode.dirty |= DIRTY_CONTENT
    catalog.save(inode)
    catalog.outbox.add('upload', ino)
    return true
  })
  if (given) context.activity.onGivenBack(ino)
}
