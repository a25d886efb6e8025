import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Registry } from 'prom-client'
import { DatabaseDamaged, removeDatabase } from '../base/database.ts'
import { FsError, UsageError } from '../base/errors.ts'
import { FailedSyncs } from '../base/failed-syncs.ts'
import { faultPoint } from '../base/faults.ts'
import { isMode, type Mode, policyOf } from '../base/modes.ts'
import { makePrivateDirectory, makePrivateFile } from '../base/private.ts'
import { watchTurns, within } from '../base/turns.ts'
import { WriteProbe } from '../base/write-probe.ts'
import { Catalog, type CatalogOptions, MetNotes } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { parseMountFlags } from '../config/mount-flags.ts'
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
import { KernelSession, NativeSession, type SessionOptions, type Transport } from '../fuse/index.ts'
import { mend, ModeSwitch, Mover, NamespaceLease, Reaper, Rebuild } from '../migration/index.ts'
import type { QuietReads } from '../legacy/index.ts'
import { createMetrics } from '../observe/metrics.ts'
import { Overlay, type OverlayContext, recover } from '../overlay/index.ts'
import { Disk } from '../sys/index.ts'
import type { KeyValueStore } from '../store/contract.ts'
import { openStore, type StoreOptions } from '../store/index.ts'
import { FencedStore } from '../store/fenced.ts'
import { InstrumentedStore } from '../store/instrumented.ts'
import { StoreSuperseded } from '../store/errors.ts'
import { ResilientStore } from '../store/resilience/store.ts'
import { ComposedEngine } from './composed-engine.ts'
import type { Connection, RebuildState, RunningEngine, StartEngine } from './connection.ts'
import type { RebuildReport } from './engine.ts'
import { putInPlace } from './files.ts'
import { registerGauges, storeMetrics, turnMetric, waitMetric } from './gauges.ts'
import { ConnectionHolder } from './holder.ts'
import { type Namespace, takeNamespace } from './namespace.ts'
import { Ownership, requireMark } from './ownership.ts'
import { Reserve } from './reserve.ts'
import { CATALOG_FILE } from './state-dir.ts'
import { Volume } from './volume.ts'

// A catalog gets its name when it is whole: a rebuild that was killed is run again.
const UNFINISHED_FILE = 'rebuild.db'
const SURVEY_FILE = 'rebuild-survey.db'
export const CACHE_DIRECTORY = 'cache'
const LEASE_CHECK_MS = 15_000
const REAP_EVERY_MS = 2000
const MODE_CHECK_MS = 5000
const KEEP_MET_MS = 500
const TEND_MS = 100
// A few milliseconds.
const MET_AT_ONCE = 128
const VOLUME_CHECK_MS = 2000

/** What the composition has from outside this machine's memory: a way to the applications and one to the store. */
export interface Outside {
  readonly openTransport: typeof openTransport
  readonly openStore: typeof openStore
  /** Whose threads make the calls on the legacy volume; without, the main thread makes them. */
  readonly volumeDisk?: () => Disk
  /** Disks of this machine are asked whether they take writes, before anything is committed to them. */
  readonly probes?: boolean
}

/** The worker's inside out of catalog, store, content, overlay, migration and transport. */
export function engineWith(outside: Outside): StartEngine {
  return async (config, connection) => {
    const opened: Array<() => Promise<void> | void> = []
    try {
      return await compose(config, connection, opened, outside)
    } catch (error) {
      for (const close of opened.reverse()) await close()
      throw error
    }
  }
}

async function compose(
  config: MountConfig,
  connection: Connection,
  opened: Array<() => Promise<void> | void>,
  outside: Outside,
): Promise<RunningEngine> {
  const { log } = connection
  const path = join(config.stateDir, CATALOG_FILE)
  const failedSyncs = new FailedSyncs((file, error) =>
    log.error(
      { err: error, path: file },
      'a sync failed: what it was for is written anew before the next one counts',
    ),
  )
  // What was committed is gone from the page cache and from the disk. The next worker goes on from what is whole.
  const onBroken = (error: unknown): void => {
    log.fatal({ err: error }, 'a disk of ferryfs has lost what was written to it: the worker starts over')
    process.kill(process.pid, 'SIGKILL')
  }
  const reserve = config.sharesVolume ? new Reserve(config.stateDir, log) : undefined
  opened.push(() => reserve?.close())
  const onRepaired = (what: string): void =>
    log.error({ path, what }, 'a flipped bit was found and put right: the disk or the memory fails')
  const probe = outside.probes
    ? new WriteProbe(config.stateDir, `the disk of the state directory ${config.stateDir}`)
    : undefined
  const catalog = openCatalog(path, {
    check: !connection.takesOver,
    failedSyncs,
    onBroken,
    onRepaired,
    ...(probe && { probe }),
  })
  for (const { detail } of catalog.hasJustLost ? catalog.doubts.losses().slice(-1) : [])
    log.error({ path }, `the catalog was damaged: ${detail}; 'ferryfs verify' lists them`)
  opened.push(() => closeUnserved(catalog, path))
  reserve?.fill(catalog)
  if (connection.notes !== undefined) {
    const notes = new MetNotes(connection.notes, (error) =>
      log.warn({ err: error }, 'not all files met on the full disk are noted for the next worker'),
    )
    opened.push(() => notes.close())
    catalog.noteMet(notes)
  }
  const metrics = createMetrics()
  const onTrouble = {
    failedSyncs,
    onBroken,
    check: !connection.takesOver,
    ...(outside.probes && { probes: true }),
  }
  const store = await openResilientStore(config, log, metrics, onTrouble, outside.openStore)
  opened.push(() => store.close())
  const recorded = catalog.meta.get('mode')
  const first = recorded !== undefined && isMode(recorded) ? recorded : firstMode(config)
  const modes = new ModeSwitch(catalog, first, config.sourceReadonly)
  const lease = new NamespaceLease(store, config.namespace)
  const ownership = new Ownership(config, catalog, lease.ownerOf(catalog), log)
  const disk = outside.volumeDisk?.()
  opened.push(() => disk?.end())
  const volume = new Volume(
    config.source,
    catalog,
    (tree) => ownership.admit(tree),
    quietReads(config.options),
    disk,
  )
  // A worker that follows another serves what does not need the volume.
  if (modes.policy.needsLegacy) volume.attach({ mayFail: connection.takesOver })
  else connection.useSource(false)
  opened.push(() => volume.detach())
  if (!connection.takesOver) {
    await ownership.requireNewest(lease)
    modes.admitMount(config.mode ?? first)
  }
  const { epoch, claimed, written, look } = await takeNamespace(lease, catalog, store, connection)
  if (recorded === undefined) {
    requireMark(ownership, modes.policy, volume.tree)
    catalog.transaction(() => catalog.meta.set('mode', first))
  }
  ownership.settle(modes.policy, volume.tree)
  const bounded = {
    get policy() {
      return ownership.bounded(modes.policy)
    },
  }
  const built = build(config, connection, {
    catalog,
    store: written,
    modes: bounded,
    volume,
    epoch,
    failedSyncs,
  })
  const { context, overlay } = built
  opened.push(() => {
    overlay.stop()
    context.writer.stop()
    context.proof.stop()
    return context.carrier.stop()
  })
  opened.push(() => {
    context.legacyFiles.close()
    context.staging.close()
  })
  await recover(context, overlay, !connection.takesOver)
  faultPoint('daemon.start.recovered')
  if (claimed) await mend(context)
  registerGauges(metrics, built)
  const engine = new ComposedEngine({
    ...built,
    config,
    connection,
    modes,
    store,
    metrics,
    volume,
    ownership,
    lease,
  })
  if (config.mode !== undefined && config.mode !== first && !connection.takesOver)
    await engine.setMode(config.mode)
  const session = await outside.openTransport(config, connection, ownership, {
    fileSystem: overlay,
    onWaited: waitMetric(metrics),
    ready: (changes) => (changes ? catalog.ready() : catalog.readyOrAway()),
  })
  if (session.notifier) overlay.notifyBy(session.notifier)
  const unwatch = watchTurns(turnMetric(metrics, log))
  opened.push(unwatch)
  session.start()
  const failed = await Promise.race([session.ready.then(() => undefined), session.done])
  if (failed?.reason === 'failed') throw failed.error
  void session.done.then((end) => {
    if (end.reason !== 'stopped') connection.closed()
  })
  context.carrier.wake()
  built.mover.continueIfBegun()
  engine.continueModeChange()
  const timers = startTimers(built, { look, volume, engine, connection })
  if (reserve) timers.push(setInterval(() => reserve.tend(catalog), TEND_MS).unref())
  timers.push(setInterval(() => ownership.retry(modes.policy, volume.tree), VOLUME_CHECK_MS).unref())
  engine.onStop(async () => {
    for (const timer of timers) clearInterval(timer)
    await session.stop()
    faultPoint('daemon.stop.drained')
    await built.mover.stop()
    overlay.stop()
    await context.carrier.stop()
    context.writer.stop()
    // Damage is listed already, and found again.
    for (const ino of catalog.lists.staged()) await context.writer.seal(ino).catch(() => undefined)
    await context.proof.sync()
    context.proof.stop()
    await overlay
      .syncfs()
      .catch((error: unknown) => log.warn({ err: error }, 'not everything could be synced'))
    context.legacyFiles.close()
    context.staging.close()
    volume.detach()
    disk?.end()
    await store.close()
    await catalog.close()
    reserve?.close()
  })
  return engine
}

/** What of `--options` this process sees to itself: the kernel leaves access times to whoever serves a FUSE mount. */
function quietReads(options: string | undefined): QuietReads {
  const flags = parseMountFlags(options ?? '') ?? []
  const files = flags.includes('noatime')
  return { files, directories: files || flags.includes('nodiratime') }
}

/** The way to the kernel that the configuration names, not started yet. */
async function openTransport(
  config: MountConfig,
  connection: Connection,
  { id, replaces }: Ownership,
  { fileSystem, onWaited, ready }: Required<Pick<SessionOptions, 'fileSystem' | 'onWaited' | 'ready'>>,
): Promise<Transport> {
  const { log } = connection
  const { fd, state, flags } = await connection.attach({ id, replaces })
  if (fd === undefined) {
    return new NativeSession({ target: config.target, source: config.source, flags, fileSystem, log })
  }
  const onInit: SessionOptions['onInit'] = (agreed) => connection.saveState(agreed)
  return new KernelSession({ fd, fileSystem, log, state, onInit, onWaited, ready })
}

/** The engine of the product, over the kernel or fuse-native and the store that the configuration names. */
export const startEngine: StartEngine = engineWith({
  openTransport,
  openStore,
  volumeDisk: () => new Disk('the legacy volume'),
  probes: true,
})

/** Nothing is in the store yet: a mode that does without the legacy volume is changed to, or refused, like any time. */
function firstMode({ mode, sourceReadonly }: MountConfig): Mode {
  return mode !== undefined && policyOf(mode, sourceReadonly).needsLegacy ? mode : 'mirror'
}

/** A catalog that never had the namespace, and has lost nothing, says nothing and is in the way of `rebuild`. */
async function closeUnserved(catalog: Catalog, path: string): Promise<void> {
  const isOfNoUse = catalog.meta.get('epoch') === undefined && !catalog.doubts.any
  await catalog.close()
  if (isOfNoUse) removeDatabase(path)
}

export function openCatalog(path: string, options: CatalogOptions): Catalog {
  try {
    // SQLite would make one that others can read, and its log like it.
    makePrivateFile(path)
    return Catalog.open(path, options)
  } catch (error) {
    if (!(error instanceof DatabaseDamaged)) throw error
    throw new UsageError(
      `${error.message}. Move the state directory away and make it anew with 'ferryfs rebuild' from the store`,
      1,
      { cause: error },
    )
  }
}

export async function openResilientStore(
  config: Pick<MountConfig, 'store' | 'stateDir' | 'namespace' | 'opTimeout' | 'concurrency'>,
  log: Connection['log'],
  metrics: Registry,
  options: Pick<StoreOptions, 'check' | 'failedSyncs' | 'onBroken' | 'readOnly' | 'probes'> = {},
  open: Outside['openStore'] = openStore,
): Promise<ResilientStore> {
  const { stateDir, namespace } = config
  const raw = await open(config.store, { stateDir, namespace, log, ...options })
  return new ResilientStore(new InstrumentedStore(raw, storeMetrics(metrics)), {
    deadlineMs: config.opTimeout,
    concurrency: Math.max(64, config.concurrency * 4),
    queue: 100_000,
    log,
  })
}

interface Foundation {
  readonly catalog: Catalog
  readonly store: KeyValueStore
  readonly modes: Pick<ModeSwitch, 'policy'>
  readonly volume: Volume
  readonly epoch: number
  readonly failedSyncs: FailedSyncs
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
  { catalog, store, modes, volume, epoch, failedSyncs, kept }: Foundation,
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
  const reaper = new Reaper(context, { directories, stored })
  const mover = new Mover(context, overlay, reaper, config.concurrency)
  if (!connection.takesOver) for (const id of holder.ids()) holder.drop(id)
  return { context, overlay, stored, directories, mover, reaper, counters }
}

function startTimers(
  { context, mover, reaper }: Built,
  {
    look,
    volume,
    engine,
    connection,
  }: {
    look: Namespace['look']
    volume: Volume
    engine: ComposedEngine
    connection: Connection
  },
): NodeJS.Timeout[] {
  const { catalog, carrier, log } = context
  const checkLease = (): void => {
    look().catch((error: unknown) => {
      // A store that is down says nothing about who has the namespace; nor is its other work to wait for that.
      if (error instanceof StoreSuperseded) carrier.noteFailure(error)
    })
  }
  const reap = (): void => {
    if (!context.policy().removesLegacy || mover.state === 'running') return
    reaper
      .sweep(() => Promise.resolve(context.policy().removesLegacy))
      .catch((error: unknown) => log.error({ err: error }, 'removing legacy copies failed'))
  }
  const keepMet = (): void => {
    try {
      catalog.keepMet(MET_AT_ONCE)
    } catch (error) {
      // A disk that still is full.
      if (!(error instanceof FsError)) throw error
    }
  }
  const lookAtVolume = volumeCheck(context, volume, connection)
  const whenReady = async (what: string, body: () => void): Promise<void> => {
    await catalog.ready()
    if (!carrier.stopped) within(what, body)
  }
  const timers = [
    setInterval(() => void whenReady('a look at the lease', checkLease), LEASE_CHECK_MS),
    setInterval(() => {
      if (catalog.hasMet) void whenReady('rows of files that were met', keepMet)
    }, KEEP_MET_MS),
    setInterval(reap, REAP_EVERY_MS),
    setInterval(() => within('a look at the volume', lookAtVolume), VOLUME_CHECK_MS),
    setInterval(() => within('the change of mode', () => engine.continueModeChange()), MODE_CHECK_MS),
  ]
  for (const timer of timers) timer.unref()
  return timers
}

/** Looks after the legacy volume: says when it fails, and takes it up again when it has been mounted anew. */
function volumeCheck(
  { legacyFiles, log }: OverlayContext,
  volume: Volume,
  connection: Connection,
): () => void {
  let failing = false
  let looking = false
  return () => {
    if (looking) return
    looking = true
    volume
      .heal()
      .then((found) => {
        if (found === 'failing' && !failing) log.error({}, 'the legacy volume does not answer')
        if (found !== 'failing' && failing) log.info({}, 'the legacy volume answers again')
        failing = found === 'failing'
        if (found !== 'replaced') return
        legacyFiles.close()
        connection.useSource(true)
      })
      .catch((error: unknown) => log.error({ err: error }, 'looking after the legacy volume failed'))
      .finally(() => {
        looking = false
      })
  }
}

/** The catalog out of the store. */
export const rebuildState: RebuildState = (request, run) => rebuildOutOf(openStore, request, run)

/** The same out of a store that is opened in this way. */
export async function rebuildOutOf(
  open: Outside['openStore'],
  request: Parameters<RebuildState>[0],
  run: Parameters<RebuildState>[1],
): ReturnType<RebuildState> {
  const path = join(request.stateDir, CATALOG_FILE)
  const unfinished = join(request.stateDir, UNFINISHED_FILE)
  if (existsSync(path)) {
    throw new UsageError(`${path} exists: rebuild makes a new state directory and never writes into another`)
  }
  const store = await openResilientStore({ ...request }, request.log, createMetrics(), {}, open)
  try {
    const lease = new NamespaceLease(store, request.namespace)
    if (!(await lease.read())) {
      throw new FsError('ENOENT', `the store holds no namespace ${request.namespace}`)
    }
    removeDatabase(unfinished)
    const catalog = openCatalog(unfinished, { check: false, bulk: true })
    let result: RebuildReport
    try {
      const surveyPath = join(request.stateDir, SURVEY_FILE)
      const { acceptLosses } = request
      const rebuild = new Rebuild(catalog, store, request.log, { ...run, surveyPath, acceptLosses })
      result = await rebuild.run(request.concurrency)
      faultPoint('migration.rebuild.filled')
      catalog.transaction(() => catalog.meta.set('mode', 'store-only'))
      await lease.acquire(catalog, true)
      // Only what is on the medium, all of it, gets its name.
      await catalog.flush()
    } finally {
      await catalog.close()
    }
    faultPoint('migration.rebuild.leased')
    // Of a catalog that was there before.
    removeDatabase(path)
    putInPlace(unfinished, path)
    removeDatabase(unfinished)
    return result
  } catch (error) {
    // Half a catalog is of no use, and may be what fills the disk.
    removeDatabase(unfinished)
    throw error
  } finally {
    await store.close()
  }
}
