import type { Registry } from 'prom-client'
import { UsageError } from '../base/errors.ts'
import { type Mode, policyOf } from '../base/modes.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { type SourceTree, shownPath, TreeView, verify } from '../migration/index.ts'
import { ModeRefused, type ModeSwitch } from '../migration/mode-switch.ts'
import type { ResilientStore } from '../store/resilience/store.ts'
import type { Built } from './compose.ts'
import type { Connection, RunningEngine } from './connection.ts'
import {
  type Failure,
  type LongRunning,
  type MigrateOptions,
  type MigrateReport,
  Refused,
  type StatusReport,
  type VerifyReport,
} from './engine.ts'
import { type Ownership, requireMark } from './ownership.ts'
import type { Volume } from './volume.ts'

// A status that lists every failed file of a broken volume would help nobody.
const FAILURES_LISTED = 10_000

interface Parts extends Built {
  readonly config: MountConfig
  readonly connection: Connection
  readonly modes: ModeSwitch
  readonly store: ResilientStore
  readonly metrics: Registry
  readonly volume: Volume
  readonly ownership: Ownership
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

  status(): StatusReport {
    const { config, connection, context, counters, modes, mover, store } = this.#parts
    const { catalog, staging } = context
    const totals = catalog.totals()
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
        failed: totals.failed + mover.unreadable.size,
        drained: totals.drained,
      },
      bytes: { total: totals.bytes, stored: totals.storedBytes },
      outbox: { length: catalog.outbox.length, oldestSeconds: catalog.outbox.oldestSeconds },
      staging: { bytes: staging.bytes, limit: staging.limit },
      reads: { ...counters },
      migration: {
        state: mover.state,
        bytesPerSecond: mover.state === 'running' ? progress.bytesPerSecond : 0,
        etaSeconds: mover.state === 'running' ? progress.etaSeconds : null,
      },
      failures: this.#failures(),
    }
  }

  /** One change after the other: what is marked for one is not unmarked by another. */
  setMode(mode: Mode): Promise<void> {
    const done = this.#changing.then(() => this.#setMode(mode))
    this.#changing = done.catch(() => undefined)
    return done
  }

  async #setMode(mode: Mode): Promise<void> {
    const { config, modes, context, overlay, volume, ownership } = this.#parts
    const wanted = policyOf(mode, config.sourceReadonly)
    const detach = (detached: boolean): void => {
      if (detached) volume.detach()
      else volume.attach()
      this.#parts.connection.useSource(!detached)
      if (!detached) requireMark(ownership, wanted, volume.tree)
    }
    try {
      requireMark(ownership, wanted, volume.tree)
      await modes.change(mode, context, overlay, detach)
    } catch (error) {
      if (error instanceof ModeRefused || error instanceof UsageError) throw new Refused(error.message)
      throw error
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
    return { ...ended, failures: this.#failures() }
  }

  pauseMigration(): void {
    this.#parts.mover.pause()
  }

  resumeMigration(): void {
    this.#parts.mover.resume()
  }

  verify(run: LongRunning): Promise<VerifyReport> {
    const signal = AbortSignal.any([run.signal, this.#ending.signal])
    return verify(this.#parts.context, this.#parts, { ...run, signal })
  }

  acceptLosses(): void {
    this.#parts.context.catalog.doubts.accept()
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
    return { outboxLeft: sends ? context.catalog.outbox.length : 0 }
  }

  #failures(): Failure[] {
    const { context, mover } = this.#parts
    const failed = context.catalog
      .failures(FAILURES_LISTED)
      .map(({ ino, reason }) => ({ path: shownPath(context, ino), reason }))
    const unread = [...mover.unreadable].map(([path, reason]) => ({ path, reason }))
    const { doubts } = context.catalog
    const lost = doubts.losses().map(({ since, detail }) => ({
      path: '.',
      reason: `${since.toISOString()}: ${detail}; 'ferryfs verify' lists them`,
    }))
    return [...lost, ...failed, ...unread, ...context.failedSyncs.list()]
  }
}
