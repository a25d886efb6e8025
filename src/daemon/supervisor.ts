import { close, rmSync } from 'node:fs'
import { promisify } from 'node:util'
import { reasonOf, UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import type { FileLock } from '../base/file-lock.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { settingTexts } from '../config/mount-command.ts'
import { flagsOfMount, type MountFlag, mergeMountFlags, parseMountFlags } from '../config/mount-flags.ts'
import { controlSocket } from '../config/paths.ts'
import type { Log } from '../observe/log.ts'
import type { StateNames } from './connection.ts'
import { HeldDescriptors } from './held-descriptors.ts'
import { remember } from './machine.ts'
import type { FromWorker, ToWorker } from './messages.ts'
import type { MountDriver } from './mount-driver.ts'
import { MountBusy } from './mount-driver.ts'
import { makeRunDirectory, register, unregister } from './registry.ts'
import { memoryFile } from '../sys/index.ts'
import { SourceClaim } from './source-claim.ts'
import { claimStateDir, readIdentity, recordIdentity } from './state-dir.ts'
import { WorkerHandle } from './worker-handle.ts'

const closeAsync = promisify(close)

export interface SupervisorOptions {
  readonly config: MountConfig
  readonly runDir: string
  /** The program of a worker. */
  readonly workerFile: string
  readonly driver: MountDriver
  readonly log: Log
  /** One line of a worker's output. */
  readonly onOutput: (line: string, isRecord: boolean) => void
}

// A worker that lived for less than this died quickly; so many in a row are started at once all the same, because
// applications wait; then ever later, so that a machine is not kept busy with a start that cannot succeed.
const QUICK_DEATH_MS = 10_000
const QUICK_DEATHS_AT_ONCE = 5
const FIRST_DELAY_MS = 250
const LONGEST_DELAY_MS = 30_000

// When no worker came as far as serving for so long, applications get errors instead of waiting on (P6).
const GIVE_UP_MS = 300_000

// What a worker may take beyond the time that its store work was given, to finish requests and close its files.
const GRACE_MS = 10_000

// What umount(8) may take; a process that hangs in the kernel can keep it for ever.
const UNMOUNT_MS = 10_000

// A mount that does not answer a stat by then is reported as failed.
const ANSWER_MS = 20_000

/** How long to wait before the next start after so many quick deaths in a row. */
export function restartDelay(quickDeaths: number): number {
  if (quickDeaths <= QUICK_DEATHS_AT_ONCE) return 0
  return Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (quickDeaths - QUICK_DEATHS_AT_ONCE - 1))
}

/**
 * Owns a mount: the state directory's lock, the descriptor of the connection, what workers hold, and the one worker that
 * serves. It does little, so that it lives on; everything that can fail happens in the worker, and a worker that died is
 * replaced on the same connection (P7).
 */
export class Supervisor {
  /** Resolves once nothing is mounted, no worker runs and the state directory is free. */
  readonly ended: Promise<void>
  readonly #options: SupervisorOptions
  readonly #held = new HeldDescriptors()
  readonly #startedAt = new Date().toISOString()
  readonly #stopRequested = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<void>()
  #lock: FileLock | undefined
  /** In memory, so that it needs no room on a disk. */
  #notes: number | undefined
  #claim: SourceClaim | undefined
  #claiming: Promise<void> = Promise.resolve()
  #connection: number | undefined
  #mounted = false
  #state: unknown
  #worker: WorkerHandle | undefined
  #standby: WorkerHandle | undefined
  #workerStarts = 0
  #stopping = false
  /** Nothing is mounted any more, or the connection is dead: the worker's end is the daemon's. */
  #detached = false

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.ended = this.#ended.promise
  }

  /**
   * Resolves once TARGET answers. If it rejects, everything is as it was before.
   * @throws UsageError with the exit status of `mount`
   */
  async start(): Promise<void> {
    const { config, runDir, driver } = this.#options
    makeRunDirectory(runDir)
    this.#lock = claimStateDir(config.stateDir, config)
    faultPoint('daemon.supervisor.claimed')
    this.#notes = this.#makeNotes()
    try {
      this.#claim = await SourceClaim.take(config.source, runDir)
      register(runDir, {
        target: config.target,
        source: config.source,
        stateDir: config.stateDir,
        socket: controlSocket(config.stateDir, runDir),
      })
      faultPoint('daemon.supervisor.registered')
      this.#connection = driver.open()
      const worker = this.#spawn()
      this.#worker = worker
      await this.#begin(worker)
      if (!(await worker.ready) || this.#stopping) throw await this.#startFailure(worker)
      if (!(await driver.answers(ANSWER_MS))) {
        throw new UsageError(`${config.target} was mounted but does not answer; see the log`, 1)
      }
    } catch (error) {
      await this.#cleanUp()
      throw error
    }
    this.#options.log.info({ target: config.target, source: config.source }, 'mounted')
    this.#supervise()
      .catch((error: unknown) => this.#options.log.error({ err: error }, 'the end was not clean'))
      .finally(() => this.#ended.resolve())
  }

  /** Puts a new worker in the place of the one that serves, with no call failed (upgrade). */
  async handOver(): Promise<void> {
    if (this.#standby || this.#stopping || this.#detached) return
    const old = this.#worker
    const standby = this.#spawn()
    this.#standby = standby
    // The new one is loaded before the old one stops: the pause is short, and a new version that does not even load
    // costs nothing.
    if (!(await standby.loaded)) {
      standby.kill()
      if (this.#standby === standby) this.#standby = undefined
      this.#options.log.error(
        {},
        'the new worker does not load or speaks another protocol; the old one stays',
      )
      return
    }
    // The old one may have died meanwhile, and the new one be in its place already.
    if (this.#worker !== old || this.#stopping) return
    this.#options.log.info({ worker: standby.pid }, 'handing over to a new worker')
    old?.send({ type: 'stop' })
    old?.killAfter(this.#options.config.opTimeout + GRACE_MS)
  }

  /** Unmounts and ends, leaving pending store work time to finish; asked again, without that time. */
  async stop(): Promise<void> {
    const settleMs = this.#stopping ? 0 : this.#options.config.opTimeout
    const again = this.#stopping
    this.#stopping = true
    this.#stopRequested.resolve()
    this.#standby?.kill()
    if (!again && !this.#detached) await this.#unmountWhateverItTakes()
    this.#worker?.send({ type: 'stop', settleMs })
    this.#worker?.killAfter(settleMs + GRACE_MS)
  }

  #spawn(): WorkerHandle {
    const worker: WorkerHandle = new WorkerHandle({
      file: this.#options.workerFile,
      connection: this.#connection,
      onMessage: (message) => {
        this.#answer(worker, message).catch((error) =>
          this.#options.log.error({ err: error, request: message.type }, 'a request of the worker failed'),
        )
      },
      onOutput: this.#options.onOutput,
    })
    return worker
  }

  async #begin(worker: WorkerHandle): Promise<void> {
    if (!(await worker.loaded)) return
    const { config, runDir } = this.#options
    const takesOver = this.#workerStarts > 0
    this.#workerStarts += 1
    worker.start({
      type: 'start',
      config: takesOver ? { ...config, mode: undefined } : config,
      runDir,
      supervisorPid: process.pid,
      workerStarts: this.#workerStarts,
      startedAt: this.#startedAt,
      takesOver,
      held: this.#held.list(),
      notes: this.#notes === undefined ? undefined : `/proc/${process.pid}/fd/${this.#notes}`,
      hasConnection: this.#connection !== undefined,
    })
    if (this.#stopping) {
      worker.send({ type: 'stop', settleMs: 0 })
      worker.killAfter(GRACE_MS)
    }
  }

  #makeNotes(): number | undefined {
    try {
      return memoryFile('ferryfs: files met without room')
    } catch (error) {
      this.#options.log.warn(
        { err: error },
        'files that are met on a full disk are not known to the next worker',
      )
      return undefined
    }
  }

  async #startFailure(worker: WorkerHandle): Promise<UsageError> {
    const how = await worker.exited
    if (worker.failure) return new UsageError(worker.failure.message, worker.failure.exitStatus)
    if (this.#stopping) return new UsageError('stopped before the mount answered', 1)
    return new UsageError(`the worker ended (${how}) before the mount answered; see the log`, 1)
  }

  /** Follows the workers one after the other until the mount is gone. */
  async #supervise(): Promise<void> {
    const { log } = this.#options
    let quickDeaths = 0
    let servedAt = performance.now()
    for (;;) {
      const worker = this.#worker
      if (!worker) break
      const how = await worker.exited
      if (this.#detached || this.#stopping) break
      if (worker.served) servedAt = performance.now()
      if (performance.now() - servedAt > GIVE_UP_MS) {
        log.error(
          { why: worker.failure?.message ?? how },
          'no worker can serve the mount: it ends, applications get errors',
        )
        break
      }
      if (worker.finished) {
        quickDeaths = 0
        log.info({ worker: worker.pid }, 'the worker has finished')
      } else {
        quickDeaths = worker.age < QUICK_DEATH_MS ? quickDeaths + 1 : 1
        const delay = restartDelay(quickDeaths)
        const why = worker.failure?.message
        log.error({ worker: worker.pid, how, why, delayMs: delay }, 'the worker died; starting the next')
        await this.#pause(delay)
        if (this.#stopping) break
      }
      try {
        await this.#replace(!worker.finished)
      } catch (error) {
        log.error({ err: error }, 'the mount cannot be served any more')
        break
      }
    }
    await this.#cleanUp()
    log.info({}, 'ended')
  }

  async #replace(killed: boolean): Promise<void> {
    const standby = this.#standby
    this.#standby = undefined
    const { driver, log } = this.#options
    if (killed && this.#mounted && !driver.survivesKill(this.#state)) {
      log.warn(
        {},
        'this kernel cannot go on with another worker: mounting anew, open files of applications are lost',
      )
      standby?.kill()
      await this.#disconnect()
      this.#connection = driver.open()
      this.#worker = this.#spawn()
    } else {
      this.#worker = standby?.running ? standby : this.#spawn()
    }
    await this.#begin(this.#worker)
  }

  /** Waits, unless the daemon is asked to stop. */
  async #pause(milliseconds: number): Promise<void> {
    if (milliseconds === 0) return
    let timer: NodeJS.Timeout | undefined
    const elapsed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, milliseconds)
    })
    await Promise.race([elapsed, this.#stopRequested.promise])
    clearTimeout(timer)
  }

  async #answer(worker: WorkerHandle, message: FromWorker): Promise<void> {
    // A standby asks for nothing, and what a dead worker asked for nobody waits for.
    if (worker !== this.#worker) return
    switch (message.type) {
      case 'attach':
        await this.#reply(worker, message.request, () => this.#attach(message.names))
        break
      case 'source':
        await this.#useSource(message.used)
        break
      case 'hold':
        await this.#reply(worker, message.request, () => this.#hold(worker, message.id, message.path))
        break
      case 'unmount':
        await this.#reply(worker, message.request, () => this.#unmount(message.lazy))
        break
      case 'drop':
        this.#held.drop(message.id)
        break
      case 'state':
        this.#state = message.state
        break
      case 'closed':
        this.#options.log.info({}, 'the kernel closed the connection: nothing is mounted any more')
        this.#detached = true
        this.#boundTheEnd()
        break
      case 'replace':
        await this.handOver()
        break
    }
  }

  async #reply(worker: WorkerHandle, request: number, body: () => Promise<unknown>): Promise<void> {
    let reply: ToWorker
    try {
      reply = { type: 'reply', request, value: await body() }
    } catch (error) {
      const code = error instanceof MountBusy ? 'EBUSY' : undefined
      reply = { type: 'reply', request, error: { message: reasonOf(error), code } }
    }
    worker.send(reply)
  }

  async #attach(
    names: StateNames | undefined,
  ): Promise<{ readonly state: unknown; readonly flags: unknown }> {
    await this.#claiming
    const { config, driver, log } = this.#options
    const flags = this.#mountFlags()
    if (!this.#mounted) {
      const settings = settingTexts(config)
      const { mount } = this.#claim ?? {}
      const sourceFlags = mount && flagsOfMount(mount)
      recordIdentity(config.stateDir, { ...config, ...names, settings, sourceFlags })
      faultPoint('daemon.supervisor.identified')
      try {
        const { target, source, stateDir } = config
        remember({ target, source, stateDir, settings }, process.env)
      } catch (error) {
        // A machine that keeps no records can still serve: the next mount has to be told all.
        log.warn({ err: error }, 'the machine cannot remember this mount')
      }
      await driver.mount(this.#connection, flags)
      this.#mounted = true
      faultPoint('daemon.supervisor.mounted')
    }
    return { state: this.#state, flags }
  }

  /** Nobody can do more at TARGET than at SOURCE; of one that is not there, what was in force when it was seen last. */
  #mountFlags(): MountFlag[] {
    const { options, sourceReadonly, stateDir } = this.#options.config
    const { mount } = this.#claim ?? {}
    const source = mount ? flagsOfMount(mount) : (readIdentity(stateDir)?.sourceFlags ?? [])
    // Where changes do not go to SOURCE, they need not be possible there.
    const isWritten = mount !== undefined && !sourceReadonly
    const inForce = isWritten ? source : source.filter((flag) => flag !== 'ro')
    return mergeMountFlags(inForce, parseMountFlags(options ?? '') ?? [])
  }

  /** One after the other: a claim is given up before it is made anew. */
  #useSource(used: boolean): Promise<void> {
    const { config, runDir, log } = this.#options
    this.#claiming = this.#claiming.then(async () => {
      this.#claim?.release()
      this.#claim = undefined
      if (used && !this.#stopping) this.#claim = await SourceClaim.take(config.source, runDir)
    })
    this.#claiming = this.#claiming.catch((error: unknown) =>
      log.error({ err: error }, 'SOURCE is used, but cannot be kept from others'),
    )
    return this.#claiming
  }

  async #hold(worker: WorkerHandle, id: string, path: string): Promise<void> {
    if (!new RegExp(`^/proc/${worker.pid}/fd/\\d+$`).test(path)) {
      throw new Error(`${path} is not a descriptor of the worker`)
    }
    await this.#held.hold(id, path)
    faultPoint('daemon.supervisor.held')
  }

  async #unmount(lazy: boolean): Promise<void> {
    await this.#options.driver.unmount(lazy)
    this.#mounted = false
    this.#detached = true
    faultPoint('daemon.supervisor.unmounted')
    this.#boundTheEnd()
  }

  /** A worker with nothing to serve any more may settle, but not for ever (P6). */
  #boundTheEnd(): void {
    this.#worker?.killAfter(this.#options.config.opTimeout + GRACE_MS)
  }

  async #unmountWhateverItTakes(): Promise<void> {
    const { driver, log } = this.#options
    if (!this.#mounted) return
    try {
      await within(UNMOUNT_MS, driver.unmount(false))
    } catch (error) {
      log.warn(
        { err: error },
        'the mount is in use: it is detached, its users get errors once the daemon has ended',
      )
      await this.#unmountLazily()
    }
    this.#mounted = false
    this.#detached = true
  }

  /** Takes the mount off and closes the connection. */
  async #disconnect(): Promise<void> {
    const connection = this.#connection
    this.#connection = undefined
    this.#state = undefined
    if (this.#mounted) await this.#unmountLazily()
    this.#mounted = false
    // On the thread pool: the last close of a connection waits until everybody who used it has been told.
    if (connection !== undefined) await this.#quietly(closeAsync(connection))
  }

  #unmountLazily(): Promise<void> {
    return this.#quietly(this.#options.driver.unmount(true))
  }

  /** Whatever comes of it, the end goes on. */
  async #quietly(work: Promise<void>): Promise<void> {
    await within(UNMOUNT_MS, work).catch((error: unknown) =>
      this.#options.log.error({ err: error }, 'the mount cannot be detached'),
    )
  }

  async #cleanUp(): Promise<void> {
    const { config, runDir } = this.#options
    for (const worker of [this.#worker, this.#standby]) {
      worker?.kill()
      await worker?.exited
    }
    await this.#disconnect()
    this.#held.dropAll()
    rmSync(controlSocket(config.stateDir, runDir), { force: true })
    unregister(runDir, config.target)
    this.#claim?.release()
    this.#lock?.release()
  }
}

/** @throws Error if the work is not done in time; it may go on */
async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
