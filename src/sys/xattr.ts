import { check, cstring, declare, declareOn } from './library.ts'

const lsetxattr = declareOn('int lsetxattr(const void *, const void *, const void *, size_t, int)')
const lgetxattr = declareOn('long lgetxattr(const void *, const void *, void *, size_t)')
const llistxattr = declareOn('long llistxattr(const void *, void *, size_t)')
const lremovexattr = declareOn('int lremovexattr(const void *, const void *)')
const setxattr = declareOn('int setxattr(const void *, const void *, const void *, size_t, int)')
const getxattr = declareOn('long getxattr(const void *, const void *, void *, size_t)')
const listxattr = declareOn('long listxattr(const void *, void *, size_t)')
const removexattr = declareOn('int removexattr(const void *, const void *)')
const fsetxattr = declare('int fsetxattr(int, const void *, const void *, size_t, int)')
const fgetxattr = declare('long fgetxattr(int, const void *, void *, size_t)')
const flistxattr = declare('long flistxattr(int, void *, size_t)')
const fremovexattr = declare('int fremovexattr(int, const void *)')

// A path of its own stands for whatever is there.
const NO_DISK = -1

// There is no *at form of the xattr calls before kernel 6.13. A path through the directory's own descriptor cannot
// leave the volume: its last component is one name, and the l-calls do not follow a symlink there.
function pathOf(directory: number, name: Buffer): Buffer {
  return cstring(Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), name]))
}

// XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h
const MAX_BYTES = 65536

export function setXattr(directory: number, file: Buffer, name: Buffer, value: Buffer, flags: number): void {
  check(
    lsetxattr(directory, pathOf(directory, file), cstring(name), value, value.length, flags),
    'lsetxattr',
    file,
  )
}

const scratch = Buffer.alloc(MAX_BYTES)

export function getXattr(directory: number, file: Buffer, name: Buffer): Buffer {
  const length = check(
    lgetxattr(directory, pathOf(directory, file), cstring(name), scratch, scratch.length),
    'lgetxattr',
    file,
  )
  return Buffer.from(scratch.subarray(0, length))
}

export function listXattrs(directory: number, file: Buffer): Buffer[] {
  return namesIn(
    check(llistxattr(directory, pathOf(directory, file), scratch, scratch.length), 'llistxattr', file),
  )
}

/** Splits the NUL-terminated names at the start of the scratch buffer. */
function namesIn(length: number): Buffer[] {
  const names: Buffer[] = []
  for (let start = 0; start < length; ) {
    const end = scratch.indexOf(0, start)
    names.push(Buffer.from(scratch.subarray(start, end)))
    start = end + 1
  }
  return names
}

export function removeXattr(directory: number, file: Buffer, name: Buffer): void {
  check(lremovexattr(directory, pathOf(directory, file), cstring(name)), 'lremovexattr', file)
}

/** The same of an open file, which may have no name any more. */
export const xattrsOfOpen = {
  set(descriptor: number, name: Buffer, value: Buffer, flags: number): void {
    check(fsetxattr(descriptor, cstring(name), value, value.length, flags), 'fsetxattr')
  },

  get(descriptor: number, name: Buffer): Buffer {
    const length = check(fgetxattr(descriptor, cstring(name), scratch, scratch.length), 'fgetxattr')
    return Buffer.from(scratch.subarray(0, length))
  },

  list(descriptor: number): Buffer[] {
    return namesIn(check(flistxattr(descriptor, scratch, scratch.length), 'flistxattr'))
  },

  remove(descriptor: number, name: Buffer): void {
    check(fremovexattr(descriptor, cstring(name)), 'fremovexattr')
  },
}

/** The same of what a path leads to, symlinks followed. */
export const xattrsOfPath = {
  set(path: string, name: Buffer, value: Buffer): void {
    check(setxattr(NO_DISK, cstring(Buffer.from(path)), cstring(name), value, value.length, 0), 'setxattr')
  },

  get(path: string, name: Buffer): Buffer {
    const at = cstring(Buffer.from(path))
    const length = check(getxattr(NO_DISK, at, cstring(name), scratch, scratch.length), 'getxattr')
    return Buffer.from(scratch.subarray(0, length))
  },

  list(path: string): Buffer[] {
    return namesIn(
      check(listxattr(NO_DISK, cstring(Buffer.from(path)), scratch, scratch.length), 'listxattr'),
    )
  },

  remove(path: string, name: Buffer): void {
    check(removexattr(NO_DISK, cstring(Buffer.from(path)), cstring(name)), 'removexattr')
  },
}
