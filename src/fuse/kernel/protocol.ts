/**
 * Numbers of the kernel's FUSE protocol, version 7 (include/uapi/linux/fuse.h). Up to 7.38 from linux-libc-dev 6.1,
 * later ones from the header as of 7.45 (kernel 6.18), which libfuse carries as include/fuse_kernel.h.
 */

export const FUSE_MAJOR = 7
/** Newest minor version whose requests this code knows. */
export const FUSE_MINOR = 45
/** Linux 5.4, the oldest kernel served: everything below relies on nothing newer being there. */
export const FUSE_OLDEST_MINOR = 31

/** Bytes of `struct fuse_in_header` and `struct fuse_out_header`. */
export const IN_HEADER_SIZE = 40
export const OUT_HEADER_SIZE = 16

/** Room in front of the data of a WRITE: the two headers need 80 bytes, names and xattrs of other requests more. */
export const REQUEST_HEADROOM = 4096

/** Set in `unique` of a request that is sent again after FUSE_NOTIFY_RESEND (7.40). */
export const UNIQUE_RESEND = 1n << 63n

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const

/** INIT flags; from bit 32 on they travel in `flags2`, which FUSE_INIT_EXT announces. */
export const InitFlag = {
  ASYNC_READ: 1n << 0n,
  EXPORT_SUPPORT: 1n << 4n,
  BIG_WRITES: 1n << 5n,
  DONT_MASK: 1n << 6n,
  AUTO_INVAL_DATA: 1n << 12n,
  DO_READDIRPLUS: 1n << 13n,
  READDIRPLUS_AUTO: 1n << 14n,
  ASYNC_DIO: 1n << 15n,
  PARALLEL_DIROPS: 1n << 18n,
  POSIX_ACL: 1n << 20n,
  ABORT_ERROR: 1n << 21n,
  MAX_PAGES: 1n << 22n,
  CACHE_SYMLINKS: 1n << 23n,
  HANDLE_KILLPRIV_V2: 1n << 28n,
  SETXATTR_EXT: 1n << 29n,
  INIT_EXT: 1n << 30n,
  HAS_EXPIRE_ONLY: 1n << 35n,
  DIRECT_IO_ALLOW_MMAP: 1n << 36n,
  HAS_RESEND: 1n << 39n,
} as const

/** FATTR_*: which fields of SETATTR count. */
export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const

/** FOPEN_*: flags in the answer to OPEN, CREATE and OPENDIR. */
export const OpenFlag = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  CACHE_DIR: 1 << 3,
} as const

/** FUSE_GETATTR_FH */
export const GETATTR_FH = 1 << 0
/** FUSE_WRITE_CACHE */
export const WRITE_CACHE = 1
/** FUSE_WRITE_KILL_SUIDGID */
export const WRITE_KILL_SUIDGID = 1 << 2
/** FUSE_FSYNC_FDATASYNC */
export const FSYNC_FDATASYNC = 1 << 0
/** FUSE_SETXATTR_ACL_KILL_SGID */
export const SETXATTR_ACL_KILL_SGID = 1 << 0
/** FUSE_EXPIRE_ONLY */
export const INVAL_ENTRY_EXPIRE_ONLY = 1 << 0

/** enum fuse_notify_code */
export const NotifyCode = {
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  RESEND: 7,
} as const
