import { MOST_XATTR_NAMES_BYTES } from '../base/attribute-ranges.ts'
import {
  type Attributes,
  isDirectory,
  isRegular,
  isSymlink,
  S_ISGID,
  S_ISUID,
  S_IXGRP,
} from '../base/attributes.ts'
import { nowNs } from '../base/clock.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { isOwnXattr } from '../base/own-names.ts'
import {
  attributesOf,
  DIRTY_CONTENT,
  DIRTY_METADATA,
  type Inode,
  isStored,
  ROOT_INO,
} from '../catalog/index.ts'
import {
  adoptAttributes,
  decodeXattrs,
  encodeXattrs,
  ctimeMoved,
  legacyStat,
  matches,
  owe,
  placeOf,
  asCaller,
  requireLegacy,
  takeOver,
} from '../content/index.ts'
import type { AttributeChanges, RequestContext } from '../fuse/operations.ts'
import type { LegacyPlace } from '../legacy/index.ts'
import {
  chmodAt,
  chmodDescriptor,
  chownAt,
  chownDescriptor,
  getXattr,
  isInGroup,
  listXattrs,
  removeXattr,
  type Stat,
  setXattr,
  UTIME_OMIT,
  utimensAt,
  utimensDescriptor,
  xattrsOfOpen,
} from '../sys/index.ts'
import { ACL_ACCESS, ACL_DEFAULT, chmodAcl, decodeAcl, modeOfAcl } from './acl.ts'
import type { OverlayContext } from './context.ts'
import { requireSettable, requireUnguarded } from './guards.ts'
import { UnflushedMarks } from './marks.ts'
import { hasGonePast, type Names, servesWithoutVolume } from './names.ts'

// linux/xattr.h
const XATTR_CREATE = 1
const XATTR_REPLACE = 2
const XATTR_SIZE_MAX = 65536
// All of a file, in the catalog: ext4 has a block for them, others have more.
const XATTRS_MAX = 2 * XATTR_SIZE_MAX
// What one block of 4 KiB takes, in those of stat(2).
const LEAST_BLOCKS = 8
const CAPABILITY = 'security.capability'
const ACLS: ReadonlySet<string> = new Set([ACL_ACCESS, ACL_DEFAULT])

/** Attributes and extended attributes, read and changed on the side that has the authority. */
export class AttributeOperations {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #marks: UnflushedMarks

  constructor(context: OverlayContext, names: Names) {
    this.#context = context
    this.#names = names
    this.#marks = new UnflushedMarks(context.catalog)
  }

  /** @throws FsError ESTALE */
  get(ino: bigint): Attributes {
    const inode = this.#names.inode(ino)
    const stat = inode.authority === 'catalog' ? undefined : this.stat(inode)
    if (!stat) return shown(inode, this.#own(inode))
    adoptAttributes(inode, stat)
    return shown(inode, stat)
  }

  /**
   * As the catalog has them. What has data has blocks, wherever that is and whatever became of it: to tar a file without any is one
   * hole, and is not read.
   */
  #own(inode: Inode): Attributes {
    const attributes = attributesOf(inode)
    if (inode.blocks > 0 || !isRegular(inode.mode) || !this.#context.reader.mayHaveData(inode))
      return attributes
    return { ...attributes, blocks: LEAST_BLOCKS }
  }

  /** stat(2) of a legacy file; `undefined` where the volume fails and the store has what is needed. */
  stat(inode: Inode): Stat | undefined {
    const { legacyFiles } = this.#context
    if (legacyFiles.isHeld(inode.ino)) return legacyFiles.statOpen(inode.ino)
    if (inode.orphan) return undefined
    try {
      return legacyStat(this.#context, inode)
    } catch (error) {
      if (servesWithoutVolume(this.#context, inode, error)) return undefined
      // Known by its number, but its names are gone: on ESTALE the kernel looks the path up again, so that whoever
      // replaced the file past the overlay is not answered with "no such file".
      if (error instanceof FsError && error.code === 'ENOENT') throw new FsError('ESTALE', error.message)
      throw error
    }
  }

  /**
   * A file or directory is opened by its number. @throws FsError ESTALE if the name that led to it has gone past the overlay: on that
   * the kernel looks the path up again
   */
  requireThere(inode: Inode): void {
    if (inode.authority !== 'legacy') return
    if (hasGonePast(inode) && !this.#context.legacyFiles.isHeld(inode.ino))
      throw new FsError('ESTALE', `inode ${inode.ino} is gone`)
    this.stat(inode)
  }

  async set(ino: bigint, changes: AttributeChanges, request: RequestContext): Promise<Attributes> {
    let inode = this.#names.inode(ino)
    if (inode.authority === 'legacy' && this.#context.policy().writeTo === 'store' && !inode.orphan) {
      inode = takeOver(this.#context, ino)
    }
    if (inode.authority === 'catalog') requireSettable(inode, changes)
    if (changes.size !== undefined) await this.#resize(inode, changes.size, request)
    faultPoint('overlay.setattr.resized')
    inode = this.#names.inode(ino)
    if (inode.authority === 'catalog') this.#setOwn(inode, changes, request)
    else this.#setLegacy(inode, changes, request)
    faultPoint('overlay.setattr.done')
    return this.get(ino)
  }

  /** Content is about to change on the legacy volume: the catalog says so first, and durably against a kill. */
  markDirty(inode: Inode): void {
    const { catalog } = this.#context
    if ((inode.dirty & DIRTY_CONTENT) !== 0 && catalog.outbox.find('upload', inode.ino)) return
    if (inode.orphan) return
    owe(catalog, inode, DIRTY_CONTENT)
    this.#marks.note(inode)
  }

  /** Bytes of a marked legacy file are about to change in place, from `offset` on; undefined: at once. @throws FsError */
  beforeBytes(inode: Inode, offset: number): Promise<void> | undefined {
    return this.#marks.before(inode.ino, offset, () => this.stat(inode)?.size)
  }

  /**
   * Clears the set-id bits, before an unprivileged process changes bytes: nobody is to run its bytes as the owner, not even
   * where a crash comes in between.
   */
  killSetId(ino: bigint, caller: RequestContext): void {
    const inode = this.#names.inode(ino)
    const now = inode.authority === 'legacy' ? this.stat(inode) : inode
    if (!now) return
    const mode = withoutSetId(now, caller)
    if (mode === now.mode) return
    if (inode.authority === 'legacy') this.#setLegacy(inode, { mode: mode & 0o7777 }, caller)
    else this.#setOwn(inode, { mode: mode & 0o7777 }, caller)
  }

  // ---- extended attributes

  hasXattr(ino: bigint, name: Buffer): boolean {
    try {
      this.getXattr(ino, name)
      return true
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENODATA') return false
      throw error
    }
  }

  /** `killSgid`: the set-group-id bit goes with the ACL that is set. */
  setXattr(
    request: RequestContext,
    ino: bigint,
    name: Buffer,
    value: Buffer,
    { flags, killSgid }: { readonly flags: number; readonly killSgid: boolean },
  ): void {
    if (isOwnXattr(name.toString('latin1'))) throw new FsError('EPERM', 'the name is kept by ferryfs')
    const inode = this.#owner(ino)
    if (this.#isHeld(inode)) {
      this.#context.legacyFiles.withWriter(ino, (descriptor) => {
        asCaller(this.#context, request, () => xattrsOfOpen.set(descriptor, name, value, flags))
        if (killSgid)
          chmodDescriptor(descriptor, this.#context.legacyFiles.statOpen(ino).mode & 0o7777 & ~S_ISGID)
      })
      return
    }
    if (inode.authority === 'legacy') {
      this.aroundLegacy(inode, (place, directory) => {
        asCaller(this.#context, request, () => setXattr(directory, place.name, name, value, flags))
        if (killSgid) {
          const { mode } = legacyStat(this.#context, inode)
          chmodAt(directory, place.name, mode & 0o7777 & ~S_ISGID)
        }
      })
      return
    }
    this.#changeXattrs(inode, name, (xattrs, key) => {
      if (value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG')
      if ((flags & XATTR_CREATE) !== 0 && xattrs.has(key)) throw new FsError('EEXIST')
      if ((flags & XATTR_REPLACE) !== 0 && !xattrs.has(key)) throw new FsError('ENODATA')
      if (key === ACL_ACCESS) {
        const { mode, keep } = modeOfAcl(value, inode.mode)
        inode.mode = killSgid ? mode & ~S_ISGID : mode
        if (keep) xattrs.set(key, Buffer.from(value))
        else xattrs.delete(key)
      } else if (key === ACL_DEFAULT) {
        if (!isDirectory(inode.mode)) throw new FsError('EACCES')
        if (decodeAcl(value).length === 0) xattrs.delete(key)
        else xattrs.set(key, Buffer.from(value))
      } else {
        xattrs.set(key, Buffer.from(value))
      }
    })
  }

  removeXattr(ino: bigint, name: Buffer): void {
    if (isOwnXattr(name.toString('latin1'))) throw new FsError('ENODATA')
    const inode = this.#owner(ino)
    if (this.#isHeld(inode)) {
      this.#context.legacyFiles.withWriter(ino, (descriptor) => xattrsOfOpen.remove(descriptor, name))
      return
    }
    if (inode.authority === 'legacy') {
      this.aroundLegacy(inode, (place, directory) => removeXattr(directory, place.name, name))
      return
    }
    const key = name.toString('latin1')
    // Removing the ACL that a file does not have succeeds and changes nothing (posix_acl.c sets it to none).
    if (ACLS.has(key) && !decodeXattrs(inode.xattrs).has(key)) return
    this.#changeXattrs(inode, name, (xattrs) => {
      if (!xattrs.delete(key)) throw new FsError('ENODATA')
    })
  }

  getXattr(ino: bigint, name: Buffer): Buffer {
    if (isOwnXattr(name.toString('latin1'))) throw new FsError('ENODATA')
    const inode = this.#names.inode(ino)
    if (this.#isHeld(inode)) {
      return this.#context.legacyFiles.withWriter(ino, (descriptor) => xattrsOfOpen.get(descriptor, name))
    }
    if (inode.authority === 'legacy') {
      const value = this.#onVolume(inode, (directory, file) => getXattr(directory, file, name))
      if (value === undefined) throw new FsError('ENODATA')
      return value
    }
    requireSupported(name)
    const value = decodeXattrs(inode.xattrs).get(name.toString('latin1'))
    if (!value) throw new FsError('ENODATA')
    return value
  }

  listXattrs(ino: bigint): Buffer[] {
    const inode = this.#names.inode(ino)
    if (this.#isHeld(inode)) return this.#context.legacyFiles.withWriter(ino, xattrsOfOpen.list)
    if (inode.authority === 'legacy') {
      const names = this.#onVolume(inode, listXattrs) ?? []
      return names.filter((name) => !isOwnXattr(name.toString('latin1')))
    }
    return [...decodeXattrs(inode.xattrs).keys()].map((name) => Buffer.from(name, 'latin1'))
  }

  /**
   * Looks at a legacy file where it is; `undefined` of a directory that has been removed, of which nothing can be known any more.
   * @throws FsError ESTALE if the file has gone past the overlay: on that the kernel looks the path up again
   */
  #onVolume<T>(inode: Inode, look: (directory: number, file: Buffer) => T): T | undefined {
    const place = this.#place(inode)
    if (!place && isDirectory(inode.mode)) return undefined
    try {
      if (!place) throw new FsError('ESTALE', `inode ${inode.ino} is gone`)
      // Another file may have its name by now.
      this.stat(inode)
      return look(requireLegacy(this.#context).directory(place.parent), place.name)
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENOENT') throw new FsError('ESTALE', error.message)
      throw error
    }
  }

  #owner(ino: bigint): Inode {
    const inode = this.#names.inode(ino)
    const takes = inode.authority === 'legacy' && this.#context.policy().writeTo === 'store' && !inode.orphan
    return takes ? takeOver(this.#context, ino) : inode
  }

  #changeXattrs(
    inode: Inode,
    name: Buffer,
    change: (xattrs: Map<string, Buffer>, key: string) => void,
  ): void {
    requireSupported(name)
    requireUnguarded(inode)
    // user.* only where a mode of its own says who may (xattr(7)).
    if (isUser(name) && !isRegular(inode.mode) && !isDirectory(inode.mode)) throw new FsError('EPERM')
    this.alterOwn(inode, () => {
      const xattrs = decodeXattrs(inode.xattrs)
      change(xattrs, name.toString('latin1'))
      const before = inode.xattrs?.length ?? 0
      inode.xattrs = encodeXattrs(xattrs)
      const bytes = inode.xattrs?.length ?? 0
      // Each change writes all of them. What a volume had more of stays.
      if (bytes > XATTRS_MAX && bytes > before)
        throw new FsError('ENOSPC', `extended attributes of ${bytes} bytes; at most ${XATTRS_MAX}`)
      // Nobody could list them any more, so no program could copy the file with all of them.
      const names = [...xattrs.keys()].reduce((sum, key) => sum + key.length + 1, 0)
      if (names > MOST_XATTR_NAMES_BYTES && bytes > before)
        throw new FsError('ENOSPC', `names of extended attributes of ${names} bytes`)
    })
  }

  async #resize(inode: Inode, size: number, request: RequestContext): Promise<void> {
    if (isDirectory(inode.mode)) throw new FsError('EISDIR')
    if (!isRegular(inode.mode)) throw new FsError('EINVAL')
    const { activity, writer, legacyFiles } = this.#context
    if (inode.authority === 'catalog') {
      await writer.truncate(inode.ino, size, request.signal)
      return
    }
    this.markDirty(inode)
    faultPoint('overlay.truncate.dirty')
    await activity.writingVolume(inode.ino, () => legacyFiles.truncate(inode.ino, size))
    activity.changed(inode.ino)
  }

  #setOwn(inode: Inode, changes: AttributeChanges, caller: RequestContext): void {
    const { mode, uid, gid, atime, mtime, ctimeNs, killSuidGid } = changes
    const owner = uid !== undefined || gid !== undefined
    // A change of size alone is done: the truncation has set the times, too.
    if (mode === undefined && !owner && atime === undefined && mtime === undefined && !killSuidGid) return
    this.alterOwn(
      inode,
      () => {
        const now = nowNs()
        // By the group that it has had: chown_common() in fs/open.c.
        if (owner || killSuidGid) inode.mode = withoutSetId(inode, caller)
        inode.uid = uid ?? inode.uid
        inode.gid = gid ?? inode.gid
        if (mode !== undefined) inode.mode = (inode.mode & ~0o7777) | (mode & 0o7777)
        const xattrs = decodeXattrs(inode.xattrs)
        const acl = xattrs.get(ACL_ACCESS)
        if (mode !== undefined && acl) xattrs.set(ACL_ACCESS, chmodAcl(acl, mode))
        if (owner || killSuidGid) xattrs.delete(CAPABILITY)
        inode.xattrs = encodeXattrs(xattrs)
        if (atime !== undefined) inode.atimeNs = atime === 'now' ? now : atime
        if (mtime !== undefined) inode.mtimeNs = mtime === 'now' ? now : mtime
      },
      ctimeNs,
    )
  }

  /** Changes what the catalog has the authority on. */
  alterOwn(inode: Inode, alter: () => void, leastCtimeNs = 0n): void {
    const { catalog, activity } = this.#context
    catalog.transaction(() => {
      alter()
      const now = nowNs()
      inode.ctimeNs = leastCtimeNs > now ? leastCtimeNs : now
      activity.changed(inode.ino)
      if (isDirectory(inode.mode)) {
        catalog.records.touchHeader(inode.ino)
      } else if (!inode.orphan) {
        inode.dirty |= DIRTY_METADATA
        catalog.outbox.add('upload', inode.ino)
      }
      catalog.save(inode)
    })
  }

  #setLegacy(inode: Inode, changes: AttributeChanges, caller: RequestContext): void {
    const { mode, uid, gid, atime, mtime, killSuidGid } = changes
    const stat = this.stat(inode)
    const owner = uid !== undefined || gid !== undefined
    const killed =
      (killSuidGid || owner) && stat && mode === undefined ? withoutSetId(stat, caller) : undefined
    const newMode = mode ?? (killed !== stat?.mode ? killed : undefined)
    const times = atime !== undefined || mtime !== undefined
    if (newMode === undefined && !owner && !times) return
    if (this.#context.legacyFiles.isHeld(inode.ino)) {
      this.#setHeld(inode.ino, { ...changes, ...(newMode === undefined ? {} : { mode: newMode }) })
      return
    }
    this.aroundLegacy(inode, (place, directory) => {
      if (owner) chownAt(directory, place.name, uid, gid)
      faultPoint('overlay.attributes.owned')
      if (newMode !== undefined && !isSymlink(inode.mode)) chmodAt(directory, place.name, newMode & 0o7777)
      if (times) utimensAt(directory, place.name, atime ?? UTIME_OMIT, mtime ?? UTIME_OMIT)
    })
  }

  #setHeld(ino: bigint, { mode, uid, gid, atime, mtime }: AttributeChanges): void {
    this.#context.legacyFiles.withWriter(ino, (descriptor) => {
      if (uid !== undefined || gid !== undefined) {
        const stat = this.#context.legacyFiles.statOpen(ino)
        chownDescriptor(descriptor, uid ?? stat.uid, gid ?? stat.gid)
      }
      if (mode !== undefined) chmodDescriptor(descriptor, mode & 0o7777)
      if (atime !== undefined || mtime !== undefined) {
        utimensDescriptor(descriptor, atime ?? UTIME_OMIT, mtime ?? UTIME_OMIT)
      }
    })
  }

  /**
   * Changes attributes on the volume. The store's copy of the content stays current if it was: only its metadata is
   * written again. `dirty` is committed before the change.
   */
  aroundLegacy(inode: Inode, change: (place: LegacyPlace, directory: number) => void): void {
    const { catalog, activity } = this.#context
    const place = this.#place(inode)
    if (!place) throw new FsError('ENOENT')
    const current =
      isRegular(inode.mode) && isStored(inode) && matches(inode.fingerprint, legacyStat(this.#context, inode))
    const recorded = isDirectory(inode.mode) ? inode.dirGeneration > 0 : inode.version > 0
    if (recorded) {
      catalog.transaction(() => {
        if (isDirectory(inode.mode)) {
          catalog.records.touchHeader(inode.ino)
          return
        }
        inode.dirty |= DIRTY_METADATA
        catalog.save(inode)
        catalog.outbox.add('upload', inode.ino)
      })
    }
    faultPoint('overlay.attributes.dirty')
    change(place, requireLegacy(this.#context).directory(place.parent))
    activity.changed(inode.ino)
    faultPoint('overlay.attributes.changed')
    if (!current) return
    catalog.transaction(() => {
      ctimeMoved(inode, legacyStat(this.#context, inode))
      catalog.save(inode)
    })
  }

  /** A legacy file without a name, reached through its descriptor. */
  #isHeld(inode: Inode): boolean {
    return inode.authority === 'legacy' && this.#context.legacyFiles.isHeld(inode.ino)
  }

  #place(inode: Inode): LegacyPlace | undefined {
    if (inode.ino === ROOT_INO) return { parent: ROOT_INO, name: Buffer.from('.') }
    return placeOf(this.#context.catalog, inode.ino, this.#context.legacy())
  }
}

/** Attributes as applications see them: the root keeps its legacy inode number, though the kernel calls it 1. */
function shown(inode: Inode, attributes: Attributes): Attributes {
  const ino = inode.ino === ROOT_INO ? (inode.legacyIno ?? ROOT_INO) : inode.ino
  return { ...attributes, ino }
}

const isUser = (name: Buffer): boolean => name.subarray(0, 5).equals(Buffer.from('user.'))

/**
 * Namespaces of xattr(7); access to them is the kernel's to check.
 * @throws FsError EINVAL for a namespace without a name in it, EOPNOTSUPP for one that there is not, as xattr_resolve_name()
 */
function requireSupported(name: Buffer): void {
  const text = name.toString('latin1')
  if (/^(user|trusted|security)\.$/.test(text)) throw new FsError('EINVAL')
  const isSupported = /^(user|trusted|security)\../s.test(text) || text === ACL_ACCESS || text === ACL_DEFAULT
  if (!isSupported) throw new FsError('EOPNOTSUPP')
}

/**
 * What of a file's mode is left when an unprivileged process changes it: no setuid, and no setgid where the group may execute or
 * the process is not in it (setattr_should_drop_sgid() in fs/attr.c).
 */
function withoutSetId(
  { mode, gid }: { readonly mode: number; readonly gid: number },
  caller: RequestContext,
): number {
  if (isDirectory(mode)) return mode
  const lessUser = mode & ~S_ISUID
  if ((mode & S_ISGID) === 0) return lessUser
  const keeps = (mode & S_IXGRP) === 0 && (caller.uid === 0 || isInGroup(caller, gid))
  return keeps ? lessUser : lessUser & ~S_ISGID
}
