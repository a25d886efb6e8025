import { check, declare } from './library.ts'

const getCall = declare('int ioctl(int, unsigned long, void *)')
const setCall = declare('int ioctl(int, unsigned long, const void *)')

// linux/fs.h, as x86 and ARM encode them: the type says long, what is passed is an int.
export const FS_IOC_GETFLAGS = 0x8008_6601
export const FS_IOC_SETFLAGS = 0x4008_6602

/** Flags of ioctl_iflags(2) of an open file or directory. @throws FsError ENOTTY where the file system has none */
export function flagsOf(descriptor: number): number {
  const buffer = Buffer.alloc(8)
  check(getCall(descriptor, FS_IOC_GETFLAGS, buffer), 'FS_IOC_GETFLAGS')
  return buffer.readUInt32LE(0)
}

/** @throws FsError EPERM, EOPNOTSUPP */
export function setFlagsOf(descriptor: number, flags: number): void {
  const buffer = Buffer.alloc(8)
  buffer.writeUInt32LE(flags, 0)
  check(setCall(descriptor, FS_IOC_SETFLAGS, buffer), 'FS_IOC_SETFLAGS')
}
