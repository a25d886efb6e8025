import { z } from 'zod'
import { FsError } from './errors.ts'

/**
 * What an attribute may be, wherever it is: in a request, on the volume, in the catalog, in the store, in a restored tree. Whoever
 * takes one in asks here, so what has come in can go out again by every way.
 */

const NS_PER_SECOND = 1_000_000_000n

/** Sizes are numbers, which are exact up to here: 8 PiB. */
export const MOST_BYTES = Number.MAX_SAFE_INTEGER

/** The last number of 32 bits is no user and no group: chown(2) takes it for "leave it". */
export const MOST_ID = 2 ** 32 - 2

/** Of what the kernel has 32 bits for: link counts, device numbers. */
export const MOST_U32 = 2 ** 32 - 1

/**
 * Seconds of a time are a signed number of 64 bits, in the kernel (time64_t) and in its FUSE protocol. The first and the last
 * second have no nanoseconds (timestamp_truncate() in fs/inode.c). tmpfs and btrfs have all of it; ext4 goes from 1901 to 2446,
 * XFS to 2486, and both cut what they are given to that.
 */
export const FIRST_TIME_NS = -(2n ** 63n) * NS_PER_SECOND
export const LAST_TIME_NS = (2n ** 63n - 1n) * NS_PER_SECOND

/** Extended attributes of one file in all, as they are recorded (content/xattrs.ts): a volume may have more than ext4's 4 KiB. */
export const MOST_XATTR_BYTES = 8 * 1024 * 1024

/** XATTR_LIST_MAX of linux/limits.h: names of more bytes in all, each with a NUL, cannot be listed. */
export const MOST_XATTR_NAMES_BYTES = 65536

const isWithin = (value: number, most: number): boolean =>
  Number.isInteger(value) && value >= 0 && value <= most

export const isId = (value: number): boolean => isWithin(value, MOST_ID)
const isTime = (ns: bigint): boolean => ns >= FIRST_TIME_NS && ns <= LAST_TIME_NS

interface Ranged {
  readonly mode?: number
  readonly nlink?: number
  readonly rdev?: number
  readonly uid?: number
  readonly gid?: number
  readonly size?: number
  readonly atimeNs?: bigint
  readonly mtimeNs?: bigint
  readonly ctimeNs?: bigint
  readonly btimeNs?: bigint
}

/** @throws FsError EFBIG for a size, EINVAL for anything else that is out of its range */
export function requireInRange(attributes: Ranged): void {
  const { mode = 0, nlink = 0, rdev = 0, uid = 0, gid = 0, size = 0 } = attributes
  const { atimeNs = 0n, mtimeNs = 0n, ctimeNs = 0n, btimeNs = 0n } = attributes
  if (!isWithin(size, MOST_BYTES))
    throw new FsError('EFBIG', `a file of ${size} bytes; at most ${MOST_BYTES}`)
  const refuse = (what: string): never => {
    throw new FsError('EINVAL', `${what} is out of the range that there is`)
  }
  if (!isId(uid) || !isId(gid)) refuse(`owner ${uid}:${gid}`)
  if (!isWithin(mode, 0o177777)) refuse(`mode ${mode}`)
  if (!isWithin(nlink, MOST_U32) || !isWithin(rdev, MOST_U32)) refuse(`link count ${nlink} or device ${rdev}`)
  const times = [atimeNs, mtimeNs, ctimeNs, btimeNs]
  if (!times.every(isTime)) refuse(`time ${times.join(', ')}`)
}

/** A time as text, in nanoseconds since the epoch. */
export const timeText = z
  .string()
  .refine((text) => /^-?\d{1,28}$/.test(text) && isTime(BigInt(text)), 'no time')
export const idNumber = z.int().nonnegative().max(MOST_ID)
/** Extended attributes in base64. */
export const xattrsText = z.string().max(Math.ceil(MOST_XATTR_BYTES / 3) * 4)
