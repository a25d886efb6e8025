export { Catalog, type CatalogOptions } from './catalog.ts'
export { BLOCK_BYTES, CHUNK_BLOCKS, CHUNK_BYTES } from './blocks.ts'
export type { Incoming, Owner } from './content-index.ts'
export { type Departure, Forgetting } from './departures.ts'
export type { ShownEntry } from './dirents.ts'
export type { GoneDirectory } from './directory-records.ts'
export { KNOWS_ALL, MADE_WITHOUT_STORE } from './doubts.ts'
export * from './inode.ts'
export type { Dirent } from './links.ts'
export type { MendNotes } from './mend-notes.ts'
export { MetNotes } from './met-notes.ts'
export { metaOfUnused } from './meta.ts'
export { ALL_SHARDS, bucketsOf, shardOf } from './name-buckets.ts'
export { NAME_MAX, wrongName } from './names.ts'
export { isOwnIno } from './numbers.ts'
export { contentKey, parseContentKey } from './object-keys.ts'
export type { Garbage, ShardWatch, Work } from './outbox.ts'
export type { StagedChunk, StagedRow } from './staged-rows.ts'
export { isStored } from './totals.ts'
export { type FoundName, NAMES_COUNTED } from './unmet-names.ts'
export {
  hasVanished,
  isUnmet,
  keepsVanished,
  keepVanished,
  letVanishedGo,
  mayBeElsewhere,
  oweWhatWasKept,
} from './vanished.ts'
