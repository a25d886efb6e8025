export { Activity } from './activity.ts'
export { Carrier } from './carrier.ts'
export {
  CHUNK_BYTES,
  type ContentContext,
  type ContentSettings,
  chunkCount,
  type ReadCounters,
  SHARD_ENTRIES,
} from './context.ts'
export { adoptGuardsPast } from './directory-flags.ts'
export { entriesToRecord } from './directory-content.ts'
export * from './directory-record.ts'
export { DirectoryWriter } from './directory-writer.ts'
export { discardDirectoryRecord } from './gone-directories.ts'
export { type ChunkCache, DiskCache, KeptCache } from './disk-cache.ts'
export { sha256 } from './hash.ts'
export { keptByFlags } from './kept-by-flags.ts'
export { KeptStaging } from './kept-staging.ts'
export { type Holder, LegacyFiles } from './legacy-files.ts'
export { MOST_LEVELS } from './list.ts'
export { listedObjects } from './listed.ts'
export * from './manifest.ts'
export { Reader } from './reader.ts'
export { renew } from './renewal.ts'
export { afterPowerLoss } from './power-loss.ts'
export { StagedChunks } from './staged-chunks.ts'
export { Staging } from './staging.ts'
export { StoredContent } from './stored.ts'
export * from './takeover.ts'
export { Uploader, type UploadResult } from './uploader.ts'
export { VolumeProof } from './volume-proof.ts'
export { Writer } from './writer.ts'
export { decodeXattrs, encodeXattrs } from './xattrs.ts'
export { ALL_ZEROS, dataBlocks, zerosOf } from './zeros.ts'
