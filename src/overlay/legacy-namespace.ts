import { constants } from 'node:fs'
import { isDirectory, isRegular, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../base/attributes.ts'
import { FsError, Unanswered } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { isGuarded } from '../base/inode-flags.ts'
import { DIRTY_CONTENT, DIRTY_METADATA, type Inode, isStored } from '../catalog/index.ts'
import { ctimeMoved, legacyStat, matches, owe, placeOf, requireLegacy } from '../content/index.ts'
import type { RequestContext } from '../fuse/operations.ts'
import {
  AT_REMOVEDIR,
  chmodAt,
  chownAt,
  closeDescriptor,
  linkAt,
  linkDescriptor,
  mkdirAt,
  mknodAt,
  openAt,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  renameAt,
  type Stat,
  symlinkAt,
  unlinkAt,
} from '../sys/index.ts'
import type { Answers } from './answers.ts'
import type { OverlayContext } from './context.ts'
import type { LegacyIntent } from './intents.ts'
import { encodeIntent } from './intents.ts'
import type { Names, Resolved } from './names.ts'
import { ownerToGive } from './new-owner.ts'

/** All that the end of an operation needs of the request: where its answer is recorded. */
type RequestId = Pick<RequestContext, 'unique'>

/** What is to be made: mode with its type bits; a target for a symlink, a device number for a device. */
export interface NewFile {
  readonly mode: number
  readonly rdev: number
  readonly target: Buffer | undefined
}

/** As renameat2(2). @throws FsError EINVAL */
export function requireKnownFlags(flags: number): void {
  const known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT
  const contradict = (flags & RENAME_EXCHANGE) !== 0 && flags !== RENAME_EXCHANGE
  if ((flags & ~known) !== 0 || contradict) throw new FsError('EINVAL')
}

/**
 * Changes of names where the legacy volume is the authority: the volume is changed, the catalog follows.
 *
 * Crash points, each with the same outcome for the application: before the intent (nothing happened), between intent and
 * effect (recovery sees that the volume is unchanged and forgets the intent), between effect and transaction (recovery
 * sees the change, completes it and records the answer), after the transaction (the answer is there). A transaction that finds
 * no room is like a crash before it, but for `create` and `link`, which are taken back.
 */
export class LegacyNamespace {
  /** Requests whose effect is, or may be, on the volume and not in the catalog. */
  readonly unfinished = new Set<bigint>()
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #answers: Answers

  constructor(context: OverlayContext, names: Names, answers: Answers) {
    this.#context = context
    this.#names = names
    this.#answers = answers
  }

  create(request: RequestContext, parent: bigint, name: Buffer, file: NewFile): Resolved {
    const { catalog } = this.#context
    if (this.#names.find(parent, name)) throw new FsError('EEXIST')
    this.#intend(request, {
      kind: 'create',
      parent,
      name,
      ...file,
      uid: request.uid,
      gid: request.gid,
      umask: request.umask,
    })
    try {
      this.#make(request, parent, name, file)
    } catch (error) {
      this.#abandon(request, error)
      throw error
    }
    faultPoint('overlay.create.effect')
    try {
      return catalog.transaction(() => this.finishCreate(request, parent, name, request))
    } catch (error) {
      const flags = (file.mode & S_IFMT) === S_IFDIR ? AT_REMOVEDIR : 0
      throw this.#takenBack(request, error, () =>
        unlinkAt(requireLegacy(this.#context).directory(parent), name, flags),
      )
    }
  }

  /**
   * After the effect, and again at recovery: gives the new file its owner and the catalog its inode. `mode`: as it was
   * intended, where a predecessor may have changed the owner already.
   */
  finishCreate(
    request: RequestId,
    parent: bigint,
    name: Buffer,
    { uid, gid, mode = 0 }: { readonly uid: number; readonly gid: number; readonly mode?: number },
  ): Resolved {
    const { catalog } = this.#context
    const legacy = requireLegacy(this.#context)
    const directory = legacy.directory(parent)
    const made = legacy.stat({ parent, name })
    const owner = ownerToGive(this.#context, this.#names, parent, made, { uid, gid })
    if (owner) chownAt(directory, name, owner.uid, owner.gid)
    faultPoint('overlay.create.owned')
    // chown(2) clears the set-id bits that the file was made with.
    const setId = (made.mode | mode) & 0o6000
    if ((owner || (made.mode & setId) !== setId) && setId !== 0 && (made.mode & S_IFMT) !== S_IFLNK)
      chmodAt(directory, name, (made.mode & 0o7777) | setId)
    const stat = legacy.stat({ parent, name })
    const inode = this.#names.adopt(parent, name, stat)
    this.#follow(parent)
    if (this.#context.policy().copies) {
      if (isDirectory(stat.mode)) catalog.records.begin(inode.ino)
      else this.#oweNew(inode)
    }
    this.#answers.record(request, inode.ino)
    return { inode, stat }
  }

  /** A file that nobody ever writes to or reads, an empty one or a symlink, goes to the store like any other. */
  #oweNew(inode: Inode): void {
    owe(this.#context.catalog, inode, DIRTY_CONTENT)
  }

  /** What is to be held by `hold` is. */
  unlink(request: RequestContext, parent: bigint, name: Buffer): void {
    const { inode, stat } = this.#names.resolve(parent, name)
    if (stat && isDirectory(stat.mode)) throw new FsError('EISDIR')
    const last = (stat?.nlink ?? inode.nlink) <= 1
    this.#intend(request, { kind: 'unlink', parent, name, ino: inode.ino, last })
    const legacy = requireLegacy(this.#context)
    try {
      legacy.removing({ parent, name }, stat, () => unlinkAt(legacy.directory(parent), name))
    } catch (error) {
      this.#abandon(request, error)
      throw error
    }
    faultPoint('overlay.unlink.effect')
    this.#follows(request, () => this.finishUnlink(request, parent, name, inode, last))
  }

  finishUnlink(request: RequestId, parent: bigint, name: Buffer, inode: Inode, last: boolean): void {
    const { catalog } = this.#context
    catalog.transaction(() => {
      const dirent = catalog.dirents.get(parent, name)
      if (dirent?.ino === inode.ino) this.#names.removal.unlinked(dirent, last)
      this.#follow(parent)
      this.#refresh(inode.ino)
      this.#answers.record(request)
    })
  }

  rmdir(request: RequestContext, parent: bigint, name: Buffer): void {
    const { inode } = this.#names.resolve(parent, name)
    if (!isDirectory(inode.mode)) throw new FsError('ENOTDIR')
    this.#intend(request, { kind: 'unlink', parent, name, ino: inode.ino, last: true })
    try {
      unlinkAt(requireLegacy(this.#context).directory(parent), name, AT_REMOVEDIR)
    } catch (error) {
      this.#abandon(request, error)
      throw error
    }
    faultPoint('overlay.rmdir.effect')
    this.#follows(request, () => this.finishUnlink(request, parent, name, inode, true))
  }

  /** What is to be held by `hold` is. */
  rename(
    request: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): void {
    requireKnownFlags(flags)
    const current = this.#names.resolve(parent, name)
    const exchange = (flags & RENAME_EXCHANGE) !== 0
    const target = this.#names.find(newParent, newName)
    if ((flags & RENAME_NOREPLACE) !== 0 && target) throw new FsError('EEXIST')
    if (exchange && !target) throw new FsError('ENOENT')
    const change = {
      parent,
      name,
      newParent,
      newName,
      exchange,
      whiteout: (flags & RENAME_WHITEOUT) !== 0,
      ino: current.inode.ino,
      target: target?.inode.ino,
      last: (target?.stat?.nlink ?? 1) <= 1 || isDirectory(target?.inode.mode ?? 0),
      current: this.#isCurrent(current),
      targetCurrent: target !== undefined && this.#isCurrent(target),
    }
    this.#intend(request, { kind: 'rename', ...change })
    const legacy = requireLegacy(this.#context)
    try {
      const replaced = exchange ? undefined : target?.stat
      legacy.removing({ parent: newParent, name: newName }, replaced, () => {
        legacy.directory(parent)
        const to = legacy.directory(newParent)
        const from = legacy.directory(parent)
        legacy.as(request, () => renameAt(from, name, to, newName, flags))
      })
    } catch (error) {
      this.#abandon(request, error)
      throw error
    }
    faultPoint('overlay.rename.effect')
    this.#follows(request, () => this.finishRename(request, change))
  }

  finishRename(request: RequestId, change: Omit<Extract<LegacyIntent, { kind: 'rename' }>, 'kind'>): void {
    const { catalog } = this.#context
    const { parent, name, newParent, newName, exchange, ino, target } = change
    catalog.transaction(() => {
      // Two names of one file: rename(2) does nothing.
      if (ino !== target) {
        const replaced = catalog.dirents.get(newParent, newName)
        if (exchange) {
          catalog.dirents.set(parent, name, target, target)
        } else {
          // A look-up may have met the file at its new place already.
          if (replaced?.ino !== undefined && replaced.ino !== ino)
            this.#names.removal.unlinked(replaced, change.last)
          catalog.dirents.set(parent, name, undefined, undefined)
        }
        catalog.dirents.set(newParent, newName, ino, ino)
        if (change.whiteout) this.#adoptWhiteout(parent, name)
        if (change.current) this.#refreshFingerprint(ino)
        if (exchange && target !== undefined && change.targetCurrent) this.#refreshFingerprint(target)
        this.#refresh(ino)
        if (target !== undefined) this.#refresh(target)
        this.#follow(parent)
        this.#follow(newParent)
      }
      this.#answers.record(request)
    })
  }

  /** The volume made it together with the new name. */
  #adoptWhiteout(parent: bigint, name: Buffer): void {
    const stat = requireLegacy(this.#context).find({ parent, name })
    if (!stat) return
    const inode = this.#names.adopt(parent, name, stat)
    if (this.#context.policy().copies) this.#oweNew(inode)
  }

  link(request: RequestContext, ino: bigint, newParent: bigint, newName: Buffer): Resolved {
    const { catalog } = this.#context
    const inode = this.#names.inode(ino)
    if (this.#names.find(newParent, newName)) throw new FsError('EEXIST')
    const place = placeOf(catalog, ino, this.#context.legacy())
    // Of a file that never had a name there is only what is held open.
    const isHeld = inode.orphan && this.#context.legacyFiles.isHeld(ino)
    if (!isHeld && (!place || inode.orphan)) throw new FsError('ENOENT')
    const current = !isHeld && this.#isCurrent({ inode, stat: legacyStat(this.#context, inode) })
    this.#intend(request, { kind: 'link', parent: newParent, name: newName, ino, current })
    const legacy = requireLegacy(this.#context)
    try {
      if (isHeld || !place) this.#linkHeld(request, ino, newParent, newName)
      else {
        legacy.directory(place.parent)
        const to = legacy.directory(newParent)
        const from = legacy.directory(place.parent)
        legacy.as(request, () => linkAt(from, place.name, to, newName))
      }
    } catch (error) {
      this.#abandon(request, error)
      throw error
    }
    faultPoint('overlay.link.effect')
    try {
      return this.finishLink(request, newParent, newName, ino, current)
    } catch (error) {
      throw this.#takenBack(request, error, () => unlinkAt(legacy.directory(newParent), newName))
    }
  }

  #linkHeld(request: RequestContext, ino: bigint, newParent: bigint, newName: Buffer): void {
    const legacy = requireLegacy(this.#context)
    this.#context.legacyFiles.withWriter(ino, (descriptor) => {
      const to = legacy.directory(newParent)
      legacy.as(request, () => linkDescriptor(descriptor, to, newName))
    })
  }

  finishLink(request: RequestId, parent: bigint, name: Buffer, ino: bigint, current: boolean): Resolved {
    const { catalog } = this.#context
    return catalog.transaction(() => {
      const stat = requireLegacy(this.#context).stat({ parent, name })
      const isFirst = this.#hasFirstName(ino, stat)
      const inode = this.#names.adopt(parent, name, stat)
      if (isFirst && this.#context.policy().copies) this.#oweNew(inode)
      if (current) this.#refreshFingerprint(ino)
      this.#refresh(ino)
      this.#follow(parent)
      this.#answers.record(request, inode.ino)
      return { inode, stat }
    })
  }

  /** Whether a file without a name has just got this one: from now on it is reached by that. */
  #hasFirstName(ino: bigint, stat: Stat): boolean {
    const { catalog, legacyFiles } = this.#context
    const inode = catalog.get(ino)
    if (!inode?.orphan || inode.legacyIno !== stat.ino) return false
    inode.nlink = stat.nlink
    catalog.save(inode)
    catalog.afterCommit(() => legacyFiles.release(ino))
    return true
  }

  /** A directory changed: its record in the store has to follow. */
  #follow(directory: bigint): void {
    this.#context.catalog.records.touchHeader(directory)
  }

  /** The file's attributes changed without its content: the object in the store has to follow. */
  #refresh(ino: bigint): void {
    const { catalog, activity } = this.#context
    activity.changed(ino)
    const inode = catalog.get(ino)
    if (!inode || inode.version === 0 || inode.orphan || isDirectory(inode.mode)) return
    owe(catalog, inode, DIRTY_METADATA)
  }

  /** rename and link move ctime; a copy that was current before still is. */
  #refreshFingerprint(ino: bigint): void {
    const { catalog } = this.#context
    const inode = catalog.get(ino)
    if (!inode || inode.orphan) return
    ctimeMoved(inode, legacyStat(this.#context, inode))
    catalog.save(inode)
  }

  #isCurrent({ inode, stat }: Resolved): boolean {
    return stat !== undefined && isRegular(stat.mode) && isStored(inode) && matches(inode.fingerprint, stat)
  }

  /**
   * A file about to lose its last name while somebody may have it open is held first: its content has to outlive the name and
   * this process. `replaced`: whoever has found the name and not yet opened the file counts too, because the name is there at
   * any time; a file that is removed may be gone by then. `undefined` where there is nothing to wait for; after a wait to be
   * asked again, in the tick of the change.
   */
  hold(parent: bigint, name: Buffer, replaced: boolean): Promise<void> | undefined {
    const { legacyFiles, activity, takesOver } = this.#context
    const { inode, stat } = this.#names.resolve(parent, name)
    const users = activity.peek(inode.ino)
    const used = (users?.opens ?? 0) > 0 || (replaced && (users?.lookups ?? 0n) > 0n)
    if (!stat || !isRegular(stat.mode) || stat.nlink > 1 || !(used || takesOver)) return undefined
    if (legacyFiles.isHeld(inode.ino)) return undefined
    // It keeps its name: the volume refuses that.
    const directory = legacyStat(this.#context, this.#names.inode(parent))
    if (isGuarded(stat) || isGuarded(directory)) return undefined
    return legacyFiles.hold(inode.ino).then(() => faultPoint('overlay.unlink.held'))
  }

  #intend(request: RequestContext, intent: LegacyIntent): void {
    const { catalog } = this.#context
    catalog.transaction(() => catalog.intents.put(request.unique, encodeIntent(intent), undefined))
    faultPoint(`overlay.${intent.kind}.intended`)
  }

  /**
   * The catalog follows what took place on the volume and cannot be taken back. If it has no room for that, the intent stays
   * and is concluded before the next request about names; for the caller the operation is done.
   */
  #follows(request: RequestContext, finish: () => void): void {
    try {
      finish()
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      this.#context.log.warn({ err: error }, 'the catalog cannot follow the legacy volume yet')
      this.unfinished.add(request.unique)
    }
  }

  /** What was made on the volume is removed again, because the catalog could not follow. Returns the error to throw. */
  #takenBack(request: RequestContext, error: unknown, remove: () => void): unknown {
    if (!(error instanceof FsError)) return error
    try {
      remove()
      this.#abandon(request)
    } catch (second) {
      if (!(second instanceof FsError)) throw second
      this.unfinished.add(request.unique)
    }
    return error
  }

  /** Nothing was done; or a call is under way on a volume that does not answer, and nobody knows yet what comes of it. */
  #abandon(request: RequestContext, error?: unknown): void {
    const { catalog } = this.#context
    if (error instanceof Unanswered && error.begun) {
      this.unfinished.add(request.unique)
      return
    }
    catalog.transaction(() => catalog.intents.drop(request.unique))
  }

  #make(request: RequestContext, parent: bigint, name: Buffer, file: NewFile): void {
    const legacy = requireLegacy(this.#context)
    const directory = legacy.directory(parent)
    // The volume applies the caller's umask itself, and leaves it out where a default ACL says so.
    legacy.as(request, () => makeAt(directory, name, file))
  }
}

function makeAt(directory: number, name: Buffer, { mode, rdev, target }: NewFile): void {
  const type = mode & S_IFMT
  const permissions = mode & 0o7777
  if (type === S_IFDIR) mkdirAt(directory, name, permissions)
  else if (type === S_IFLNK) symlinkAt(target ?? Buffer.alloc(0), directory, name)
  else if (type === S_IFREG || type === 0) {
    const flags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW
    closeDescriptor(openAt(directory, name, flags, permissions))
  } else mknodAt(directory, name, mode, rdev)
}
