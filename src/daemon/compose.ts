import { join } from 'node:path'
import { removeDatabase } from '../base/database.ts'
import { FailedSyncs } from '../base/failed-syncs.ts'
import { faultPoint } from '../base/faults.ts'
import { isMode, type Mode, policyOf } from '../base/modes.ts'
import { watchTurns } from '../base/turns.ts'
import { WriteProbe } from '../base/write-probe.ts'
import { type Catalog, MetNotes } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { parseMountFlags } from '../config/mount-flags.ts'
import { KernelSession, NativeSession, type SessionOptions, type Transport } from '../fuse/index.ts'
import type { QuietReads } from '../legacy/index.ts'
import { isAcknowledged, mend, ModeSwitch, NamespaceLease } from '../migration/index.ts'
import { createMetrics } from '../observe/metrics.ts'
import { recover } from '../overlay/index.ts'
import { openStore, type StoreOptions } from '../store/index.ts'
import type { ResilientStore } from '../store/resilience/store.ts'
import { Disk } from '../sys/index.ts'
import { BeforeRemoval } from './before-removal.ts'
import { type Built, build } from './build.ts'
import { ComposedEngine } from './composed-engine.ts'
import type { Connection, RunningEngine, StartEngine } from './connection.ts'
import { registerGauges, turnMetric, waitMetric } from './gauges.ts'
import { takeNamespace } from './namespace.ts'
import { openCatalog, openResilientStore } from './opening.ts'
import { Ownership, requireMark } from './ownership.ts'
import { Reserve } from './reserve.ts'
import { CATALOG_FILE } from './state-dir.ts'
import { startTimers, VOLUME_CHECK_MS } from './timers.ts'
import { seeSource } from './unseen-source.ts'
import { Volume } from './volume.ts'

const TEND_MS = 100

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

/** What has been opened, each with what closes it: the last one first. */
type Opened = Array<() => Promise<void> | void>

async function compose(
  config: MountConfig,
  connection: Connection,
  opened: Opened,
  outside: Outside,
): Promise<RunningEngine> {
  const { log } = connection
  const { catalog, reserve, onTrouble } = openOwnState(config, connection, opened, outside)
  const { failedSyncs } = onTrouble
  const metrics = createMetrics()
  const mustExist = adviceWithoutStore(config, catalog, connection.takesOver)
  const storeOptions = { ...onTrouble, ...(mustExist !== undefined && { mustExist }) }
  const store = await openResilientStore(config, log, metrics, storeOptions, outside.openStore)
  opened.push(() => store.close())
  const lease = new NamespaceLease(store, config.namespace)
  const ownership = new Ownership(config, catalog, lease.ownerOf(catalog), log)
  const disk = outside.volumeDisk?.()
  opened.push(() => disk?.end())
  const admit: ConstructorParameters<typeof Volume>[2] = (tree) => ownership.admit(tree)
  const takeOther = config.takeOver && !connection.takesOver
  const volume = new Volume(config.source, catalog, admit, quietReads(config.options), disk, takeOther)
  opened.push(() => volume.detach())
  await seeSource({ config, catalog, ownership, volume, log }, connection.takesOver)
  const recorded = catalog.meta.get('mode')
  let first = recorded !== undefined && isMode(recorded) ? recorded : firstMode(config)
  let modes = new ModeSwitch(catalog, first, config.sourceReadonly)
  // A worker that follows another serves what does not need the volume.
  if (modes.policy.needsLegacy) volume.attach({ mayFail: connection.takesOver })
  else connection.useSource(false)
  if (!connection.takesOver) {
    ownership.requireMarkKept()
    first = await ownership.requireNewest(lease, first)
    modes = new ModeSwitch(catalog, first, config.sourceReadonly)
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
  const removal = new BeforeRemoval({ lease, catalog, epoch, ownership, volume })
  const beforeRemoval = (): Promise<void> | undefined => removal.tell()
  const foundation = { catalog, store: written, modes: bounded, volume, epoch, failedSyncs, beforeRemoval }
  const built = build(config, connection, foundation)
  closeBehind(built, opened)
  await recover(built.context, built.overlay, !connection.takesOver)
  faultPoint('daemon.start.recovered')
  if (claimed) await mend(built.context)
  registerGauges(metrics, built)
  const parts = { ...built, config, connection, modes, store, metrics, volume, ownership, lease }
  const engine = new ComposedEngine(parts)
  if (config.mode !== undefined && config.mode !== first && !connection.takesOver)
    await engine.setMode(config.mode)
  const transport = await outside.openTransport(config, connection, ownership, {
    fileSystem: built.overlay,
    onWaited: waitMetric(metrics),
    ready: (changes) => (changes ? catalog.ready() : catalog.readyOrAway()),
  })
  await serve(transport, parts, opened)
  engine.continueModeChange()
  const timers = startTimers(built, { look, volume, engine, connection })
  if (reserve) timers.push(setInterval(() => reserve.tend(catalog), TEND_MS).unref())
  timers.push(setInterval(() => ownership.retry(modes.policy, volume.tree), VOLUME_CHECK_MS).unref())
  engine.onStop(async () => {
    for (const timer of timers) clearInterval(timer)
    await stop(transport, parts)
    disk?.end()
    await store.close()
    await catalog.close()
    reserve?.close()
  })
  return engine
}

/**
 * A store that has had something is not made anew where it is not to be found: what is acknowledged would go into the mount point of
 * a disk that comes back later. Whoever asks for it by --take-over has given up what was there; a worker that follows goes on with what was.
 */
function adviceWithoutStore(
  { stateDir, takeOver }: MountConfig,
  catalog: Catalog,
  takesOver: boolean,
): string | undefined {
  if (!isAcknowledged(catalog) || (takeOver && !takesOver)) return undefined
  return `, which had what ${stateDir} knows: is its disk mounted? Nothing is made there; what is not stored yet stays in ${stateDir}. "ferryfs mount" again goes on once it is there (--take-over makes an empty one, and what only the old one had is lost)`
}

type OnTrouble = Pick<StoreOptions, 'check' | 'onBroken' | 'probes'> & { readonly failedSyncs: FailedSyncs }

/** What is in the state directory. */
function openOwnState(
  config: MountConfig,
  connection: Connection,
  opened: Opened,
  outside: Outside,
): { catalog: Catalog; reserve: Reserve | undefined; onTrouble: OnTrouble } {
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
  const check = !connection.takesOver
  const probe = outside.probes
    ? new WriteProbe(config.stateDir, `the disk of the state directory ${config.stateDir}`)
    : undefined
  const catalog = openCatalog(path, { check, failedSyncs, onBroken, onRepaired, ...(probe && { probe }) })
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
  const onTrouble = { failedSyncs, onBroken, check, ...(outside.probes && { probes: true }) }
  return { catalog, reserve, onTrouble }
}

/** What is built ends, and lets go of its files, where the start fails. */
function closeBehind({ context, overlay }: Built, opened: Opened): void {
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
}

interface Served extends Built {
  readonly connection: Connection
  readonly metrics: ReturnType<typeof createMetrics>
  readonly store: ResilientStore
  readonly volume: Volume
}

/** Answers applications from now on. @throws the transport's error */
async function serve(
  transport: Transport,
  { connection, context, metrics, mover, overlay }: Served,
  opened: Opened,
): Promise<void> {
  if (transport.notifier) overlay.notifyBy(transport.notifier)
  opened.push(watchTurns(turnMetric(metrics, connection.log)))
  transport.start()
  const failed = await Promise.race([transport.ready.then(() => undefined), transport.done])
  if (failed?.reason === 'failed') throw failed.error
  void transport.done.then((end) => {
    if (end.reason !== 'stopped') connection.closed()
  })
  context.carrier.wake()
  mover.continueIfBegun()
}

/** Answers what was asked, and lets go of the volume; all that was acknowledged is on the medium then, as far as it can be brought there. */
async function stop(
  transport: Transport,
  { connection, context, mover, overlay, volume }: Served,
): Promise<void> {
  await transport.stop()
  faultPoint('daemon.stop.drained')
  await mover.stop()
  overlay.stop()
  await context.carrier.stop()
  context.writer.stop()
  // Damage is listed already, and found again.
  for (const ino of context.catalog.lists.staged()) await context.writer.seal(ino).catch(() => undefined)
  await context.proof.sync()
  context.proof.stop()
  await overlay
    .syncfs()
    .catch((error: unknown) => connection.log.warn({ err: error }, 'not everything could be synced'))
  context.legacyFiles.close()
  context.staging.close()
  volume.detach()
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
