import koffi from 'koffi'
import { errnoName, FsError, volumeErrno } from '../base/errors.ts'
import { closeDescriptor, O_CLOEXEC, openAt } from './files.ts'
import { cstring, declareHere, printable } from './library.ts'
import { statDescriptor } from './stat.ts'

// The number is the same on all architectures since Linux 5.6.
const SYS_OPENAT2 = 437
const RESOLVE_NO_XDEV = 0x01n
const HOW_BYTES = 24

const openat2 = declareHere('long syscall(long number, long directory, void *name, void *how, size_t bytes)')
let isKnown = true

/**
 * Opens what is under a name, of the file system that the directory is of, and not what somebody has mounted there.
 * @throws FsError EXDEV if something is
 */
export function openInside(directory: number, name: Buffer, flags: number): number {
  if (!isKnown) return openOfSame(directory, name, flags)
  const how = Buffer.alloc(HOW_BYTES)
  how.writeBigUInt64LE(BigInt((flags | O_CLOEXEC) >>> 0), 0)
  how.writeBigUInt64LE(RESOLVE_NO_XDEV, 16)
  const descriptor = openat2(SYS_OPENAT2, directory, cstring(name), how, HOW_BYTES)
  if (descriptor >= 0) return descriptor
  const code = errnoName(koffi.errno())
  if (code !== 'ENOSYS') throw new FsError(volumeErrno(code), `openat2 ${printable(name)}: ${code}`)
  isKnown = false
  return openOfSame(directory, name, flags)
}

/** Before Linux 5.6: what has another device is of another file system. */
function openOfSame(directory: number, name: Buffer, flags: number): number {
  const descriptor = openAt(directory, name, flags)
  if (statDescriptor(descriptor).dev === statDescriptor(directory).dev) return descriptor
  closeDescriptor(descriptor)
  throw new FsError('EXDEV', `openat ${printable(name)}: another file system is mounted there`)
}
