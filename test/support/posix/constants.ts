import { constants } from 'node:fs'

/** open(2) flags that node:fs does not name; values of the kernel's asm-generic headers. */
export const O_PATH = 0o10000000
export const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY

/** renameat2(2) */
export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2
export const RENAME_WHITEOUT = 4

/** fallocate(2) */
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2
export const FALLOC_FL_ZERO_RANGE = 0x10

/** lseek(2) */
export const SEEK_SET = 0
export const SEEK_CUR = 1
export const SEEK_END = 2
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

/** The ...at() calls */
export const AT_FDCWD = -100
export const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_SYMLINK_FOLLOW = 0x400

/** flock(2) */
export const LOCK_SH = 1
export const LOCK_EX = 2
export const LOCK_NB = 4
export const LOCK_UN = 8

/** setxattr(2) */
export const XATTR_CREATE = 1
export const XATTR_REPLACE = 2

/** d_type of a directory entry: the file type bits of st_mode shifted right by 12. */
export const DT_FIFO = 1
export const DT_CHR = 2
export const DT_DIR = 4
export const DT_REG = 8
export const DT_LNK = 10
export const DT_SOCK = 12

/** The permission bits of st_mode with setuid, setgid and sticky. */
export const PERMISSIONS = 0o7777

export const {
  O_RDONLY,
  O_WRONLY,
  O_RDWR,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_APPEND,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_DIRECT,
  S_IFMT,
  S_IFREG,
  S_IFDIR,
  S_IFCHR,
  S_IFBLK,
  S_IFIFO,
  S_IFLNK,
  S_IFSOCK,
} = constants
