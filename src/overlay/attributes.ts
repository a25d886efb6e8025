import { fchmodSync, fchownSync, ftruncateSync } from 'node:fs'
import { type Attributes, isDirectory, isRegular, isSymlink, S_ISGID } from '../base/attributes.ts'
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
  requireLegacy,
  takeOver,
  withoutSetId,
} from '../content/index.ts'
import type { AttributeChanges, RequestContext } from '../fuse/operations.ts'
import type { LegacyPlace } from '../legacy/index.ts'
import {
  chmodAt,
  chownAt,
  getXattr,
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
import { UnflushedMarks } from './marks.ts'
import { type Names, servesWithoutVolume } from './names.ts'

// linux/xattr.h
const XATTR_CREATE = 1
const XATTR_REPLACE = 2
const XATTR_SIZE_MAX = 65536
// All of a file, in the catalog: ext4 has a block for them, others have more.
const XATTRS_MAX = 2 * XATTR_SIZE_MAX
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
    if (inode.authority === 'catalog') return shown(inode, attributesOf(inode))
    const stat = this.stat(inode)
    if (!stat) return shown(inode, attributesOf(inode))
    adoptAttributes(inode, stat)
    return shown(inode, stat)
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

  async set(ino: bigint, changes: AttributeChanges, request: RequestContext): Promise<Attributes> {
    let inode = this.#names.inode(ino)
    if (inode.authority === 'legacy' && this.#context.policy().writeTo === 'store' && !inode.orphan) {
      inode = takeOver(this.#context, ino)
    }
    if (changes.size !== undefined) await this.#resize(inode, changes.size, request)
    faultPoint('overlay.setattr.resized')
    inode = this.#names.inode(ino)
    if (inode.authority === 'catalog') this.#setOwn(inode, changes)
    else this.#setLegacy(inode, changes)
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

  /** After a write by an unprivileged process: clears the set-id bits. */
  killSetId(ino: bigint): void {
    const inode = this.#names.inode(ino)
    if (inode.authority !== 'legacy') return
    const stat = this.stat(inode)
    if (stat && withoutSetId(stat.mode) !== stat.mode) {
      this.#setLegacy(inode, { mode: withoutSetId(stat.mode) & 0o7777 })
    }
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
  setXattr(ino: bigint, name: Buffer, value: Buffer, flags: number, killSgid: boolean): void {
    if (isOwnXattr(name.toString('latin1'))) throw new FsError('EPERM', 'the name is kept by ferryfs')
    const inode = this.#owner(ino)
    if (this.#isHeld(inode)) {
      this.#context.legacyFiles.withWriter(ino, (descriptor) => {
        xattrsOfOpen.set(descriptor, name, value, flags)
        if (killSgid) fchmodSync(descriptor, this.#context.legacyFiles.statOpen(ino).mode & 0o7777 & ~S_ISGID)
      })
      return
    }
    if (inode.authority === 'legacy') {
      this.#aroundLegacy(inode, (place, directory) => {
        setXattr(directory, place.name, name, value, flags)
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
      this.#aroundLegacy(inode, (place, directory) => removeXattr(directory, place.name, name))
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
      const place = this.#place(inode)
      if (!place) throw new FsError('ENODATA')
      return getXattr(requireLegacy(this.#context).directory(place.parent), place.name, name)
    }
    if (!isSupported(name)) throw new FsError('EOPNOTSUPP')
    const value = decodeXattrs(inode.xattrs).get(name.toString('latin1'))
    if (!value) throw new FsError('ENODATA')
    return value
  }

  listXattrs(ino: bigint): Buffer[] {
    const inode = this.#names.inode(ino)
    if (this.#isHeld(inode)) return this.#context.legacyFiles.withWriter(ino, xattrsOfOpen.list)
    if (inode.authority === 'legacy') {
      const place = this.#place(inode)
      const names = place ? listXattrs(requireLegacy(this.#context).directory(place.parent), place.name) : []
      return names.filter((name) => !isOwnXattr(name.toString('latin1')))
    }
    return [...decodeXattrs(inode.xattrs).keys()].map((name) => Buffer.from(name, 'latin1'))
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
    if (!isSupported(name)) throw new FsError('EOPNOTSUPP')
    // user.* only where a mode of its own says who may (xattr(7)).
    if (isUser(name) && !isRegular(inode.mode) && !isDirectory(inode.mode)) throw new FsError('EPERM')
    this.#alterOwn(inode, () => {
      const xattrs = decodeXattrs(inode.xattrs)
      change(xattrs, name.toString('latin1'))
      const before = inode.xattrs?.length ?? 0
      inode.xattrs = encodeXattrs(xattrs)
      const bytes = inode.xattrs?.length ?? 0
      // Each change writes all of them. What a volume had more of stays.
      if (bytes > XATTRS_MAX && bytes > before)
        throw new FsError('ENOSPC', `extended attributes of ${bytes} bytes; at most ${XATTRS_MAX}`)
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
    legacyFiles.withWriter(inode.ino, (descriptor) => ftruncateSync(descriptor, size))
    activity.changed(inode.ino)
  }

  #setOwn(inode: Inode, changes: AttributeChanges): void {
    const { mode, uid, gid, atime, mtime, ctimeNs, killSuidGid } = changes
    const owner = uid !== undefined || gid !== undefined
    // A change of size alone is done: the truncation has set the times, too.
    if (mode === undefined && !owner && atime === undefined && mtime === undefined && !killSuidGid) return
    this.#alterOwn(
      inode,
      () => {
        const now = nowNs()
        if (owner) {
          inode.uid = uid ?? inode.uid
          inode.gid = gid ?? inode.gid
          if (!isDirectory(inode.mode)) inode.mode = withoutSetId(inode.mode)
        }
        if (killSuidGid && !isDirectory(inode.mode)) inode.mode = withoutSetId(inode.mode)
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

  #alterOwn(inode: Inode, alter: () => void, leastCtimeNs = 0n): void {
    const { catalog, activity } = this.#context
    catalog.transaction(() => {
      alter()
      const now = nowNs()
      inode.ctimeNs = leastCtimeNs > now ? leastCtimeNs : now
      activity.changed(inode.ino)
      if (isDirectory(inode.mode)) {
        catalog.touchHeader(inode.ino)
      } else if (!inode.orphan) {
        inode.dirty |= DIRTY_METADATA
        catalog.outbox.add('upload', inode.ino)
      }
      catalog.save(inode)
    })
  }

  #setLegacy(inode: Inode, changes: AttributeChanges): void {
    const { mode, uid, gid, atime, mtime, killSuidGid } = changes
    const stat = this.stat(inode)
    const killed = killSuidGid && stat && mode === undefined ? withoutSetId(stat.mode) : undefined
    const newMode = mode ?? (killed !== stat?.mode ? killed : undefined)
    const times = atime !== undefined || mtime !== undefined
    if (newMode === undefined && uid === undefined && gid === undefined && !times) return
    if (this.#context.legacyFiles.isHeld(inode.ino)) {
      this.#setHeld(inode.ino, { ...changes, ...(newMode === undefined ? {} : { mode: newMode }) })
      return
    }
    this.#aroundLegacy(inode, (place, directory) => {
      if (uid !== undefined || gid !== undefined) chownAt(directory, place.name, uid, gid)
      faultPoint('overlay.attributes.owned')
      if (newMode !== undefined && !isSymlink(inode.mode)) chmodAt(directory, place.name, newMode & 0o7777)
      if (times) utimensAt(directory, place.name, atime ?? UTIME_OMIT, mtime ?? UTIME_OMIT)
    })
  }

  #setHeld(ino: bigint, { mode, uid, gid, atime, mtime }: AttributeChanges): void {
    this.#context.legacyFiles.withWriter(ino, (descriptor) => {
      if (uid !== undefined || gid !== undefined) {
        const stat = this.#context.legacyFiles.statOpen(ino)
        fchownSync(descriptor, uid ?? stat.uid, gid ?? stat.gid)
      }
      if (mode !== undefined) fchmodSync(descriptor, mode & 0o7777)
      if (atime !== undefined || mtime !== undefined) {
        utimensDescriptor(descriptor, atime ?? UTIME_OMIT, mtime ?? UTIME_OMIT)
      }
    })
  }

  /**
   * Changes attributes on the volume. The store's copy of the content stays current if it was: only its metadata is
   * written again. `dirty` is committed before the change.
   */
  #aroundLegacy(inode: Inode, change: (place: LegacyPlace, directory: number) => void): void {
    const { catalog, activity } = this.#context
    const place = this.#place(inode)
    if (!place) throw new FsError('ENOENT')
    const current =
      isRegular(inode.mode) && isStored(inode) && matches(inode.fingerprint, legacyStat(this.#context, inode))
    const recorded = isDirectory(inode.mode) ? inode.dirGeneration > 0 : inode.version > 0
    if (recorded) {
      catalog.transaction(() => {
        if (isDirectory(inode.mode)) {
          catalog.touchHeader(inode.ino)
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

/** Namespaces of xattr(7); access to them is the kernel's to check. */
function isSupported(name: Buffer): boolean {
  const text = name.toString('latin1')
  return /^(user|trusted|security)\../s.test(text) || text === ACL_ACCESS || text === ACL_DEFAULT
}
