import type { BigIntStats } from 'node:fs'

/** stat(2), times in nanoseconds since the epoch, blocks of 512 bytes. */
export interface Stat {
  readonly dev: bigint
  readonly ino: bigint
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly rdev: number
  readonly size: number
  readonly blksize: number
  readonly blocks: number
  readonly atimeNs: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
}

/** An entry as getdents64(2) hands it out; `offset` is where lseek(2) goes on after it. */
export interface RawEntry {
  readonly name: Buffer
  readonly ino: bigint
  readonly type: number
  readonly offset: bigint
}

/** A time for utimensat(2): nanoseconds since the epoch, now (UTIME_NOW), or as it is (UTIME_OMIT). */
export type Time = bigint | 'now' | 'omit'

export interface LockRange {
  readonly type: 'read' | 'write' | 'unlock'
  readonly start: number
  /** 0: to the end, however far it grows. */
  readonly length: number
}

export interface HeldLock extends LockRange {
  /** -1 for an open file description lock. */
  readonly pid: number
}

export interface VolumeStat {
  readonly bsize: number
  readonly frsize: number
  readonly blocks: number
  readonly bfree: number
  readonly bavail: number
  readonly files: number
  readonly ffree: number
  readonly namemax: number
}

const UTIME_NOW = 2n ** 30n - 1n
const UTIME_OMIT = 2n ** 30n - 2n
const SECOND = 1_000_000_000n

export function toStat(stat: BigIntStats): Stat {
  return {
    dev: stat.dev,
    ino: stat.ino,
    mode: Number(stat.mode),
    nlink: Number(stat.nlink),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    rdev: Number(stat.rdev),
    size: Number(stat.size),
    blksize: Number(stat.blksize),
    blocks: Number(stat.blocks),
    atimeNs: stat.atimeNs,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
  }
}

export function timespecs(atime: Time, mtime: Time): BigInt64Array {
  const pair = (time: Time): [bigint, bigint] => {
    if (time === 'now') return [0n, UTIME_NOW]
    if (time === 'omit') return [0n, UTIME_OMIT]
    const nanoseconds = ((time % SECOND) + SECOND) % SECOND
    return [(time - nanoseconds) / SECOND, nanoseconds]
  }
  return BigInt64Array.from([...pair(atime), ...pair(mtime)])
}

export function parseEntries(bytes: Buffer): RawEntry[] {
  const entries: RawEntry[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt16LE(at + 16)
    const name = bytes.subarray(at + 19, at + length)
    entries.push({
      ino: bytes.readBigUInt64LE(at),
      offset: bytes.readBigInt64LE(at + 8),
      type: bytes.readUInt8(at + 18),
      name: Buffer.from(name.subarray(0, name.indexOf(0))),
    })
    at += length
  }
  return entries
}

// struct flock of the 64-bit ABIs: l_type, l_whence, l_start at 8, l_len at 16, l_pid at 24.
export const LOCK_TYPES = ['read', 'write', 'unlock'] as const

export function lockStruct(lock: LockRange): Buffer {
  const struct = Buffer.alloc(32)
  struct.writeInt16LE(LOCK_TYPES.indexOf(lock.type), 0)
  struct.writeBigInt64LE(BigInt(lock.start), 8)
  struct.writeBigInt64LE(BigInt(lock.length), 16)
  return struct
}
