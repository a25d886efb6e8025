import { MOST_BYTES } from '../base/attribute-ranges.ts'
import type { Attributes } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { GUARDS } from '../base/inode-flags.ts'
import { check, cstring, declare } from './library.ts'

const statxCall = declare('int statx(int, const void *, int, unsigned int, void *)')

// linux/stat.h
const STATX_BASIC_STATS = 0x7ff
const STATX_BTIME = 0x800
// Since 5.8; without it a file system is told by its device alone.
const STATX_ATTR_MOUNT_ROOT = 0x2000
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
// Ask the file system what it knows; never trigger an automount.
const AT_NO_AUTOMOUNT = 0x800

/** What statx(2) tells: attributes, plus what identifies the file beyond its inode number. */
export interface Stat extends Attributes {
  readonly flags: number
  /** Something is mounted there, and this is its root: a directory, or a file that is bind-mounted. */
  readonly isMountRoot: boolean
  /** Device as major * 2^20 + minor. */
  readonly dev: bigint
  /** Time of birth in nanoseconds, 0 where the file system keeps none. Tells apart two files that had one inode number. */
  readonly btimeNs: bigint
}

// struct statx has one layout on every architecture.
const buffer = Buffer.alloc(256)
const EMPTY = Buffer.from([0])

const timeAt = (offset: number): bigint =>
  buffer.readBigInt64LE(offset) * 1_000_000_000n + BigInt(buffer.readUInt32LE(offset + 8))

/** @throws FsError EOVERFLOW, as stat(2) has it where a size does not fit */
function exact(size: bigint): number {
  if (size <= MOST_BYTES) return Number(size)
  throw new FsError('EOVERFLOW', `a file of ${size} bytes: ferryfs serves files of up to 8 PiB (2^53 bytes)`)
}

function decode(): Stat {
  const major = buffer.readUInt32LE(128)
  const minor = buffer.readUInt32LE(132)
  return {
    // STATX_ATTR_IMMUTABLE and STATX_ATTR_APPEND are FS_IMMUTABLE_FL and FS_APPEND_FL.
    flags: buffer.readUInt32LE(8) & GUARDS,
    isMountRoot: (buffer.readUInt32LE(8) & STATX_ATTR_MOUNT_ROOT) !== 0,
    ino: buffer.readBigUInt64LE(32),
    mode: buffer.readUInt16LE(28),
    nlink: buffer.readUInt32LE(16),
    uid: buffer.readUInt32LE(20),
    gid: buffer.readUInt32LE(24),
    // new_encode_dev of linux/kdev_t.h
    rdev: ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0,
    size: exact(buffer.readBigUInt64LE(40)),
    blocks: Number(buffer.readBigUInt64LE(48)),
    blksize: buffer.readUInt32LE(4),
    atimeNs: timeAt(64),
    mtimeNs: timeAt(112),
    ctimeNs: timeAt(96),
    btimeNs: buffer.readUInt32LE(0) & STATX_BTIME ? timeAt(80) : 0n,
    dev: (BigInt(buffer.readUInt32LE(136)) << 20n) | BigInt(buffer.readUInt32LE(140)),
  }
}

/** Attributes of the directory entry itself, a symlink not followed. @throws FsError */
export function statAt(directory: number, name: Buffer): Stat {
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT
  check(statxCall(directory, cstring(name), flags, STATX_BASIC_STATS | STATX_BTIME, buffer), 'statx', name)
  return decode()
}

/** Attributes of an open file (O_PATH included). @throws FsError */
export function statDescriptor(descriptor: number): Stat {
  check(statxCall(descriptor, EMPTY, AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, buffer), 'statx')
  return decode()
}
