import { isDirectory, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID } from '../base/attributes.ts'
import { nowNs } from '../base/clock.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { DIRTY_CONTENT, DIRTY_METADATA, type Dirent, type Inode, isUnmet } from '../catalog/index.ts'
import { adoptGuardsPast, decodeXattrs, encodeXattrs, takeOver } from '../content/index.ts'
import type { RequestContext } from '../fuse/operations.ts'
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from '../sys/index.ts'
import { ACL_DEFAULT, inheritAcl } from './acl.ts'
import type { Answers } from './answers.ts'
import type { OverlayContext } from './context.ts'
import { requireLoose, requireRoom, requireUnguarded } from './guards.ts'
import { type NewFile, requireKnownFlags } from './legacy-namespace.ts'
import type { Names, Resolved } from './names.ts'
import { newInode } from './new-inode.ts'

// As a kernel's own file systems make it: WHITEOUT_MODE and WHITEOUT_DEV in include/linux/fs.h.
const WHITEOUT: NewFile = { mode: S_IFCHR, rdev: 0, target: undefined }

/**
 * Changes of names in the catalog alone; the legacy volume stays as it is, hidden where it has to be. Each change is one
 * transaction together with its recorded answer: a crash leaves all of it or nothing.
 */
export class CatalogNamespace {
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
    const inode = catalog.transaction(() => {
      if (this.#names.find(parent, name)) throw new FsError('EEXIST')
      const made = this.#make(request, parent, name, file)
      this.#answers.record(request, made.ino)
      return made
    })
    faultPoint('overlay.create.committed')
    return { inode, stat: undefined }
  }

  /** A file without a name: O_TMPFILE. Nothing is owed of it, and a new mount removes it. */
  createNameless(request: RequestContext, parent: bigint, mode: number): Inode {
    const { catalog } = this.#context
    const inode = catalog.transaction(() => {
      const directory = this.#living(parent)
      requireRoom(directory)
      const made = newInode(catalog.numbers.nextIno(), catalog.numbers.nextGeneration())
      this.#dress(made, directory, request, { mode: S_IFREG | (mode & 0o7777), rdev: 0, target: undefined })
      made.nlink = 0
      made.orphan = true
      catalog.save(made)
      this.#answers.record(request, made.ino)
      return made
    })
    faultPoint('overlay.create.committed')
    return inode
  }

  /** A new file under a name that is free. */
  #make(request: RequestContext, parent: bigint, name: Buffer, file: NewFile): Inode {
    const { catalog } = this.#context
    const directory = this.#living(parent)
    requireRoom(directory)
    const made = newInode(catalog.numbers.nextIno(), catalog.numbers.nextGeneration())
    this.#dress(made, directory, request, file)
    catalog.save(made)
    catalog.dirents.set(parent, name, made.ino, catalog.dirents.get(parent, name)?.legacy)
    if (isDirectory(made.mode)) catalog.records.begin(made.ino)
    else catalog.outbox.add('upload', made.ino)
    this.#touch(directory, isDirectory(made.mode) ? 1 : 0)
    return made
  }

  unlink(request: RequestContext, parent: bigint, name: Buffer): void {
    const { catalog } = this.#context
    catalog.transaction(() => {
      const { inode } = this.#names.resolve(parent, name)
      if (isDirectory(inode.mode)) throw new FsError('EISDIR')
      const owned = this.#own(inode.ino)
      const directory = this.#living(parent)
      requireLoose(directory, owned)
      this.#remove(this.#direntOf(parent, name), owned)
      this.#touch(directory, 0)
      this.#answers.record(request)
    })
    faultPoint('overlay.unlink.committed')
  }

  /** After `Names.requireEmpty`. */
  rmdir(request: RequestContext, parent: bigint, name: Buffer): void {
    const { catalog } = this.#context
    catalog.transaction(() => {
      const { inode } = this.#names.resolve(parent, name)
      if (!isDirectory(inode.mode)) throw new FsError('ENOTDIR')
      this.#requireEmpty(inode)
      const owned = this.#own(inode.ino)
      const directory = this.#living(parent)
      requireLoose(directory, owned)
      this.#remove(this.#direntOf(parent, name), owned)
      this.#touch(directory, -1)
      this.#answers.record(request)
    })
    faultPoint('overlay.rmdir.committed')
  }

  /** Where a directory is replaced, after `Names.requireEmpty` of that. */
  rename(
    request: RequestContext,
    parent: bigint,
    name: Buffer,
    newParent: bigint,
    newName: Buffer,
    flags: number,
  ): void {
    requireKnownFlags(flags)
    const exchange = (flags & RENAME_EXCHANGE) !== 0
    const { catalog } = this.#context
    catalog.transaction(() => {
      const source = this.#names.resolve(parent, name)
      const target = this.#names.find(newParent, newName)
      if ((flags & RENAME_NOREPLACE) !== 0 && target) throw new FsError('EEXIST')
      if (exchange && !target) throw new FsError('ENOENT')
      const isAnywhereElse = newParent !== parent
      if (isAnywhereElse && this.isBelowItself(source.inode, newParent)) throw new FsError('EINVAL')
      if (isAnywhereElse && exchange && target && this.isBelowItself(target.inode, parent))
        throw new FsError('EINVAL')
      if (target?.inode.ino !== source.inode.ino) {
        this.#rename({ parent, name, newParent, newName, exchange }, source.inode, target?.inode)
        if ((flags & RENAME_WHITEOUT) !== 0) this.#make(request, parent, name, WHITEOUT)
      }
      this.#answers.record(request)
    })
    faultPoint('overlay.rename.committed')
  }

  /** The kernel knows what is where as it was looked up last: what was moved past the overlay may be elsewhere. */
  isBelowItself({ ino, mode }: Inode, newParent: bigint): boolean {
    return isDirectory(mode) && this.#context.catalog.links.isBelow(newParent, ino)
  }

  link(request: RequestContext, ino: bigint, newParent: bigint, newName: Buffer): Resolved {
    const { catalog } = this.#context
    const inode = catalog.transaction(() => {
      if (this.#names.find(newParent, newName)) throw new FsError('EEXIST')
      const before = this.#names.inode(ino)
      if (isDirectory(before.mode)) throw new FsError('EPERM')
      // Which file without a name may get one the kernel knows: none but those that were made so.
      if (before.orphan && before.authority !== 'catalog') throw new FsError('ENOENT')
      const owned = this.#own(ino)
      const directory = this.#living(newParent)
      requireRoom(directory)
      requireUnguarded(owned)
      owned.nlink += 1
      owned.orphan = false
      this.#changed(owned)
      catalog.dirents.set(newParent, newName, ino, catalog.dirents.get(newParent, newName)?.legacy)
      this.#touch(directory, 0)
      this.#answers.record(request, ino)
      return owned
    })
    faultPoint('overlay.link.committed')
    return { inode, stat: undefined }
  }

  #rename(
    change: { parent: bigint; name: Buffer; newParent: bigint; newName: Buffer; exchange: boolean },
    from: Inode,
    to: Inode | undefined,
  ): void {
    const { catalog } = this.#context
    const { parent, name, newParent, newName, exchange } = change
    if (to && !exchange) this.#requireReplaceable(from, to)
    const moved = this.#own(from.ino)
    const other = to && this.#own(to.ino)
    const oldDirectory = this.#living(parent)
    const newDirectory = this.#living(newParent)
    requireLoose(oldDirectory, moved)
    if (other) requireLoose(newDirectory, other)
    else requireRoom(newDirectory)
    const newPlace = catalog.dirents.get(newParent, newName)
    if (other && !exchange && newPlace) this.#remove(newPlace, other)
    // What the volume has there, as of now: of a file that was replaced and is gone for good either place may have the copy.
    const left = this.#direntOf(parent, name).legacy
    const hidden = catalog.dirents.get(newParent, newName)?.legacy
    catalog.dirents.set(parent, name, exchange ? other?.ino : undefined, left)
    catalog.dirents.set(newParent, newName, moved.ino, hidden)
    this.#changed(moved)
    if (exchange && other) this.#changed(other)
    // Else nothing but this catalog would know of it: a tree made from the store would have the directory in its old place.
    for (const one of exchange && other ? [moved, other] : [moved])
      if (isDirectory(one.mode)) catalog.records.begin(one.ino)
    const movedUp = isDirectory(moved.mode) ? 1 : 0
    const otherUp = other && isDirectory(other.mode) ? 1 : 0
    this.#touch(oldDirectory, exchange ? otherUp - movedUp : -movedUp)
    this.#touch(newDirectory, exchange ? movedUp - otherUp : movedUp - otherUp)
  }

  /** rename(2): a directory replaces only an empty directory, a file no directory. */
  #requireReplaceable(from: Inode, to: Inode): void {
    if (isDirectory(from.mode) && !isDirectory(to.mode)) throw new FsError('ENOTDIR')
    if (!isDirectory(from.mode) && isDirectory(to.mode)) throw new FsError('EISDIR')
    if (isDirectory(to.mode)) this.#requireEmpty(to)
  }

  /** Once `Names.requireEmpty` has looked. */
  #requireEmpty(directory: Inode): void {
    if (this.#context.catalog.dirents.count(directory.ino) > 0) throw new FsError('ENOTEMPTY')
  }

  /** Takes one name from a file. What the volume has under that name stays hidden. */
  #remove(dirent: Dirent, inode: Inode): void {
    const { catalog } = this.#context
    catalog.dirents.set(dirent.parent, dirent.name, undefined, dirent.legacy)
    inode.nlink = isDirectory(inode.mode) ? 0 : inode.nlink - 1
    // The volume has counted, and may know fewer of its names than there are: while one is left, so is the file (P2).
    if (inode.nlink < 1 && !isDirectory(inode.mode) && catalog.links.first(inode.ino)) inode.nlink = 1
    this.#changed(inode)
    if (isUnmet(catalog, inode)) catalog.records.leaveBehind(dirent, inode)
    if (inode.nlink > 0) return
    if (isDirectory(inode.mode)) this.#passOn(inode, dirent)
    inode.nlink = 0
    inode.orphan = true
    catalog.save(inode)
    this.#names.removal.purgeIfUnused(inode.ino)
  }

  /** The directory goes, with its record, which was all that led to files whose other names nobody has met. */
  #passOn(directory: Inode, { parent }: Dirent): void {
    const { catalog } = this.#context
    for (const { name, file } of catalog.departures.ofLiving(directory)) {
      const inode = catalog.get(file.ino)
      if (inode && isUnmet(catalog, inode)) catalog.records.leaveBehind({ parent, name }, inode)
    }
  }

  #direntOf(parent: bigint, name: Buffer): Dirent {
    const dirent = this.#context.catalog.dirents.get(parent, name)
    if (!dirent) throw new FsError('ENOENT')
    return dirent
  }

  /** The catalog's from now on, guarded as the volume says if that was changed past the overlay. */
  #own(ino: bigint): Inode {
    const owned = takeOver(this.#context, ino)
    adoptGuardsPast(this.#context, owned)
    return owned
  }

  /** A directory that can get names, under the catalog's authority from now on. */
  #living(ino: bigint): Inode {
    const directory = this.#names.directory(ino)
    if (directory.orphan) throw new FsError('ENOENT')
    return this.#own(ino)
  }

  /** Entries of the directory changed; `subdirectories` came or went. */
  #touch(directory: Inode, subdirectories: number): void {
    const { catalog } = this.#context
    const now = nowNs()
    directory.mtimeNs = now
    directory.ctimeNs = now
    // A file system that does not count subdirectories says 1 (btrfs).
    if (directory.nlink > 1) directory.nlink += subdirectories
    catalog.save(directory)
    catalog.records.touchHeader(directory.ino)
  }

  /** The file's own attributes changed. */
  #changed(inode: Inode): void {
    const { catalog, activity } = this.#context
    inode.ctimeNs = nowNs()
    activity.changed(inode.ino)
    if (isDirectory(inode.mode)) {
      catalog.records.touchHeader(inode.ino)
    } else {
      inode.dirty |= DIRTY_METADATA
      catalog.outbox.add('upload', inode.ino)
    }
    catalog.save(inode)
  }

  /** Owner, mode, times and ACLs of a new file, as the kernel's own file systems give them. */
  #dress(inode: Inode, directory: Inode, request: RequestContext, file: NewFile): void {
    const now = nowNs()
    const type = file.mode & S_IFMT
    const inherits = (directory.mode & S_ISGID) !== 0
    const defaults = decodeXattrs(directory.xattrs).get(ACL_DEFAULT)
    let permissions = file.mode & 0o7777
    if (defaults && type !== S_IFLNK) {
      const inherited = inheritAcl(defaults, permissions, type === S_IFDIR)
      permissions = inherited.mode
      inode.xattrs = encodeXattrs(inherited.xattrs)
    } else if (type !== S_IFLNK) {
      permissions &= ~request.umask
    }
    if (inherits && type === S_IFDIR) permissions |= S_ISGID
    inode.mode = type | (type === S_IFLNK ? 0o777 : permissions)
    inode.uid = request.uid
    inode.gid = inherits ? directory.gid : request.gid
    inode.nlink = type === S_IFDIR ? 2 : 1
    inode.rdev = file.rdev
    inode.target = file.target
    inode.size = file.target?.length ?? (type === S_IFDIR ? 4096 : 0)
    inode.blocks = type === S_IFDIR ? 8 : 0
    inode.atimeNs = now
    inode.mtimeNs = now
    inode.ctimeNs = now
    inode.btimeNs = now
    inode.authority = 'catalog'
    if (type !== S_IFDIR) inode.dirty = DIRTY_CONTENT
  }
}
