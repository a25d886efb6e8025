// First: what the product makes of the calls of node:fs when it is loaded goes to the disk of the test, too.
import './disk.ts'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FailedSyncs } from '../../../src/base/failed-syncs.ts'
import { isMode, type Mode } from '../../../src/base/modes.ts'
import { Catalog, MetNotes } from '../../../src/catalog/index.ts'
import type { MountConfig } from '../../../src/config/mount-config.ts'
import { type Built, build } from '../../../src/daemon/build.ts'
import type { Connection } from '../../../src/daemon/connection.ts'
import { HeldDescriptors } from '../../../src/daemon/held-descriptors.ts'
import { Volume } from '../../../src/daemon/volume.ts'
import type { Answer, RequestContext } from '../../../src/fuse/operations.ts'
import {
  mend,
  NamespaceLease,
  Rebuild,
  SourceMerge,
  Sweep,
  type SweepReport,
  TreeView,
  verify,
  whenItCanBe,
} from '../../../src/migration/index.ts'
import { ModeSwitch, type Wish } from '../../../src/migration/mode-switch.ts'
import { createLog } from '../../../src/observe/log.ts'
import { type Overlay, recover } from '../../../src/overlay/index.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { restoreTo } from '../restore/restore-to.ts'
import { clock, turns } from './clock.ts'
import { clearTrap, freeze, setTrap, Unanswered } from './crash.ts'
import { FaultStore, FaultyWorld } from './fault-store.ts'
import { PowerCut, type Unsynced } from './power.ts'
import { RecordWatch } from './record-watch.ts'

export interface RigOptions {
  readonly mode?: Mode
  readonly sourceReadonly?: boolean
  readonly ack?: 'local' | 'store'
  /** Small by default, so that small files are chunked too. */
  readonly inlineLimit?: number
  readonly stagingLimit?: number
  /** `powerCut` may be called. */
  readonly powerCuts?: boolean
  /** Bytes of chunks in memory; none by default, so that every read asks the store. */
  readonly memoryCacheLimit?: number
  readonly seed?: number
  /** Fills the legacy directory before the first mount. */
  readonly fill?: (source: string) => void
  /** Most entries of a shard of a directory's record. */
  readonly shardEntries?: number
  /** Looks at the store after each write, as `records` tells. */
  readonly watchRecords?: boolean
  /** Another daemon's store to look at or to fight over. */
  readonly memory?: MemoryStore
  /** Where the volume is: memory by default, which never gives a number twice. */
  readonly parent?: string
}

export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly umask: number
}

/** What is not as it was in a tree that was made from the store and brought together with SOURCE. */
export interface Lost {
  readonly failures: Awaited<ReturnType<Rebuild['run']>>['failures']
  readonly merged: Awaited<ReturnType<SourceMerge['run']>>
}

interface Generation {
  readonly catalog: Catalog
  readonly modes: ModeSwitch
  readonly volume: Volume
  readonly store: FaultStore
  readonly lease: NamespaceLease
  readonly epoch: number
  readonly built: Built
  dead: boolean
  readonly died: PromiseWithResolvers<void>
  /** Reads and writes of local files under way: system calls that a kill does not take back. */
  readonly io: Set<Promise<unknown>>
}

const ROOT_CALLER: Caller = { uid: 0, gid: 0, umask: 0o022 }
const OP_TIMEOUT_MS = 30_000
// A run is a function of its seed: names are shared out in the same way each time.
const NAME_KEY = Buffer.alloc(16, 1)
// Far more turns of the event loop than the slowest answer takes.
const STUCK_TURNS = 2_000_000
const SHARED_MEMORY = '/dev/shm'

const inMemory = (): string => (existsSync(SHARED_MEMORY) ? SHARED_MEMORY : tmpdir())

/** A volume can be left only when all of it is in the store. */
const firstMode = (mode: Mode = 'mirror'): Mode => (mode === 'store-only' ? 'mirror' : mode)

// Numbers of requests, as the kernel gives them: even, over the life of all rigs.
let nextUnique = 2n

/**
 * A daemon without processes, transport or real time: the parts of src/daemon/compose.ts over a temporary legacy
 * directory and a store in memory that fails when told to. `crash` drops it as `kill -9` does and opens the next.
 */
export class Rig {
  readonly root: string
  readonly source: string
  readonly stateDir: string
  readonly world: FaultyWorld
  readonly #options: RigOptions
  readonly #held = new HeldDescriptors()
  #notes: MetNotes | undefined
  readonly #power: PowerCut | undefined
  /** What the records in the store led to at every moment, if it is watched. */
  readonly records: RecordWatch | undefined
  /** A daemon has died whose writes may have reached the store after what its successor did there. */
  diedWriting = false
  readonly logged: Array<{ level: number; msg: string }> = []
  #generation: Generation | undefined

  private constructor(options: RigOptions) {
    this.#options = options
    this.root = mkdtempSync(join(options.parent ?? inMemory(), 'ferryfs-rig-'))
    this.source = join(this.root, 'source')
    this.stateDir = join(this.root, 'state')
    mkdirSync(this.source)
    mkdirSync(this.stateDir, { mode: 0o700 })
    this.#power = options.powerCuts ? new PowerCut(this.root, this.stateDir) : undefined
    this.world = new FaultyWorld(options.memory ?? new MemoryStore(), options.seed ?? 1)
    this.records = options.watchRecords
      ? new RecordWatch(this.world.memory, () =>
          this.#generation?.dead === false ? this.catalog : undefined,
        )
      : undefined
    process.umask(0)
  }

  static async start(options: RigOptions = {}): Promise<Rig> {
    const rig = new Rig(options)
    try {
      options.fill?.(rig.source)
      await rig.#open(false)
      if (options.mode === 'store-only') {
        await rig.migrate()
        await rig.setMode('store-only')
      }
    } catch (error) {
      await rig.stop()
      throw error
    }
    return rig
  }

  /** A mount of a catalog that was made out of a copy of the store alone; `takesOver`: of the store itself. */
  static async rebuilt(
    memory: MemoryStore,
    takesOver = false,
    acceptLosses = false,
  ): Promise<{ rig: Rig; result: Awaited<ReturnType<Rebuild['run']>> }> {
    const rig = new Rig({ memory: takesOver ? memory : await copyOf(memory) })
    const catalog = Catalog.open(rig.catalogPath, { check: false, bulk: true, nameKey: NAME_KEY })
    const own = new FaultStore(rig.world)
    const surveyPath = join(rig.root, 'survey.db')
    const run = { ...rig.#longRun(), surveyPath, acceptLosses }
    const result = await new Rebuild(catalog, own, rig.#log(), run).run(8)
    catalog.transaction(() => catalog.meta.set('mode', 'store-only'))
    await new NamespaceLease(own, 'rig').acquire(catalog, true)
    await catalog.close()
    await rig.#open(false)
    return { rig, result }
  }

  get #notesPath(): string {
    return join(this.root, 'notes')
  }

  get catalogPath(): string {
    return join(this.stateDir, 'catalog.db')
  }

  get catalog(): Catalog {
    return this.#live.catalog
  }

  get overlay(): Overlay {
    return this.#live.built.overlay
  }

  get built(): Built {
    return this.#live.built
  }

  get counters(): Built['counters'] {
    return this.#live.built.counters
  }

  get context(): Built['context'] {
    return this.#live.built.context
  }

  get modes(): ModeSwitch {
    return this.#live.modes
  }

  get lease(): NamespaceLease {
    return this.#live.lease
  }

  get epoch(): number {
    return this.#live.epoch
  }

  /** Ids of the files that the supervisor holds. */
  get held(): string[] {
    return Object.keys(this.#held.list())
  }

  get dead(): boolean {
    return this.#live.dead
  }

  /** Resolves when this daemon dies. */
  get death(): Promise<void> {
    return this.#live.died.promise
  }

  request(caller: Partial<Caller> = {}, repeated?: bigint): RequestContext {
    return {
      ...ROOT_CALLER,
      ...caller,
      pid: 1,
      unique: repeated ?? (nextUnique += 2n),
      resent: repeated !== undefined,
      signal: new AbortController().signal,
    }
  }

  /**
   * One request and its answer. `repeated`: the number of an unanswered request that is sent again. Where somebody else lets
   * time pass (a schedule), `passesTime` is false.
   * @throws FsError of the operation; Unanswered if the daemon died first
   */
  async perform<T>(
    operation: (overlay: Overlay, request: RequestContext) => Answer<T>,
    caller: Partial<Caller> = {},
    repeated?: bigint,
    passesTime = true,
  ): Promise<T> {
    const generation = this.#live
    const request = this.request(caller, repeated)
    const lost = generation.died.promise.then(() => Promise.reject(new Unanswered(request.unique)))
    lost.catch(() => undefined)
    try {
      const sent = operation(generation.built.overlay, request)
      const answer = await Promise.race([passesTime ? this.#passTime(sent) : sent, lost])
      if (generation.dead) throw new Unanswered(request.unique)
      generation.built.overlay.answered(request.unique)
      return answer
    } catch (error) {
      if (generation.dead) throw new Unanswered(request.unique)
      generation.built.overlay.answered(request.unique)
      throw error
    }
  }

  /** A request that a crash at the fault point leaves unanswered; its number. */
  async cutShort(
    point: string,
    operation: (overlay: Overlay, request: RequestContext) => Answer<unknown>,
    caller: Partial<Caller> = {},
  ): Promise<bigint> {
    this.dieAt(point)
    try {
      await this.perform(operation, caller)
    } catch (error) {
      if (error instanceof Unanswered) return error.unique
      throw error
    }
    throw new Error(`the fault point ${point} was not reached`)
  }

  /** The daemon dies at the n-th passage of the fault point, whoever passes. */
  dieAt(point: string, nth = 1): void {
    setTrap(point, () => this.die(), nth)
  }

  /** Takes a trap that was not reached away. */
  disarm(): void {
    clearTrap()
  }

  /** Lets time pass until the daemon has died of its trap. */
  async untilDead(): Promise<void> {
    await clock.until(this.#live.died.promise)
  }

  /** What `kill -9` does: from this moment on nothing in it has an effect any more. */
  die(): void {
    const generation = this.#live
    if (generation.dead) return
    generation.dead = true
    clearTrap()
    if (generation.store.die()) this.diedWriting = true
    const { catalog, built } = generation
    freeze(catalog, ['transaction', 'shared', 'save', 'flush'])
    freeze(catalog.meta, ['set'])
    freeze(catalog.dirents, ['set'])
    freeze(catalog.intents, ['put', 'drop'])
    freeze(catalog.outbox, ['add', 'done', 'discard', 'forget', 'markShard', 'clearShards'])
    const { staging, legacyFiles, carrier } = built.context
    freeze(staging, ['write', 'cut', 'cutByThread', 'extend', 'punch', 'create', 'release', 'sync', 'read'])
    freeze(legacyFiles, ['write', 'withWriter', 'withReader', 'read', 'hold', 'release'])
    built.context.writer.stop()
    built.context.proof.stop()
    void carrier.stop()
    void built.mover.stop()
    built.overlay.stop()
    generation.volume.detach()
    generation.died.resolve()
  }

  /** The next worker of the same mount, or a new mount after worker and supervisor died. */
  async restart(as: 'worker' | 'mount'): Promise<void> {
    this.die()
    await this.#bury(this.#live)
    if (as === 'mount') this.#held.dropAll()
    await this.#open(as === 'worker')
  }

  /** A new mount of what a kill leaves, the catalog's log with it, after `damage` was done to that. */
  async mountDamaged(damage: (stateDir: string) => void): Promise<void> {
    this.die()
    const left = join(this.root, 'left')
    cpSync(this.stateDir, left, { recursive: true })
    await this.#bury(this.#live)
    this.#held.dropAll()
    rmSync(this.stateDir, { recursive: true })
    renameSync(left, this.stateDir)
    damage(this.stateDir)
    await this.#open(false)
  }

  /** No directory of the volume is open any more, as where very many others were in use. */
  forgetDescriptors(): void {
    this.#live.volume.detach()
    this.#live.volume.attach()
  }

  /** What the daemon does every two seconds: looks whether the volume answers, and takes it up if it does again. */
  async healVolume(): Promise<void> {
    await this.#live.volume.heal()
  }

  /**
   * The power goes, and a machine with another boot id mounts what is on the disk (option `powerCuts`). The store and the legacy
   * volume have all that they were told. `look` sees what the disk has, before anybody mounts it.
   */
  async powerCut(unsynced: Unsynced, look?: (stateDir: string) => void): Promise<void> {
    this.die()
    await this.#bury(this.#live)
    this.#held.dropAll()
    this.#power?.strike(unsynced)
    look?.(this.stateDir)
    await this.#open(false)
  }

  /** Changes the mode, letting time pass. @throws ModeRefused */
  async setMode(mode: Mode): Promise<void> {
    await clock.until(this.beginMode(mode))
  }

  /** The same where somebody else lets time pass. */
  beginMode(mode: Mode): Promise<void> {
    return this.#ask(mode, { patient: false })
  }

  /** Asks for the mode until it can be had; the signal ends that. */
  waitForMode(mode: Mode, signal: AbortSignal): Promise<void> {
    const { built } = this.#live
    const run = { onProgress: () => undefined, signal }
    return whenItCanBe((wish) => this.#ask(mode, wish), mode, built, run)
  }

  #ask(mode: Mode, wish: Wish): Promise<void> {
    const { modes, volume, built } = this.#live
    const detach = (detached: boolean): void => (detached ? volume.detach() : volume.attach())
    return modes.change(mode, built.context, built.overlay, detach, wish)
  }

  /** One run of the mover. */
  migrate(): Promise<unknown> {
    return clock.until(this.#live.built.mover.run({}, () => undefined))
  }

  /** What the last run of the mover could not look at. */
  get unreadable(): readonly { readonly path: string }[] {
    return this.#live.built.mover.unreadable.items
  }

  /** What the daemon does every five seconds where something has changed. */
  tell(): Promise<void> {
    return clock.until(this.lease.tell(this.catalog, this.epoch))
  }

  /** One sweep of the reaper. */
  reap(): Promise<void> {
    return clock.until(this.#live.built.reaper.sweep(() => Promise.resolve(true)))
  }

  /** Heals the store and lets time pass until nothing is owed to it. */
  async settle(): Promise<void> {
    this.world.heal()
    await this.world.deliverLate()
    const { carrier, catalog, policy } = this.context
    // Nothing is carried; what changes is remembered for a mode that does.
    if (!policy().copies) return
    for (let round = 0; round < 400; round += 1) {
      const idle = await clock.until(carrier.idle(30_000))
      if (idle) return
    }
    const left = catalog.outbox.pending(0n, 10).map(({ kind, ino }) => `${kind} of inode ${ino}`)
    const failures = catalog.lists.failures(undefined, 10).map(({ reason }) => reason)
    throw new Error(`still owed to the store: ${[...left, ...failures].join('; ')}`)
  }

  verify(): ReturnType<typeof verify> {
    return clock.until(this.beginVerify())
  }

  /** The same where somebody else lets time pass. */
  beginVerify(): ReturnType<typeof verify> {
    return verify(this.context, this.built, this.#longRun())
  }

  /**
   * The state directory is lost: it is made anew out of the store, and brought together with SOURCE, as `rebuild` and
   * the first mount do it. `dies`: after so many directories that is cut short once, and done again; below 0: after so
   * many files with several names. `rebuilt`: sees what was made out of the store before it is brought together.
   */
  async loseState(dies?: number, rebuilt?: (catalog: Catalog) => void): Promise<Lost> {
    this.die()
    await this.#bury(this.#live)
    this.#held.dropAll()
    rmSync(this.stateDir, { recursive: true })
    mkdirSync(this.stateDir, { mode: 0o700 })
    const catalog = Catalog.open(this.catalogPath, { check: false, bulk: true, nameKey: NAME_KEY })
    let lost: Lost
    try {
      const own = new FaultStore(this.world)
      const run = { ...this.#longRun(), surveyPath: join(this.root, 'survey.db') }
      const { failures } = await new Rebuild(catalog, own, this.#log(), run).run(8)
      catalog.transaction(() => catalog.meta.set('mode', 'drain'))
      await new NamespaceLease(own, 'rig').acquire(catalog, true)
      rebuilt?.(catalog)
      if (dies !== undefined) await this.#merge(catalog, dies)
      const merged = await this.#merge(catalog)
      if (!merged) throw new Error('it was not cut short')
      lost = { failures, merged }
    } finally {
      await catalog.close()
    }
    await this.#open(false)
    return lost
  }

  /** Undefined where it was cut short. */
  async #merge(catalog: Catalog, dies?: number): Promise<Lost['merged'] | undefined> {
    const volume = new Volume(this.source, catalog)
    volume.attach()
    const cut = new Error('cut short')
    if (dies !== undefined)
      setTrap(
        dies < 0 ? 'migration.merge.names' : 'migration.merge.directory',
        () => {
          throw cut
        },
        Math.abs(dies),
      )
    try {
      if (!volume.tree) throw new Error('there is no SOURCE')
      return await new SourceMerge(catalog, volume.tree).run()
    } catch (error) {
      if (error !== cut) throw error
      return undefined
    } finally {
      clearTrap()
      volume.detach()
    }
  }

  sweep(options: { dryRun?: boolean; all?: boolean } = {}): Promise<SweepReport> {
    return clock.until(this.beginSweep(options))
  }

  /** The same where somebody else lets time pass. */
  beginSweep({ dryRun = false, all = false } = {}): Promise<SweepReport> {
    return new Sweep(this.context, this.lease, { dryRun, all, ...this.#longRun() }).run()
  }

  /** The tree, read as `restore` reads it. */
  get tree(): TreeView {
    return new TreeView(this.context, this.overlay, this.built.stored)
  }

  restoreTo(destination: string): ReturnType<typeof restoreTo> {
    return clock.until(restoreTo(this.tree, destination, { namespace: 'rig' }))
  }

  async stop(): Promise<void> {
    clearTrap()
    this.world.heal()
    if (this.#generation) {
      this.die()
      await this.#bury(this.#generation)
    }
    this.#held.dropAll()
    this.#power?.close()
    await turns(2)
    this.#closeLeftOpen()
    rmSync(this.root, { recursive: true, force: true })
  }

  get #live(): Generation {
    if (!this.#generation) throw new Error('the rig is not started')
    return this.#generation
  }

  #longRun(): { onProgress: () => undefined; signal: AbortSignal } {
    return { onProgress: () => undefined, signal: new AbortController().signal }
  }

  /** A request that hangs in the store ends at its deadline, which no real time brings. */
  async #passTime<T>(answer: Answer<T>): Promise<T> {
    if (!(answer instanceof Promise)) return answer
    let settled = false
    const note = (): void => {
      settled = true
    }
    answer.then(note, note)
    for (let steps = 0; !settled && !this.dead; steps += 1) {
      await turns(1)
      if (steps > STUCK_TURNS) throw new Error('P6: a request is never answered')
      if (this.world.hanging > 0 && !settled) clock.advance(OP_TIMEOUT_MS / 4)
    }
    return answer
  }

  async #open(takesOver: boolean): Promise<void> {
    const catalog = Catalog.open(this.catalogPath, { check: !takesOver, nameKey: NAME_KEY })
    // In the place of the supervisor's file in memory.
    if (!takesOver) writeFileSync(this.#notesPath, '')
    const notes = new MetNotes(this.#notesPath, () => undefined)
    this.#notes = notes
    catalog.noteMet(notes)
    try {
      await this.#compose(takesOver, catalog)
    } catch (error) {
      if (this.#generation?.catalog !== catalog) await catalog.close()
      throw error
    }
  }

  async #compose(takesOver: boolean, catalog: Catalog): Promise<void> {
    const options = this.#options
    const store = new FaultStore(this.world)
    const recorded = catalog.meta.get('mode')
    const first = recorded !== undefined && isMode(recorded) ? recorded : firstMode(options.mode)
    const modes = new ModeSwitch(catalog, first, options.sourceReadonly ?? false)
    const volume = new Volume(this.source, catalog)
    if (modes.policy.needsLegacy) volume.attach({ mayFail: takesOver })
    const lease = new NamespaceLease(store, 'rig')
    const epoch = takesOver ? Number(catalog.meta.get('epoch') ?? 1) : await lease.acquire(catalog, false)
    if (recorded === undefined) catalog.transaction(() => catalog.meta.set('mode', first))
    const built = build(this.#config(), this.#connection(takesOver), {
      catalog,
      store,
      modes,
      volume,
      epoch,
      failedSyncs: new FailedSyncs(() => undefined),
      beforeRemoval: () => lease.tellFirst(catalog, epoch),
    })
    const generation: Generation = {
      catalog,
      modes,
      volume,
      store,
      lease,
      epoch,
      built,
      dead: false,
      died: Promise.withResolvers<void>(),
      io: new Set(),
    }
    this.#generation = generation
    Object.assign(built.context.settings, options.shardEntries ? { shardEntries: options.shardEntries } : {})
    this.#watchIo(generation)
    const { afterFlush } = catalog
    catalog.afterFlush = (follow) => afterFlush.call(catalog, () => generation.dead || follow())
    await recover(built.context, built.overlay, !takesOver)
    if (catalog.doubts.toCompare(1).length > 0) await clock.until(mend(built.context))
    built.context.carrier.wake()
    built.mover.continueIfBegun()
  }

  /** Waits for system calls under way, then closes what the kernel closes for a dead process. */
  async #bury(generation: Generation): Promise<void> {
    if (this.#power) this.#power.isBurying = true
    while (generation.io.size > 0) await Promise.allSettled(generation.io)
    await turns(1)
    generation.built.context.legacyFiles.close()
    generation.built.context.staging.close()
    generation.volume.detach()
    await generation.catalog.close()
    this.#notes?.close()
    this.#notes = undefined
    if (this.#power) this.#power.isBurying = false
  }

  #watchIo({ built, io }: Generation): void {
    const watch = <T>(work: Promise<T>): Promise<T> => {
      io.add(work)
      const forget = (): void => {
        io.delete(work)
      }
      work.then(forget, forget)
      return work
    }
    const { staging, legacyFiles } = built.context
    const { write: stage, read: unstage, sync, cutByThread } = staging
    Object.assign(staging, {
      write: (...args: Parameters<typeof stage>) => watch(stage.apply(staging, args)),
      read: (...args: Parameters<typeof unstage>) => watch(unstage.apply(staging, args)),
      sync: (...args: Parameters<typeof sync>) => watch(sync.apply(staging, args)),
      cutByThread: (...args: Parameters<typeof cutByThread>) => watch(cutByThread.apply(staging, args)),
    })
    const { write, read } = legacyFiles
    Object.assign(legacyFiles, {
      write: (...args: Parameters<typeof write>) => watch(write.apply(legacyFiles, args)),
      read: (...args: Parameters<typeof read>) => watch(read.apply(legacyFiles, args)),
    })
  }

  #config(): MountConfig {
    const options = this.#options
    return {
      source: this.source,
      target: join(this.root, 'target'),
      stateDir: this.stateDir,
      store: 'memory:',
      mode: undefined,
      options: undefined,
      namespace: 'rig',
      transport: 'kernel',
      sourceReadonly: options.sourceReadonly ?? false,
      ack: options.ack ?? 'local',
      opTimeout: OP_TIMEOUT_MS,
      stagingLimit: options.stagingLimit ?? 1024 * 1024 * 1024,
      cacheLimit: 0,
      memoryCacheLimit: options.memoryCacheLimit ?? 0,
      inlineLimit: options.inlineLimit ?? 64,
      concurrency: 4,
      metricsListen: undefined,
      logLevel: 'info',
    }
  }

  #connection(takesOver: boolean): Connection {
    return {
      supervisorPid: process.pid,
      workerStarts: takesOver ? 2 : 1,
      startedAt: new Date(0).toISOString(),
      takesOver,
      log: this.#log(),
      held: new Map(Object.entries(this.#held.list())),
      notes: this.#notesPath,
      attach: () => Promise.reject(new Error('a rig has no kernel')),
      useSource: () => undefined,
      saveState: () => undefined,
      closed: () => undefined,
      hold: (id, fd) => this.#held.hold(id, `/proc/self/fd/${fd}`),
      drop: (id) => this.#held.drop(id),
    }
  }

  #log() {
    return createLog({
      level: 'info',
      name: 'rig',
      write: (line) => this.logged.push(JSON.parse(line) as { level: number; msg: string }),
    })
  }

  /** Descriptors of a dead daemon that only the end of its process would have closed. */
  #closeLeftOpen(): void {
    for (const descriptor of readdirSync('/proc/self/fd')) {
      let path: string
      try {
        path = readlinkSync(`/proc/self/fd/${descriptor}`)
      } catch {
        continue
      }
      if (path.startsWith(`${this.source}/`) || path.startsWith(`${this.stateDir}/staging/`)) {
        closeSync(Number(descriptor))
      }
    }
  }
}

async function copyOf(store: MemoryStore): Promise<MemoryStore> {
  const copy = new MemoryStore()
  for (const space of ['files', 'chunks', 'dirs', 'meta'] as const) {
    for await (const key of store.keys(space)) {
      const object = await store.get(space, key)
      if (object) await copy.put(space, key, object)
    }
  }
  return copy
}
