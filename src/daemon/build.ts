import { join } from 'node:path'
import type { FailedSyncs } from '../base/failed-syncs.ts'
import { makePrivateDirectory } from '../base/private.ts'
import type { Catalog } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import {
  Activity,
  Carrier,
  type ChunkCache,
  type ContentContext,
  type ContentSettings,
  DirectoryWriter,
  DiskCache,
  LegacyFiles,
  type ReadCounters,
  Reader,
  SHARD_ENTRIES,
  StagedChunks,
  Staging,
  StoredContent,
  Uploader,
  VolumeProof,
  Writer,
} from '../content/index.ts'
import { type ModeSwitch, Mover, Reaper } from '../migration/index.ts'
import { Overlay, type OverlayContext } from '../overlay/index.ts'
import type { KeyValueStore } from '../store/contract.ts'
import { FencedStore } from '../store/fenced.ts'
import type { Connection } from './connection.ts'
import { ConnectionHolder } from './holder.ts'
import type { Volume } from './volume.ts'

export const CACHE_DIRECTORY = 'cache'

interface Foundation {
  readonly catalog: Catalog
  readonly store: KeyValueStore
  readonly modes: Pick<ModeSwitch, 'policy'>
  readonly volume: Volume
  readonly epoch: number
  readonly failedSyncs: FailedSyncs
  /** Resolves once a file may go from the legacy volume, as far as that depends on who has been told of it. */
  readonly beforeRemoval?: () => Promise<void> | undefined
  /** In the place of those that change what is in the state directory. */
  readonly kept?: { readonly staging: Staging; readonly cache: ChunkCache }
}

export interface Built {
  readonly context: OverlayContext
  readonly overlay: Overlay
  readonly stored: StoredContent
  readonly directories: DirectoryWriter
  readonly mover: Mover
  readonly reaper: Reaper
  readonly counters: ReadCounters
}

export function contentSettings(config: MountConfig): ContentSettings {
  const stagingDirectory = join(config.stateDir, 'staging')
  makePrivateDirectory(stagingDirectory)
  return {
    stagingDirectory,
    stagingLimit: config.stagingLimit,
    inlineLimit: config.inlineLimit,
    opTimeoutMs: config.opTimeout,
    memoryCacheBytes: config.memoryCacheLimit,
    shardEntries: SHARD_ENTRIES,
  }
}

/** Composes everything between store and transport; `config` and `connection` are all that it knows of its process. */
export function build(
  config: MountConfig,
  connection: Connection,
  { catalog, store, modes, volume, epoch, failedSyncs, beforeRemoval, kept }: Foundation,
): Built {
  const settings = contentSettings(config)
  const fenced = new FencedStore(store, () => catalog.ready())
  const content: ContentContext = {
    catalog,
    legacy: () => volume.tree,
    store: fenced,
    epoch,
    activity: new Activity(),
    log: connection.log,
    settings,
    failedSyncs,
    policy: () => modes.policy,
  }
  const counters: ReadCounters = { legacy: 0, store: 0, staging: 0, cache: 0, overtaken: 0 }
  const holder = new ConnectionHolder(connection)
  const legacyFiles = new LegacyFiles(content, holder)
  const staging = kept?.staging ?? new Staging(settings, catalog)
  const cache = kept?.cache ?? new DiskCache(join(config.stateDir, CACHE_DIRECTORY), config.cacheLimit)
  const stored = new StoredContent(content, counters, cache)
  const chunks = new StagedChunks(content, staging)
  const reader = new Reader(content, { legacy: legacyFiles, staging, chunks, stored, counters })
  const writer = new Writer(content, { reader, legacy: legacyFiles, staging, chunks })
  const proof = new VolumeProof(content)
  const uploader = new Uploader(content, { legacy: legacyFiles, staging, reader, writer, proof })
  const directories = new DirectoryWriter(content)
  const fence = fenced.fence.bind(fenced)
  const carrier = new Carrier(content, { uploader, directories, concurrency: config.concurrency, fence })
  const context: OverlayContext = {
    ...content,
    legacyFiles,
    reader,
    writer,
    staging,
    uploader,
    proof,
    carrier,
    ack: config.ack,
    takesOver: connection.takesOver,
  }
  const overlay = new Overlay(context)
  const reaper = new Reaper(context, { directories, stored, ...(beforeRemoval && { beforeRemoval }) })
  const mover = new Mover(context, overlay, reaper, config.concurrency)
  if (!connection.takesOver) for (const id of holder.ids()) holder.drop(id)
  return { context, overlay, stored, directories, mover, reaper, counters }
}
