import type { Registry } from 'prom-client'
import { BoundedList } from '../base/bounded-list.ts'
import { delay } from '../base/concurrency.ts'
import { UsageError } from '../base/errors.ts'
import { type Mode, policyOf } from '../base/modes.ts'
import { giveWay } from '../base/pace.ts'
import type { MountConfig } from '../config/mount-config.ts'
import {
  acceptLosses,
  mayAccept,
  type NamespaceLease,
  type SourceTree,
  Sweep,
  type SweepReport,
  shownPath,
  TreeView,
  verify,
  whenItCanBe,
} from '../migration/index.ts'
import { ModeRefused, type ModeSwitch, type Wish } from '../migration/mode-switch.ts'
import type { ResilientStore } from '../store/resilience/store.ts'
import type { Built } from './build.ts'
import type { Connection, RunningEngine } from './connection.ts'
import {
  type Failure,
  type LongRunning,
  type MigrateOptions,
  type MigrateReport,
  Refused,
  type StatusReport,
  type SweepOptions,
  type VerifyOptions,
  type VerifyReport,
} from './engine.ts'
import { type Ownership, requireMark } from './ownership.ts'
import { requireSeen } from './unseen-source.ts'
import type { Volume } from './volume.ts'

const STATE_DISK_AWAY =
  'the disk of the state directory does not answer: changes wait 10 s and fail; it goes on by itself when that does'
const NOT_COMPARED =
  'nothing that is in doubt was compared with the store yet, which may have the last copy of it: unmount, mount again when the store answers, then accept the losses'
// Rows read in one go.
const FAILURES_AT_ONCE = 256
const LAST_TELLING_MS = 2000

interface Parts extends Built {
  readonly config: MountConfig
  readonly connection: Connection
  readonly modes: ModeSwitch
  readonly store: ResilientStore
  readonly metrics: Registry
  readonly volume: Volume
  readonly ownership: Ownership
  readonly lease: NamespaceLease
}

/** What the control server and the supervisor ask of a running worker. */
export class ComposedEngine implements RunningEngine {
  readonly #parts: Parts
  #stop: () => Promise<void> = () => Promise.resolve()
  #stopping: Promise<void> | undefined
  #continuing = false
  /** Aborted when the mount ends: whoever only looks does not hold it up. */
  readonly #ending = new AbortController()
  #changing: Promise<void> = Promise.resolve()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  onStop(stop: () => Promise<void>): void {
    this.#stop = stop
  }

  stop(): Promise<void> {
    this.#ending.abort(new Error('the mount has ended'))
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async status(): Promise<StatusReport> {
    const stateDiskAnswers = await this.#stateDiskAnswers()
    const failures = await this.#failures()
    const { config, connection, context, counters, modes, mover, store } = this.#parts
    const { catalog, staging } = context
    const totals = catalog.lists.totals()
    const { health } = store
    const progress = mover.progress
    return {
      pid: process.pid,
      supervisorPid: connection.supervisorPid,
      mode: modes.mode,
      source: config.source,
      target: config.target,
      stateDir: config.stateDir,
      namespace: config.namespace,
      transport: config.transport,
      sourceReadonly: config.sourceReadonly,
      startedAt: connection.startedAt,
      workerStarts: connection.workerStarts,
      store: {
        url: store.url,
        healthy: health.healthy,
        ...(health.healthy || health.lastError === undefined ? {} : { error: health.lastError }),
      },
      files: {
        total: totals.files,
        stored: totals.stored,
        pending: totals.files - totals.stored,
        dirty: totals.dirty,
        failed: totals.failed + mover.unreadable.count,
        drained: totals.drained,
      },
      bytes: { total: totals.bytes, stored: totals.storedBytes },
      outbox: { length: catalog.outbox.length, oldestSeconds: catalog.outbox.oldestSeconds },
      staging: { bytes: staging.bytes, limit: staging.limit },
      stateDiskAnswers,
      reads: { ...counters },
      migration: {
        state: mover.state,
        bytesPerSecond: mover.state === 'running' ? progress.bytesPerSecond : 0,
        etaSeconds: mover.state === 'running' ? progress.etaSeconds : null,
      },
      failures,
    }
  }

  /** Asked now, as long as that does not take long. */
  async #stateDiskAnswers(): Promise<boolean> {
    const { catalog } = this.#parts.context
    await catalog.readyOrAway()
    return !catalog.isAway
  }

  async setMode(mode: Mode, patience?: LongRunning): Promise<void> {
    try {
      if (!patience) return await this.#changeMode(mode, { patient: false })
      const signal = AbortSignal.any([patience.signal, this.#ending.signal])
      await whenItCanBe((wish) => this.#changeMode(mode, wish), mode, this.#parts, { ...patience, signal })
    } catch (error) {
      // No answer: the connection closes, and who waits asks the next worker.
      if (patience && this.#ending.signal.aborted) return new Promise<never>(() => undefined)
      if (error instanceof ModeRefused || error instanceof UsageError) throw new Refused(error.message)
      throw error
    }
  }

  /** One change after the other: what is marked for one is not unmarked by another. */
  #changeMode(mode: Mode, wish: Wish): Promise<void> {
    const done = this.#changing.then(() => this.#changeNow(mode, wish))
    this.#changing = done.catch(() => undefined)
    return done
  }

  async #changeNow(mode: Mode, wish: Wish): Promise<void> {
    const { config, modes, context, overlay, volume, ownership } = this.#parts
    const wanted = policyOf(mode, config.sourceReadonly)
    const detach = (detached: boolean): void => {
      if (detached) volume.detach()
      else volume.attach()
      this.#parts.connection.useSource(!detached)
      if (!detached) requireMark(ownership, wanted, volume.tree)
    }
    try {
      await context.catalog.ready()
      if (wanted.needsLegacy && !volume.tree) requireSeen(config, context.catalog)
      // A copy from before the change is known by the mark, should the store go back with it.
      if (mode !== modes.mode) await context.catalog.state.raise()
      requireMark(ownership, wanted, volume.tree)
      await modes.change(mode, context, overlay, detach, wish)
    } finally {
      ownership.settle(modes.policy, volume.tree)
    }
  }

  /** Goes on with leaving the legacy volume where a predecessor died or the store was not there. */
  continueModeChange(): void {
    const { modes, context } = this.#parts
    if (!modes.leaving || this.#continuing) return
    this.#continuing = true
    this.setMode(modes.mode)
      .catch((error: unknown) => context.log.warn({ err: error }, 'the legacy volume is still needed'))
      .finally(() => {
        this.#continuing = false
      })
  }

  async migrate(options: MigrateOptions, run: LongRunning): Promise<MigrateReport> {
    const { context, mover } = this.#parts
    if (!context.policy().copies) {
      throw new Refused(`mode ${this.#parts.modes.mode} copies nothing; change it with 'ferryfs mode' first`)
    }
    if (options.concurrency !== undefined) context.carrier.concurrency = options.concurrency
    const done = mover.run(options, run.onProgress)
    const ended = await Promise.race([
      done,
      new Promise<undefined>((resolve) => {
        if (run.signal.aborted) resolve(undefined)
        else run.signal.addEventListener('abort', () => resolve(undefined), { once: true })
      }),
    ])
    if (!ended) {
      done.catch(() => undefined)
      run.signal.throwIfAborted()
      throw new Error('the run was left')
    }
    return { ...ended, failures: await this.#failures() }
  }

  pauseMigration(): void {
    this.#parts.mover.pause()
  }

  resumeMigration(): void {
    this.#parts.mover.resume()
  }

  async verify(run: LongRunning, options?: VerifyOptions): Promise<VerifyReport> {
    const { context } = this.#parts
    const signal = AbortSignal.any([run.signal, this.#ending.signal])
    if (options?.acceptLosses && !mayAccept(context)) throw new Refused(NOT_COMPARED)
    const leftOut = options?.acceptLosses ? await acceptLosses(context) : undefined
    return await verify(context, this.#parts, { ...run, signal }, leftOut)
  }

  async sweep(options: SweepOptions, run: LongRunning): Promise<SweepReport> {
    const { context, lease, store } = this.#parts
    if (!store.capabilities.listing) throw new Refused('this store cannot list what is in it')
    const signal = AbortSignal.any([run.signal, this.#ending.signal])
    return await new Sweep(context, lease, { ...options, ...run, signal }).run()
  }

  tree(): SourceTree {
    const { context, overlay, stored } = this.#parts
    return new TreeView(context, overlay, stored)
  }

  metrics(): Promise<string> {
    return this.#parts.metrics.metrics()
  }

  async settle(timeoutMs: number): Promise<{ outboxLeft: number }> {
    const { context, overlay, mover } = this.#parts
    // A migration goes on with the next mount; what it would bring is nothing to wait for.
    this.#ending.abort(new Error('the mount has ended'))
    void mover.stop()
    // What cannot be synced is listed as a failure, and is no reason to leave the rest of the work.
    await overlay
      .syncfs()
      .catch((error: unknown) => context.log.warn({ err: error }, 'not everything could be synced'))
    // What a mode that copies nothing has noted is for a later mode to send: nothing to wait for, nothing left over.
    const { copies, writeTo } = context.policy()
    const sends = copies || writeTo === 'store'
    if (sends) await context.carrier.idle(timeoutMs)
    await context.catalog.flush()
    await this.#tellState()
    return { outboxLeft: sends ? context.catalog.outbox.length : 0 }
  }

  /** A copy of the state directory that was made under this mount is an older one from then on. Nobody waits long for that. */
  async #tellState(): Promise<void> {
    const { context, lease, store } = this.#parts
    if (!store.health.healthy) return
    try {
      await Promise.race([lease.tell(context.catalog, context.epoch), delay(LAST_TELLING_MS)])
    } catch (error) {
      context.log.warn({ err: error }, 'the store is not told of what has changed last')
    }
  }

  /** A broken volume may have any number of them: the first are listed. */
  async #failures(): Promise<readonly Failure[]> {
    const { context, mover, store, volume } = this.#parts
    const { catalog, failedSyncs } = context
    const found = new BoundedList<Failure>(({ path, reason }) => path.length + reason.length)
    const { damage } = store.capabilities
    if (damage !== undefined) found.add({ path: '.', reason: damage })
    if (volume.failure !== undefined) found.add({ path: '.', reason: volume.failure })
    if (catalog.isAway) found.add({ path: '.', reason: STATE_DISK_AWAY })
    for (const { since, detail } of catalog.doubts.losses())
      found.add({ path: '.', reason: `${since.toISOString()}: ${detail}; 'ferryfs verify' lists them` })
    for (const failure of failedSyncs.list()) found.add(failure)
    for (let after: bigint | undefined; found.hasRoom; ) {
      const page = catalog.lists.failures(after, FAILURES_AT_ONCE)
      for (const { ino, reason } of page) {
        if (found.hasRoom) found.add({ path: shownPath(context, ino), reason })
        await giveWay()
      }
      after = page.at(-1)?.ino
      if (after === undefined) break
    }
    for (const failure of mover.unreadable.items) found.add(failure)
    return found.items
  }
}
