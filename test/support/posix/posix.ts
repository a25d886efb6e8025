import { fstatSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, O_DIRECTORY, O_RDONLY } from './constants.ts'
import { cString, libc, memoryAt, mmap, type Path, SyscallError, shown } from './libc.ts'
import {
  type HeldLock,
  LOCK_TYPES,
  type LockRange,
  lockStruct,
  parseEntries,
  type RawEntry,
  type Stat,
  type Time,
  timespecs,
  toStat,
  type VolumeStat,
} from './structs.ts'

interface Mapping {
  readonly address: bigint
  readonly memory: Buffer
}

const openFiles = new Set<number>()
const mappings = new Map<number, Mapping>()
let mappingsMade = 0

function kept(fd: number): number {
  openFiles.add(fd)
  return fd
}

function mapping(id: number): Mapping {
  const found = mappings.get(id)
  if (found === undefined) throw new SyscallError('mmap', 'EFAULT', `mapping ${id} is not there`)
  return found
}

// MAX_HANDLE_SZ of fcntl.h
const MAX_HANDLE_BYTES = 128

const F_GETLK = 5
const F_SETLK = 6
const F_SETLKW = 7
const F_OFD_SETLK = 37

/** The two-step reading of an attribute: its size, then its bytes; again if it grew in between. */
function readSized(read: (into: Buffer | null, size: number) => number): Buffer {
  for (;;) {
    const size = read(null, 0)
    const value = Buffer.alloc(size)
    try {
      // A size of 0 would ask for the size again.
      return size === 0 ? value : value.subarray(0, read(value, size))
    } catch (error) {
      if (!(error instanceof SyscallError && error.code === 'ERANGE')) throw error
    }
  }
}

function nodeCall<T>(syscall: string, path: Path | number, call: () => T): T {
  try {
    return call()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) throw error
    throw new SyscallError(syscall, error.code, typeof path === 'number' ? `fd ${path}` : shown(path))
  }
}

/**
 * System calls as an application makes them: synchronous, one call each, failing with a SyscallError that carries the
 * errno. They run in an agent process (agent.ts), so that a case can be several users and several processes, a file
 * system that hangs does not hang the test runner, and a fault in mapped memory ends an agent and not the run.
 */
export const posix = {
  open(path: Path, flags: number, mode = 0o666): number {
    return kept(libc.open(shown(path), cString(path), flags, mode))
  },
  openat(directory: number, path: Path, flags: number, mode = 0o666): number {
    return kept(libc.openat(shown(path), directory, cString(path), flags, mode))
  },
  close(fd: number): void {
    openFiles.delete(fd)
    libc.close(`fd ${fd}`, fd)
  },
  /** pread(2), or read(2) where no offset is given. */
  read(fd: number, length: number, offset?: number): Buffer {
    const buffer = Buffer.alloc(length)
    const got =
      offset === undefined
        ? libc.read(`fd ${fd}`, fd, buffer, length)
        : libc.pread(`fd ${fd}, at ${offset}`, fd, buffer, length, offset)
    return buffer.subarray(0, got)
  },
  /** pwrite(2), or write(2) where no offset is given. */
  write(fd: number, data: string | Buffer, offset?: number): number {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data
    return offset === undefined
      ? libc.write(`fd ${fd}, ${bytes.length} bytes`, fd, bytes, bytes.length)
      : libc.pwrite(`fd ${fd}, ${bytes.length} bytes at ${offset}`, fd, bytes, bytes.length, offset)
  },
  /** A whole file, opened for it. */
  readFile(path: Path): Buffer {
    return nodeCall('open', path, () => readFileSync(path))
  },
  /** Makes or replaces the content of a file: O_CREAT | O_TRUNC, or with other flags. */
  writeFile(path: Path, data: string | Buffer, mode = 0o666, flags = 0o1101): void {
    const fd = posix.open(path, flags, mode)
    try {
      const bytes = typeof data === 'string' ? Buffer.from(data) : data
      for (let at = 0; at < bytes.length; ) at += posix.write(fd, bytes.subarray(at))
    } finally {
      posix.close(fd)
    }
  },

  stat(path: Path): Stat {
    return nodeCall('stat', path, () => toStat(statSync(path, { bigint: true })))
  },
  lstat(path: Path): Stat {
    return nodeCall('lstat', path, () => toStat(lstatSync(path, { bigint: true })))
  },
  /** Time of birth as statx(2) has it; 0 where it has none. */
  birth(path: Path): bigint {
    return nodeCall('statx', path, () => lstatSync(path, { bigint: true }).birthtimeNs)
  },
  fstat(fd: number): Stat {
    return nodeCall('fstat', fd, () => toStat(fstatSync(fd, { bigint: true })))
  },
  access(path: Path, mode: number): void {
    libc.access(shown(path), cString(path), mode)
  },

  mkdir(path: Path, mode = 0o777): void {
    libc.mkdir(shown(path), cString(path), mode)
  },
  rmdir(path: Path): void {
    libc.rmdir(shown(path), cString(path))
  },
  unlink(path: Path): void {
    libc.unlink(shown(path), cString(path))
  },
  mknod(path: Path, mode: number, device = 0n): void {
    libc.mknod(`${shown(path)}, ${mode.toString(8)}`, cString(path), mode, device)
  },
  link(existing: Path, path: Path): void {
    libc.linkat(
      `${shown(existing)} -> ${shown(path)}`,
      AT_FDCWD,
      cString(existing),
      AT_FDCWD,
      cString(path),
      0,
    )
  },
  /** Gives an open file a (further) name. */
  linkFd(fd: number, path: Path): void {
    const existing = cString(`/proc/self/fd/${fd}`)
    libc.linkat(`fd ${fd} -> ${shown(path)}`, AT_FDCWD, existing, AT_FDCWD, cString(path), AT_SYMLINK_FOLLOW)
  },
  /** A file handle (struct file_handle) by which `openByHandle` finds the file again, whatever it is called then. */
  nameToHandle(path: Path): Buffer {
    const handle = Buffer.alloc(8 + MAX_HANDLE_BYTES)
    handle.writeUInt32LE(MAX_HANDLE_BYTES)
    libc.nameToHandle(shown(path), AT_FDCWD, cString(path), handle, Buffer.alloc(4), 0)
    return handle
  },
  /** `mount`: any path on the file system that the handle is of. */
  openByHandle(mount: Path, handle: Buffer, flags: number): number {
    const at = libc.open(shown(mount), cString(mount), O_RDONLY, 0)
    try {
      return kept(libc.openByHandle(shown(mount), at, handle, flags))
    } finally {
      libc.close(`fd ${at}`, at)
    }
  },
  symlink(target: Path, path: Path): void {
    libc.symlink(shown(path), cString(target), cString(path))
  },
  readlink(path: Path): Buffer {
    const target = Buffer.alloc(8192)
    return target.subarray(0, libc.readlink(shown(path), cString(path), target, target.length))
  },
  rename(from: Path, to: Path): void {
    libc.rename(`${shown(from)} -> ${shown(to)}`, cString(from), cString(to))
  },
  renameat2(from: Path, to: Path, flags: number): void {
    const detail = `${shown(from)} -> ${shown(to)}, flags ${flags}`
    libc.renameat2(detail, AT_FDCWD, cString(from), AT_FDCWD, cString(to), flags)
  },

  chmod(path: Path, mode: number): void {
    libc.chmod(shown(path), cString(path), mode)
  },
  fchmod(fd: number, mode: number): void {
    libc.fchmod(`fd ${fd}`, fd, mode)
  },
  /** -1 leaves an id as it is. */
  chown(path: Path, uid: number, gid: number): void {
    libc.chown(`${shown(path)}, ${uid}:${gid}`, cString(path), uid >>> 0, gid >>> 0)
  },
  lchown(path: Path, uid: number, gid: number): void {
    libc.lchown(`${shown(path)}, ${uid}:${gid}`, cString(path), uid >>> 0, gid >>> 0)
  },
  fchown(fd: number, uid: number, gid: number): void {
    libc.fchown(`fd ${fd}, ${uid}:${gid}`, fd, uid >>> 0, gid >>> 0)
  },
  utimens(path: Path, atime: Time, mtime: Time): void {
    libc.utimensat(shown(path), AT_FDCWD, cString(path), timespecs(atime, mtime), 0)
  },
  lutimens(path: Path, atime: Time, mtime: Time): void {
    libc.utimensat(shown(path), AT_FDCWD, cString(path), timespecs(atime, mtime), AT_SYMLINK_NOFOLLOW)
  },
  futimens(fd: number, atime: Time, mtime: Time): void {
    libc.futimens(`fd ${fd}`, fd, timespecs(atime, mtime))
  },
  /** utimensat(2) with no times, as touch(1) does: both become now, which a caller with write permission may ask. */
  touch(path: Path): void {
    libc.utimensat(shown(path), AT_FDCWD, cString(path), null, 0)
  },
  /** utimensat(2) with the four numbers as they are: [atime s, atime ns, mtime s, mtime ns]. */
  utimensRaw(path: Path, numbers: readonly bigint[]): void {
    libc.utimensat(shown(path), AT_FDCWD, cString(path), BigInt64Array.from(numbers), 0)
  },
  truncate(path: Path, length: number): void {
    libc.truncate(`${shown(path)}, ${length}`, cString(path), length)
  },
  ftruncate(fd: number, length: number): void {
    libc.ftruncate(`fd ${fd}, ${length}`, fd, length)
  },

  fsync(fd: number): void {
    libc.fsync(`fd ${fd}`, fd)
  },
  fdatasync(fd: number): void {
    libc.fdatasync(`fd ${fd}`, fd)
  },
  syncfs(fd: number): void {
    libc.syncfs(`fd ${fd}`, fd)
  },
  fallocate(fd: number, mode: number, offset: number, length: number): void {
    libc.fallocate(`fd ${fd}, mode ${mode}, ${length} at ${offset}`, fd, mode, offset, length)
  },
  lseek(fd: number, offset: number | bigint, whence: number): number {
    return libc.lseek(`fd ${fd}, ${offset}, whence ${whence}`, fd, offset, whence)
  },
  /** One copy_file_range(2); offsets are explicit, the files' own positions stay where they are. */
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
    const [source, target] = [BigInt64Array.of(BigInt(fromOffset)), BigInt64Array.of(BigInt(toOffset))]
    return libc.copyFileRange(`fd ${from} -> fd ${to}`, from, source, to, target, length, 0)
  },
  sendfile(to: number, from: number, length: number): number {
    return libc.sendfile(`fd ${from} -> fd ${to}`, to, from, null, length)
  },
  /** Asks the kernel to drop the clean cached pages of a file, so that the next read asks the file system. */
  dropCache(fd: number): void {
    const POSIX_FADV_DONTNEED = 4
    libc.posixFadvise(`fd ${fd}`, fd, 0, 0, POSIX_FADV_DONTNEED)
  },
  statvfs(path: Path): VolumeStat {
    // struct statvfs of the 64-bit ABIs: eleven words in the order of its manual page, then f_namemax.
    const struct = Buffer.alloc(256)
    libc.statvfs(shown(path), cString(path), struct)
    const word = (index: number) => Number(struct.readBigUInt64LE(index * 8))
    return {
      bsize: word(0),
      frsize: word(1),
      blocks: word(2),
      bfree: word(3),
      bavail: word(4),
      files: word(5),
      ffree: word(6),
      namemax: word(10),
    }
  },

  flock(fd: number, operation: number): void {
    libc.flock(`fd ${fd}, operation ${operation}`, fd, operation)
  },
  /** A POSIX record lock of this process, or (`description`) a lock of the open file description. */
  lock(fd: number, lock: LockRange, options: { wait?: boolean; description?: boolean } = {}): void {
    const command = options.description ? F_OFD_SETLK : F_SETLK
    const waits = options.wait ? F_SETLKW - F_SETLK : 0
    libc.fcntl(
      `fd ${fd}, ${lock.type} ${lock.length} at ${lock.start}`,
      fd,
      command + waits,
      lockStruct(lock),
    )
  },
  /** F_GETLK: the lock of another process that would be in the way. */
  lockInTheWay(fd: number, lock: LockRange): HeldLock | undefined {
    const struct = lockStruct(lock)
    libc.fcntl(`fd ${fd}`, fd, F_GETLK, struct)
    const type = LOCK_TYPES[struct.readInt16LE(0)] ?? 'unlock'
    if (type === 'unlock') return undefined
    return {
      type,
      start: Number(struct.readBigInt64LE(8)),
      length: Number(struct.readBigInt64LE(16)),
      pid: struct.readInt32LE(24),
    }
  },

  /** Symbolic links are not followed by any of the calls on extended attributes but those named so. */
  setxattr(path: Path, name: Path, value: string | Buffer, flags = 0): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    libc.lsetxattr(`${shown(path)}, ${shown(name)}`, cString(path), cString(name), bytes, bytes.length, flags)
  },
  setxattrFollowing(path: Path, name: Path, value: string | Buffer): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    libc.setxattr(`${shown(path)}, ${shown(name)}`, cString(path), cString(name), bytes, bytes.length, 0)
  },
  fsetxattr(fd: number, name: Path, value: string | Buffer, flags = 0): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    libc.fsetxattr(`fd ${fd}, ${shown(name)}`, fd, cString(name), bytes, bytes.length, flags)
  },
  getxattr(path: Path, name: Path): Buffer {
    const detail = `${shown(path)}, ${shown(name)}`
    return readSized((into, size) => libc.lgetxattr(detail, cString(path), cString(name), into, size))
  },
  fgetxattr(fd: number, name: Path): Buffer {
    return readSized((into, size) =>
      libc.fgetxattr(`fd ${fd}, ${shown(name)}`, fd, cString(name), into, size),
    )
  },
  /** lgetxattr(2) with a buffer of `size` bytes: how many bytes came, or would come (size 0). */
  getxattrInto(path: Path, name: Path, size: number): number {
    const into = size === 0 ? null : Buffer.alloc(size)
    return libc.lgetxattr(`${shown(path)}, ${shown(name)}`, cString(path), cString(name), into, size)
  },
  /** The names, sorted by their bytes. */
  listxattr(path: Path): Buffer[] {
    const list = readSized((into, size) => libc.llistxattr(shown(path), cString(path), into, size))
    const names: Buffer[] = []
    for (let at = 0; at < list.length; ) {
      const end = list.indexOf(0, at)
      names.push(Buffer.from(list.subarray(at, end)))
      at = end + 1
    }
    return names.sort(Buffer.compare)
  },
  /** llistxattr(2) with a buffer of `size` bytes. */
  listxattrInto(path: Path, size: number): number {
    return libc.llistxattr(shown(path), cString(path), size === 0 ? null : Buffer.alloc(size), size)
  },
  removexattr(path: Path, name: Path): void {
    libc.lremovexattr(`${shown(path)}, ${shown(name)}`, cString(path), cString(name))
  },

  /** Maps a file readable and writable (readable only with `readOnly`) and returns a number for the mapping. */
  map(
    fd: number,
    length: number,
    options: { offset?: number; private?: boolean; readOnly?: boolean } = {},
  ): number {
    const PROT_READ = 1
    const PROT_WRITE = 2
    const [MAP_SHARED, MAP_PRIVATE] = [1, 2]
    const address = mmap(
      length,
      options.readOnly ? PROT_READ : PROT_READ | PROT_WRITE,
      options.private ? MAP_PRIVATE : MAP_SHARED,
      fd,
      options.offset ?? 0,
    )
    mappingsMade += 1
    mappings.set(mappingsMade, { address, memory: memoryAt(address, length) })
    return mappingsMade
  },
  mapRead(id: number, offset: number, length: number): Buffer {
    return Buffer.from(mapping(id).memory.subarray(offset, offset + length))
  },
  mapWrite(id: number, offset: number, data: string | Buffer): void {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data
    bytes.copy(mapping(id).memory, offset)
  },
  msync(id: number): void {
    const MS_SYNC = 4
    const { address, memory } = mapping(id)
    libc.msync(`mapping ${id}`, address, memory.length, MS_SYNC)
  },
  unmap(id: number): void {
    const { address, memory } = mapping(id)
    mappings.delete(id)
    libc.munmap(`mapping ${id}`, address, memory.length)
  },

  /** One getdents64(2) on an open directory with a buffer of `size` bytes; empty at the end. */
  readEntries(fd: number, size = 32_768): RawEntry[] {
    const buffer = Buffer.alloc(size)
    return parseEntries(buffer.subarray(0, libc.getdents64(`fd ${fd}`, fd, buffer, size)))
  },
  /** A whole listing without "." and "..". */
  list(path: Path, size = 32_768): RawEntry[] {
    const fd = libc.open(shown(path), cString(path), O_RDONLY | O_DIRECTORY, 0)
    try {
      const entries: RawEntry[] = []
      for (;;) {
        const some = posix.readEntries(fd, size)
        if (some.length === 0) break
        entries.push(...some)
      }
      return entries.filter(({ name }) => !['.', '..'].includes(name.toString('latin1')))
    } finally {
      libc.close(`fd ${fd}`, fd)
    }
  },
  /** The names in a directory as text, sorted. */
  names(path: Path): string[] {
    return nodeCall('open', path, () => readdirSync(path).sort())
  },

  umask(mask: number): number {
    return process.umask(mask)
  },
  chdir(path: Path): void {
    libc.chdir(shown(path), cString(path))
  },

  /** Back to how the agent started: nothing open, nothing mapped, no directory held, umask 022. */
  reset(): void {
    for (const id of [...mappings.keys()]) posix.unmap(id)
    for (const fd of [...openFiles]) posix.close(fd)
    posix.chdir('/')
    posix.umask(0o022)
  },
}

export type Posix = typeof posix
