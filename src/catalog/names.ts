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
