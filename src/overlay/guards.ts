import { constants } from 'node:fs'
import { FsError } from '../base/errors.ts'
import { guardIn, isAppendOnly, isGuarded, isImmutable } from '../base/inode-flags.ts'
import type { AttributeChanges } from '../fuse/operations.ts'

/**
 * What the flags of chattr(1) keep from everybody, root included. The kernel refuses that by itself where it knows a file's flags; of a
 * FUSE file it knows none.
 */
interface Flagged {
  readonly flags?: number
}

const { O_APPEND } = constants
// fallocate(2)
const FALLOC_FL_KEEP_SIZE = 1

function refuse(flagged: Flagged): never {
  throw new FsError('EPERM', `${guardIn(flagged)} is set`)
}

/** A name is to come into the directory: may_create() in fs/namei.c. */
export function requireRoom(directory: Flagged): void {
  if (isImmutable(directory)) refuse(directory)
}

/** A name is to go from the directory, or to become another file's: may_delete() in fs/namei.c. */
export function requireLoose(directory: Flagged, file: Flagged): void {
  if (isGuarded(directory)) refuse(directory)
  requireUnguarded(file)
}

/** Its names and extended attributes: vfs_link() in fs/namei.c, xattr_permission() in fs/xattr.c. */
export function requireUnguarded(file: Flagged): void {
  if (isGuarded(file)) refuse(file)
}

/** may_setattr() in fs/attr.c, and do_truncate(). */
export function requireSettable(file: Flagged, changes: AttributeChanges): void {
  const { mode, uid, gid, size, atime, mtime } = changes
  const isTimed = atime !== undefined || mtime !== undefined
  // Both to the present, as touch(1) does it, is what a write does, too.
  const isTouched = atime === 'now' && mtime === 'now'
  const isSet = [mode, uid, gid, size].some((change) => change !== undefined)
  if ((isSet || (isTimed && !isTouched)) && isGuarded(file)) refuse(file)
  if (isTouched && isImmutable(file)) refuse(file)
}

/** A file is opened to be written: may_open() in fs/namei.c. */
export function requireOpenable(file: Flagged, flags: number): void {
  if (isImmutable(file) || (isAppendOnly(file) && (flags & O_APPEND) === 0)) refuse(file)
}

/** Bytes of an open file are to change. Those of a page that was mapped may be anywhere. */
export function requireWritable(
  file: Flagged,
  { flags, isWriteBack }: { readonly flags: number; readonly isWriteBack?: boolean },
): void {
  if (isWriteBack === true) requireUnguarded(file)
  else requireOpenable(file, flags)
}

/** vfs_fallocate() in fs/open.c */
export function requireAllocatable(file: Flagged, mode: number): void {
  if (isImmutable(file) || (isAppendOnly(file) && (mode & ~FALLOC_FL_KEEP_SIZE) !== 0)) refuse(file)
}
