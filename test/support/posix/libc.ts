import { constants } from 'node:os'
import koffi from 'koffi'

/** A path as an application may have it: bytes, or text that stands for its UTF-8 bytes. */
export type Path = string | Buffer

/** A system call that failed, with its symbolic errno, as every operation of this folder throws it. */
export class SyscallError extends Error {
  readonly code: string
  readonly syscall: string

  constructor(syscall: string, code: string, detail: string) {
    super(`${syscall}(${detail}): ${code}`)
    this.name = 'SyscallError'
    this.syscall = syscall
    this.code = code
  }
}

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))
// The C library has two names for one number; tests use these.
errnoNames.set(constants.errno.EAGAIN, 'EAGAIN')
errnoNames.set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP')

function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `errno ${errno}`
}

/** The bytes of a path with the NUL that ends a C string. */
export function cString(path: Path): Buffer {
  const bytes = typeof path === 'string' ? Buffer.from(path) : path
  return Buffer.concat([bytes, Buffer.alloc(1)])
}

/** A path in an error message: bytes that are not UTF-8 as \xNN, long ones cut. */
export function shown(path: Path): string {
  const text =
    typeof path === 'string'
      ? path
      : path.toString('latin1').replaceAll(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`)
  return text.length > 120 ? `${text.slice(0, 60)}…${text.slice(-50)} (${text.length} bytes)` : text
}

const library = koffi.load(null)

/**
 * A function of the C library, resolved on first use so that one that an old library lacks fails only its own callers.
 * The result -1 throws the errno. The call blocks the calling thread.
 */
function bind<Arguments extends unknown[], Result extends number | bigint>(
  name: string,
  signature: string,
): (detail: string, ...values: Arguments) => Result {
  let native: ((...values: Arguments) => Result) | undefined
  return (detail, ...values) => {
    native ??= library.func(signature.replace('(', ` ${name}(`))
    const result = native(...values)
    if (result === -1) throw new SyscallError(name, errnoName(koffi.errno()), detail)
    return result
  }
}

type Memory = Buffer | BigInt64Array | null

export const libc = {
  open: bind<[Buffer, number, number], number>('open', 'int(const void *path, int flags, uint32_t mode)'),
  openat: bind<[number, Buffer, number, number], number>(
    'openat',
    'int(int directory, const void *path, int flags, uint32_t mode)',
  ),
  close: bind<[number], number>('close', 'int(int fd)'),
  mkdir: bind<[Buffer, number], number>('mkdir', 'int(const void *path, uint32_t mode)'),
  rmdir: bind<[Buffer], number>('rmdir', 'int(const void *path)'),
  unlink: bind<[Buffer], number>('unlink', 'int(const void *path)'),
  linkat: bind<[number, Buffer, number, Buffer, number], number>(
    'linkat',
    'int(int from, const void *path, int to, const void *link, int flags)',
  ),
  symlink: bind<[Buffer, Buffer], number>('symlink', 'int(const void *target, const void *path)'),
  readlink: bind<[Buffer, Buffer, number], number>(
    'readlink',
    'int64_t(const void *path, void *buffer, size_t length)',
  ),
  renameat2: bind<[number, Buffer, number, Buffer, number], number>(
    'renameat2',
    'int(int from, const void *path, int to, const void *target, uint32_t flags)',
  ),
  rename: bind<[Buffer, Buffer], number>('rename', 'int(const void *path, const void *target)'),
  chmod: bind<[Buffer, number], number>('chmod', 'int(const void *path, uint32_t mode)'),
  fchmod: bind<[number, number], number>('fchmod', 'int(int fd, uint32_t mode)'),
  chown: bind<[Buffer, number, number], number>('chown', 'int(const void *path, uint32_t uid, uint32_t gid)'),
  lchown: bind<[Buffer, number, number], number>(
    'lchown',
    'int(const void *path, uint32_t uid, uint32_t gid)',
  ),
  fchown: bind<[number, number, number], number>('fchown', 'int(int fd, uint32_t uid, uint32_t gid)'),
  futimens: bind<[number, BigInt64Array], number>('futimens', 'int(int fd, const void *times)'),
  utimensat: bind<[number, Buffer, BigInt64Array | null, number], number>(
    'utimensat',
    'int(int directory, const void *path, const void *times, int flags)',
  ),
  mknod: bind<[Buffer, number, bigint], number>(
    'mknod',
    'int(const void *path, uint32_t mode, uint64_t device)',
  ),
  access: bind<[Buffer, number], number>('access', 'int(const void *path, int mode)'),
  truncate: bind<[Buffer, number], number>('truncate', 'int(const void *path, int64_t length)'),
  ftruncate: bind<[number, number], number>('ftruncate', 'int(int fd, int64_t length)'),
  pread: bind<[number, Buffer, number, number], number>(
    'pread',
    'int64_t(int fd, void *buffer, size_t length, int64_t offset)',
  ),
  read: bind<[number, Buffer, number], number>('read', 'int64_t(int fd, void *buffer, size_t length)'),
  pwrite: bind<[number, Buffer, number, number], number>(
    'pwrite',
    'int64_t(int fd, const void *buffer, size_t length, int64_t offset)',
  ),
  write: bind<[number, Buffer, number], number>(
    'write',
    'int64_t(int fd, const void *buffer, size_t length)',
  ),
  fsync: bind<[number], number>('fsync', 'int(int fd)'),
  fdatasync: bind<[number], number>('fdatasync', 'int(int fd)'),
  syncfs: bind<[number], number>('syncfs', 'int(int fd)'),
  fallocate: bind<[number, number, number, number], number>(
    'fallocate',
    'int(int fd, int mode, int64_t offset, int64_t length)',
  ),
  lseek: bind<[number, number | bigint, number], number>(
    'lseek',
    'int64_t(int fd, int64_t offset, int whence)',
  ),
  copyFileRange: bind<[number, BigInt64Array | null, number, BigInt64Array | null, number, number], number>(
    'copy_file_range',
    'int64_t(int from, void *at, int to, void *toAt, size_t length, uint32_t flags)',
  ),
  sendfile: bind<[number, number, BigInt64Array | null, number], number>(
    'sendfile',
    'int64_t(int to, int from, void *at, size_t length)',
  ),
  flock: bind<[number, number], number>('flock', 'int(int fd, int operation)'),
  fcntl: bind<[number, number, Memory], number>('fcntl', 'int(int fd, int command, void *argument)'),
  setxattr: bind<[Buffer, Buffer, Buffer, number, number], number>(
    'setxattr',
    'int(const void *path, const void *name, const void *value, size_t size, int flags)',
  ),
  lsetxattr: bind<[Buffer, Buffer, Buffer, number, number], number>(
    'lsetxattr',
    'int(const void *path, const void *name, const void *value, size_t size, int flags)',
  ),
  fsetxattr: bind<[number, Buffer, Buffer, number, number], number>(
    'fsetxattr',
    'int(int fd, const void *name, const void *value, size_t size, int flags)',
  ),
  getxattr: bind<[Buffer, Buffer, Memory, number], number>(
    'getxattr',
    'int64_t(const void *path, const void *name, void *value, size_t size)',
  ),
  lgetxattr: bind<[Buffer, Buffer, Memory, number], number>(
    'lgetxattr',
    'int64_t(const void *path, const void *name, void *value, size_t size)',
  ),
  fgetxattr: bind<[number, Buffer, Memory, number], number>(
    'fgetxattr',
    'int64_t(int fd, const void *name, void *value, size_t size)',
  ),
  llistxattr: bind<[Buffer, Memory, number], number>(
    'llistxattr',
    'int64_t(const void *path, void *list, size_t size)',
  ),
  lremovexattr: bind<[Buffer, Buffer], number>('lremovexattr', 'int(const void *path, const void *name)'),
  msync: bind<[bigint, number, number], number>('msync', 'int(uint64_t address, size_t length, int flags)'),
  munmap: bind<[bigint, number], number>('munmap', 'int(uint64_t address, size_t length)'),
  getdents64: bind<[number, Buffer, number], number>(
    'getdents64',
    'int64_t(int fd, void *buffer, size_t length)',
  ),
  statvfs: bind<[Buffer, Buffer], number>('statvfs', 'int(const void *path, void *buffer)'),
  posixFadvise: bind<[number, number, number, number], number>(
    'posix_fadvise',
    'int(int fd, int64_t offset, int64_t length, int advice)',
  ),
  nameToHandle: bind<[number, Buffer, Buffer, Buffer, number], number>(
    'name_to_handle_at',
    'int(int directory, const void *path, void *handle, void *mount, int flags)',
  ),
  openByHandle: bind<[number, Buffer, number], number>(
    'open_by_handle_at',
    'int(int mount, void *handle, int flags)',
  ),
  chdir: bind<[Buffer], number>('chdir', 'int(const void *path)'),
}

const MAP_FAILED = 2n ** 64n - 1n
let nativeMmap:
  | ((at: null, length: number, protection: number, flags: number, fd: number, offset: number) => bigint)
  | undefined

/** mmap(2): the address. It fails with MAP_FAILED, which is no -1 of an int, so it is not bound like the others. */
export function mmap(length: number, protection: number, flags: number, fd: number, offset: number): bigint {
  nativeMmap ??= library.func(
    'void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)',
  )
  const address = nativeMmap(null, length, protection, flags, fd, offset)
  if (address === MAP_FAILED) throw new SyscallError('mmap', errnoName(koffi.errno()), `fd ${fd}`)
  return address
}

/** The mapped memory itself: reads and writes of the buffer are the application's loads and stores. */
export function memoryAt(address: bigint, length: number): Buffer {
  return Buffer.from(koffi.view(address, length))
}
