import { close as closeCallback, constants, fdatasync, fsync, ftruncate } from 'node:fs'
import { isRegular } from '../base/attributes.ts'
import { errnoName, FsError, volumeErrno } from '../base/errors.ts'
import { type Disk, libcFunction } from './disk.ts'
import { diskOf, guard } from './guarded.ts'
import { check, cstring, declare, declareAsync } from './library.ts'
import type { Stat } from './stat.ts'

const OPENAT = 'int openat(int, const void *, int, int)'
const openatCall = declare(OPENAT)
const closeCall = declare('int close(int)')
const mkdiratCall = declare('int mkdirat(int, const void *, unsigned int)')
const mknodatCall = declare('int mknodat(int, const void *, unsigned int, uint64_t)')
const unlinkatCall = declare('int unlinkat(int, const void *, int)')
const renameat2Call = declare('int renameat2(int, const void *, int, const void *, unsigned int)')
const LINKAT = 'int linkat(int, const void *, int, const void *, int)'
const linkatCall = declare(LINKAT)
const linkatToCall = declare(LINKAT, 2)
const symlinkatCall = declare('int symlinkat(const void *, int, const void *)', 1)
const readlinkatCall = declare('long readlinkat(int, const void *, void *, size_t)')
const fchmodatCall = declare('int fchmodat(int, const void *, unsigned int, int)')
const fchownatCall = declare('int fchownat(int, const void *, unsigned int, unsigned int, int)')
const utimensatCall = declare('int utimensat(int, const void *, const void *, int)')
const futimensCall = declare('int futimens(int, const void *)')
const fallocateCall = declare('int fallocate(int, int, int64_t, int64_t)')
const lseekCall = declare('int64_t lseek(int, int64_t, int)')
const ftruncateCall = declare('int ftruncate(int, int64_t)')
const fchmodCall = declare('int fchmod(int, unsigned int)')
const fchownCall = declare('int fchown(int, unsigned int, unsigned int)')
const fsyncCall = declare('int fsync(int)')
const preadCall = declare('long pread(int, void *, size_t, int64_t)')
const pwriteCall = declare('long pwrite(int, const void *, size_t, int64_t)')
const flockCall = declare('int flock(int, int)')
const copyFileRangeCall = declare('long copy_file_range(int, void *, int, void *, size_t, unsigned int)')
const syncfsCall = declareAsync('int syncfs(int)')

// What a sync may take: a disk that has nothing else to say is busy, not away.
const SYNC_MS = 120_000
/** Bytes that every file system frees in no time. Of 4 GiB ext3 took 5 s: whatever runs within a tick keeps off it. */
const FREED_AT_ONCE = 64 * 1024 * 1024
// Of st_blocks: stat(2).
const BLOCK_BYTES = 512

// fcntl.h; the same on every Linux architecture but for O_DIRECTORY and O_NOFOLLOW, which Node knows.
export const AT_REMOVEDIR = 0x200
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_SYMLINK_FOLLOW = 0x400
export const AT_FDCWD = -100
export const O_PATH = 0o10000000
export const O_CLOEXEC = 0o2000000
/** Makes a file that has no name in the directory that is opened. */
export const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY
export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2
export const RENAME_WHITEOUT = 4
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2
export const FALLOC_FL_ZERO_RANGE = 16
export const SEEK_DATA = 3
export const SEEK_HOLE = 4
/** utimensat: leave this time as it is. */
export const UTIME_OMIT = 'omit'

/** A descriptor, close-on-exec; of the disk that the directory is on. @throws FsError */
export function openAt(directory: number, name: Buffer, flags: number, mode = 0): number {
  return check(openatCall(directory, cstring(name), flags | O_CLOEXEC, mode), 'openat', name)
}

/** What is at a path that leads to a disk; calls on the descriptor are made by a thread of it. @throws FsError */
export function openOn(disk: Disk, path: string, flags: number): number {
  const called = [AT_FDCWD, cstring(Buffer.from(path)), flags | O_CLOEXEC, 0]
  const { result, errno } = disk.call(libcFunction(OPENAT), called, true)
  if (result === -1) throw new FsError(volumeErrno(errnoName(errno)), `openat ${path}: ${errnoName(errno)}`)
  guard(result, disk)
  return result
}

export function closeDescriptor(descriptor: number): void {
  const disk = diskOf(descriptor)
  if (disk) {
    guard(descriptor, undefined)
    disk.close(descriptor)
  } else closeCall(descriptor)
}

/**
 * Closes what was written to, on a thread: some file systems write it out then. What they say of that is told by a sync.
 * @throws Unanswered; it is closed all the same
 */
export function closeWritten(descriptor: number): Promise<void> {
  const close = (): Promise<void> => new Promise((resolve) => closeCallback(descriptor, () => resolve()))
  const disk = diskOf(descriptor)
  if (!disk) return close()
  guard(descriptor, undefined)
  return disk.closing(descriptor, close, SYNC_MS)
}

export function mkdirAt(directory: number, name: Buffer, mode: number): void {
  check(mkdiratCall(directory, cstring(name), mode), 'mkdirat', name)
}

/** `rdev` in the kernel's 32-bit encoding, which glibc's dev_t shares below major 4096 and minor 2^20. */
export function mknodAt(directory: number, name: Buffer, mode: number, rdev: number): void {
  check(mknodatCall(directory, cstring(name), mode, rdev), 'mknodat', name)
}

export function unlinkAt(directory: number, name: Buffer, flags = 0): void {
  check(unlinkatCall(directory, cstring(name), flags), 'unlinkat', name)
}

/**
 * Runs what may take the last name of a file. A large one is freed by the close of a descriptor on a thread, and nobody waits for it.
 * `stat` is of what has the name.
 * @throws FsError if it cannot be opened, and what `remove` throws
 */
export function freeingLater<T>(directory: number, name: Buffer, stat: Stat, remove: () => T): T {
  if (!isRegular(stat.mode) || stat.blocks * BLOCK_BYTES <= FREED_AT_ONCE) return remove()
  const descriptor = openAt(directory, name, O_PATH | constants.O_NOFOLLOW)
  try {
    return remove()
  } finally {
    // A disk that does not answer closes it when it does.
    closeWritten(descriptor).catch(() => undefined)
  }
}

export function renameAt(
  fromDirectory: number,
  from: Buffer,
  toDirectory: number,
  to: Buffer,
  flags: number,
): void {
  check(renameat2Call(fromDirectory, cstring(from), toDirectory, cstring(to), flags), 'renameat2', from)
}

export function linkAt(fromDirectory: number, from: Buffer, toDirectory: number, to: Buffer): void {
  check(linkatCall(fromDirectory, cstring(from), toDirectory, cstring(to), 0), 'linkat', to)
}

/** Gives an open file that was made without a name one. @throws FsError ENOENT for a file that has lost its names */
export function linkDescriptor(descriptor: number, directory: number, name: Buffer): void {
  const open = cstring(Buffer.from(`/proc/self/fd/${descriptor}`))
  check(linkatToCall(AT_FDCWD, open, directory, cstring(name), AT_SYMLINK_FOLLOW), 'linkat', name)
}

export function symlinkAt(target: Buffer, directory: number, name: Buffer): void {
  check(symlinkatCall(cstring(target), directory, cstring(name)), 'symlinkat', name)
}

/** `shown`: the name for a message. @throws FsError */
export function readlinkAt(directory: number, name: Buffer, shown = name): Buffer {
  const buffer = Buffer.alloc(4097)
  const length = check(readlinkatCall(directory, cstring(name), buffer, buffer.length), 'readlinkat', shown)
  return buffer.subarray(0, length)
}

/** Changes the mode of an entry that is not a symlink (Linux has no mode of its own for those). */
export function chmodAt(directory: number, name: Buffer, mode: number): void {
  check(fchmodatCall(directory, cstring(name), mode, 0), 'fchmodat', name)
}

/** `undefined` leaves that owner as it is. */
export function chownAt(
  directory: number,
  name: Buffer,
  uid: number | undefined,
  gid: number | undefined,
): void {
  const keep = 0xffffffff
  check(
    fchownatCall(directory, cstring(name), uid ?? keep, gid ?? keep, AT_SYMLINK_NOFOLLOW),
    'fchownat',
    name,
  )
}

type Time = bigint | 'now' | typeof UTIME_OMIT

/** Sets times with nanoseconds, of a symlink itself too. */
export function utimensAt(directory: number, name: Buffer, atime: Time, mtime: Time): void {
  const times = timespecs(atime, mtime)
  check(utimensatCall(directory, cstring(name), times, AT_SYMLINK_NOFOLLOW), 'utimensat', name)
}

/** The same for what a path leads to, symlinks followed. */
export function utimensPath(path: string, atime: Time, mtime: Time): void {
  check(utimensatCall(AT_FDCWD, cstring(Buffer.from(path)), timespecs(atime, mtime), 0), 'utimensat')
}

/** The same for an open file. */
export function utimensDescriptor(descriptor: number, atime: Time, mtime: Time): void {
  check(futimensCall(descriptor, timespecs(atime, mtime)), 'futimens')
}

function timespecs(atime: Time, mtime: Time): Buffer {
  const times = Buffer.alloc(32)
  for (const [index, time] of [atime, mtime].entries()) {
    const offset = index * 16
    if (typeof time === 'bigint') {
      const nanoseconds = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
      times.writeBigInt64LE((time - nanoseconds) / 1_000_000_000n, offset)
      times.writeBigInt64LE(nanoseconds, offset + 8)
    } else {
      // UTIME_NOW and UTIME_OMIT of sys/stat.h
      times.writeBigInt64LE(time === 'now' ? 0x3fffffffn : 0x3ffffffen, offset + 8)
    }
  }
  return times
}

/** Syncs an open file or directory within this tick. @throws FsError */
export function syncNow(descriptor: number): void {
  check(fsyncCall(descriptor), 'fsync')
}

/** Up to a few KiB within this tick. @throws FsError */
export function readNow(descriptor: number, buffer: Buffer): number {
  return check(preadCall(descriptor, buffer, buffer.length, 0), 'pread')
}

export function writeNow(descriptor: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; )
    done += check(pwriteCall(descriptor, bytes.subarray(done), bytes.length - done, done), 'pwrite')
}

/** Of an open file. @throws FsError */
export function truncateDescriptor(descriptor: number, size: number): void {
  check(ftruncateCall(descriptor, size), 'ftruncate')
}

/** To cut it so far may take its time: `truncateByThread`. */
export function cutsMuch(stat: Stat, size: number): boolean {
  return size < stat.size && stat.blocks * BLOCK_BYTES > FREED_AT_ONCE
}

/** The same as `truncateDescriptor`, on a thread. @throws FsError, Unanswered */
export function truncateByThread(descriptor: number, size: number): Promise<void> {
  const truncate = (): Promise<void> =>
    new Promise((resolve, reject) =>
      ftruncate(descriptor, size, (error) => {
        if (!error) return resolve()
        const code = errnoName(-(error.errno ?? 0))
        reject(new FsError(volumeErrno(code), `ftruncate: ${code}`))
      }),
    )
  return whileGuarded(descriptor, truncate, SYNC_MS)
}

export function chmodDescriptor(descriptor: number, mode: number): void {
  check(fchmodCall(descriptor, mode), 'fchmod')
}

export function chownDescriptor(descriptor: number, uid: number, gid: number): void {
  check(fchownCall(descriptor, uid, gid), 'fchown')
}

export function fallocate(descriptor: number, mode: number, offset: number, length: number): void {
  check(fallocateCall(descriptor, mode, offset, length), 'fallocate')
}

/** Offset of the next data or hole; ENXIO at and after the end. */
export function seek(descriptor: number, offset: number, whence: number): number {
  return check(lseekCall(descriptor, offset, whence), 'lseek')
}

export function copyFileRange(
  from: number,
  fromOffset: number,
  to: number,
  toOffset: number,
  length: number,
): number {
  const offsets = Buffer.alloc(16)
  offsets.writeBigInt64LE(BigInt(fromOffset), 0)
  offsets.writeBigInt64LE(BigInt(toOffset), 8)
  return check(
    copyFileRangeCall(from, offsets.subarray(0, 8), to, offsets.subarray(8), length, 0),
    'copy_file_range',
  )
}

/** Resolves when everything on the descriptor's file system is on the medium. */
export async function syncFileSystem(descriptor: number): Promise<void> {
  const result = await whileGuarded(descriptor, () => syncfsCall(descriptor), SYNC_MS)
  if (result !== 0) throw new FsError('EIO', 'syncfs failed')
}

/**
 * Syncs an open file or directory on a thread. A disk may be busy for long with what was written before.
 * @throws the error of fsync(2), Unanswered
 */
export function syncDescriptor(descriptor: number, dataOnly = false): Promise<void> {
  const sync = (): Promise<void> =>
    new Promise((resolve, reject) =>
      (dataOnly ? fdatasync : fsync)(descriptor, (error) => (error ? reject(error) : resolve())),
    )
  return whileGuarded(descriptor, sync, SYNC_MS)
}

/** Runs `body` with more time for each call on the disk of the descriptor than applications are made to wait. */
export function patiently<T>(descriptor: number, body: () => T): T {
  const disk = diskOf(descriptor)
  return disk ? disk.patiently(body) : body()
}

/** Runs what works on the descriptor in a thread of the pool. @throws its error, Unanswered */
export function whileGuarded<T>(descriptor: number, body: () => Promise<T>, deadlineMs?: number): Promise<T> {
  const disk = diskOf(descriptor)
  return disk ? disk.during(body, deadlineMs) : body()
}

const LOCK_EX = 2
const LOCK_NB = 4

/** Locks an open file or directory against whoever asks the same, until it is closed: flock(2). @throws FsError EAGAIN if it is locked */
export function lockDescriptor(descriptor: number): void {
  check(flockCall(descriptor, LOCK_EX | LOCK_NB), 'flock')
}
