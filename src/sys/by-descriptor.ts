import { chmodSync } from 'node:fs'
import { utimensPath } from './files.ts'
import { check, cstring, declare } from './library.ts'
import { xattrsOfPath } from './xattr.ts'

const fchownatCall = declare('int fchownat(int, const void *, unsigned int, unsigned int, int)')
const fadviseCall = declare('int posix_fadvise(int, int64_t, int64_t, int)')

// linux/fcntl.h, linux/fadvise.h
const AT_EMPTY_PATH = 0x1000
const POSIX_FADV_DONTNEED = 4
const EMPTY = cstring(Buffer.alloc(0))

/**
 * The file itself, whatever name it has now. The kernel goes from there straight to what the descriptor stands for, also
 * where that is a symlink: no name is looked up, so nobody can put another file in its place.
 */
function pathOf(descriptor: number): string {
  return `/proc/self/fd/${descriptor}`
}

/**
 * Changes a file by any descriptor of it, one with O_PATH included: that is the only one that a symlink, a device or a
 * named pipe can have without being opened. @throws FsError or Node's system error
 */
export const byDescriptor = {
  chown(descriptor: number, uid: number, gid: number): void {
    check(fchownatCall(descriptor, EMPTY, uid, gid, AT_EMPTY_PATH), 'fchownat')
  },

  /** Not of a symlink: that has no mode of its own. */
  chmod(descriptor: number, mode: number): void {
    chmodSync(pathOf(descriptor), mode)
  },

  /** Nanoseconds since the epoch. */
  utimens(descriptor: number, atimeNs: bigint, mtimeNs: bigint): void {
    utimensPath(pathOf(descriptor), atimeNs, mtimeNs)
  },

  listXattrs(descriptor: number): Buffer[] {
    return xattrsOfPath.list(pathOf(descriptor))
  },

  getXattr(descriptor: number, name: Buffer): Buffer {
    return xattrsOfPath.get(pathOf(descriptor), name)
  },

  setXattr(descriptor: number, name: Buffer, value: Buffer): void {
    xattrsOfPath.set(pathOf(descriptor), name, value)
  },

  removeXattr(descriptor: number, name: Buffer): void {
    xattrsOfPath.remove(pathOf(descriptor), name)
  },
}

/** Takes what is clean of the file out of the page cache: the next read of it comes from the medium. */
export function dropCached(descriptor: number): void {
  fadviseCall(descriptor, 0, 0, POSIX_FADV_DONTNEED)
}
