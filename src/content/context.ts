import type { FailedSyncs } from '../base/failed-syncs.ts'
import type { Policy } from '../base/modes.ts'
import { type Catalog, CHUNK_BYTES } from '../catalog/index.ts'
import type { LegacyTree } from '../legacy/index.ts'
import type { Log } from '../observe/log.ts'
import type { KeyValueStore } from '../store/contract.ts'
import type { Activity } from './activity.ts'

export { CHUNK_BYTES }

/** `ContentSettings.shardEntries` of every daemon. */
export const SHARD_ENTRIES = 1000

export interface ContentSettings {
  /** Directory of the staging files. */
  readonly stagingDirectory: string
  /** Most bytes in staging files; a write beyond gets ENOSPC. */
  readonly stagingLimit: number
  /** Files up to this size lie in the store as one object with the file's own bytes; at most CHUNK_BYTES. */
  readonly inlineLimit: number
  /** Most milliseconds that an application waits for the store in one call. */
  readonly opTimeoutMs: number
  /** Bytes of chunks kept in memory. */
  readonly memoryCacheBytes: number
  /** A shard of a directory's record that would grow past so many entries is split. */
  readonly shardEntries: number
}

/** What the parts of content, overlay and migration share. */
export interface ContentContext {
  readonly catalog: Catalog
  /** `undefined` once the volume is detached. */
  legacy(): LegacyTree | undefined
  readonly store: KeyValueStore
  /** Epoch of the lease under which this daemon writes. */
  readonly epoch: number
  readonly activity: Activity
  readonly log: Log
  readonly settings: ContentSettings
  readonly failedSyncs: FailedSyncs
  policy(): Policy
}

/** Reads of content by the side that served them. */
export interface ReadCounters {
  legacy: number
  store: number
  staging: number
  cache: number
  /** Of those by the volume: the store was to serve them, and took too long. */
  overtaken: number
}

/** Number of chunks of a file of this size. */
export function chunkCount(size: number): number {
  return Math.ceil(size / CHUNK_BYTES)
}
