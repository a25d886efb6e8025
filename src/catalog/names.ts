import { crc32 } from 'node:zlib'

/** 16-bit hash of a name; the shards of a directory record are ranges of it. Part of the store's format. */
export function bucketOf(name: Buffer): number {
  return crc32(name) & 0xffff
}

/** Shard of a bucket when there are `shards` of them (a power of two up to 65,536). */
export function shardOf(bucket: number, shards: number): number {
  return Math.floor(bucket / (65536 / shards))
}

/** Shard of a name when there are `shards` of them. */
export function shardOfName(name: Buffer, shards: number): number {
  return shardOf(bucketOf(name), shards)
}

/** The buckets [from, to) of a shard when there are `shards` of them. */
export function bucketsOf(shard: number, shards: number): { readonly from: number; readonly to: number } {
  const width = 65536 / shards
  return { from: shard * width, to: (shard + 1) * width }
}

/** Longest name in bytes (linux/limits.h); newer kernels let longer ones through to a FUSE file system. */
export const NAME_MAX = 255

/**
 * What is wrong with a name, in words; undefined for one that a file can have in a directory. Whatever brings names from outside asks
 * here: a store's records, a volume, a command line.
 */
export function wrongName(name: Buffer): string | undefined {
  if (name.length === 0) return 'its name is empty'
  if (name.length > NAME_MAX) return `its name is longer than ${NAME_MAX} bytes`
  const text = name.toString('latin1')
  if (text === '.' || text === '..') return 'its name is one that every directory has'
  if (text.includes('/')) return 'there is a slash in its name'
  return text.includes('\0') ? 'there is a NUL in its name' : undefined
}
