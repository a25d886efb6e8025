import type { Attributes, StatFs } from '../operations.ts'
import type { NativeStatFs } from './library.ts'

const TWO_32 = 0x1_0000_0000
/** Numbers of files that have none on the volume begin here. */
const OWN_NUMBERS = 1n << 48n
const HALF = 1n << 31n
const NS_PER_MS = 1_000_000n
const MAX_32 = 0xffff_ffff

/**
 * An inode number in 32 bits. Small ones stay, those of the overlay's own files count down from the top, so that on a
 * volume with fewer than 2^31 inodes no two files have the same; larger numbers are folded, and may meet.
 */
export function inode32(ino: bigint): number {
  if (ino < HALF) return Number(ino)
  if (ino >= OWN_NUMBERS && ino - OWN_NUMBERS < HALF) return MAX_32 - Number(ino - OWN_NUMBERS)
  // Fibonacci hashing: the upper half of the product with 2^64 / φ spreads neighbours; 0 would mean that there is none.
  return Number((BigInt.asUintN(64, ino * 0x9e37_79b9_7f4a_7c15n) >> 32n) | 1n)
}

/** Milliseconds since 1970 as an exact number; earlier times cannot be said and become 1970, far later ones the latest. */
const milliseconds = (ns: bigint): number =>
  ns > 0n ? Math.min(Number(ns / NS_PER_MS), Number.MAX_SAFE_INTEGER) : 0

/** The words of `struct stat` in the order in which fuse-native 2.2.6 reads them (populate_stat in fuse-native.c). */
export function statWords(attributes: Attributes): Uint32Array {
  const { mode, uid, gid, size, nlink, ino, rdev, blksize, blocks, atimeNs, mtimeNs, ctimeNs } = attributes
  const pair = (value: number): [low: number, high: number] => [value % TWO_32, Math.floor(value / TWO_32)]
  return Uint32Array.of(
    mode,
    uid,
    gid,
    ...pair(size),
    0,
    nlink,
    inode32(ino),
    rdev,
    blksize,
    ...pair(blocks),
    ...pair(milliseconds(atimeNs)),
    ...pair(milliseconds(mtimeNs)),
    ...pair(milliseconds(ctimeNs)),
  )
}

/** Counts of blocks that do not fit 32 bits are given in larger blocks. */
export function nativeStatFs(space: StatFs): NativeStatFs {
  let unit = 1n
  while (space.blocks / unit > BigInt(MAX_32)) unit *= 2n
  const files = (count: bigint): number => (count > BigInt(MAX_32) ? MAX_32 : Number(count))
  return {
    bsize: space.bsize * Number(unit),
    frsize: space.frsize * Number(unit),
    blocks: Number(space.blocks / unit),
    bfree: Number(space.bfree / unit),
    bavail: Number(space.bavail / unit),
    files: files(space.files),
    ffree: files(space.ffree),
    favail: files(space.ffree),
    namemax: space.namelen,
  }
}
