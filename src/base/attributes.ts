/** Attributes as in stat(2); times in nanoseconds since the epoch, blocks of 512 bytes. */
export interface Attributes {
  readonly ino: bigint
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  /** Device number in the kernel's 32-bit encoding (new_encode_dev in linux/kdev_t.h). */
  readonly rdev: number
  readonly size: number
  readonly blocks: number
  readonly blksize: number
  readonly atimeNs: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  /** Time of birth; absent where nobody knows it, and 0 where the file system keeps none. */
  readonly btimeNs?: bigint
  /** FS_*_FL of those that guard a file (inode-flags.ts); none if absent. */
  readonly flags?: number
}

/** File type bits of st_mode, inode(7). */
export const S_IFMT = 0o170000
export const S_IFREG = 0o100000
export const S_IFCHR = 0o020000
export const S_IFDIR = 0o040000
export const S_IFLNK = 0o120000
export const S_ISUID = 0o4000
export const S_ISGID = 0o2000
export const S_IXGRP = 0o010

export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG
export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR
export const isSameKind = (one: number, other: number): boolean => (one & S_IFMT) === (other & S_IFMT)
/** Of two files that had one number on a volume one after the other the times of birth differ. False where one is not known. */
export const isBornElsewhere = (one: { btimeNs: bigint }, other: { btimeNs: bigint }): boolean =>
  one.btimeNs !== 0n && other.btimeNs !== 0n && one.btimeNs !== other.btimeNs
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK
