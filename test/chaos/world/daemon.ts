import { execFile } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { untilAborted } from '../../../src/base/concurrency.ts'
import type { Mode } from '../../../src/base/modes.ts'
import { callDaemon, DaemonError } from '../../../src/daemon/control-client.ts'
import type { StatusReport, VerifyReport } from '../../../src/daemon/engine.ts'
import type { SweepReport } from '../../../src/migration/index.ts'
import { isRunning, startTicks } from '../../../src/daemon/process.ts'
import { findRegistration, type Registration } from '../../../src/daemon/registry.ts'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import type { Boot } from '../../support/power/boot.ts'
import { stop } from '../../support/power/stop.ts'

/** Which program is tried, and with what settings. */
export interface Program {
  /** File of the command line, and environment of everything that it starts. */
  readonly cli: string
  readonly environment: Readonly<Record<string, string>>
}

export interface Places {
  readonly source: string
  readonly target: string
  readonly stateDir: string
  readonly runDir: string
}

interface Ended {
  readonly status: number | null
  readonly output: string
}

// A command that has not ended by then hangs.
const COMMAND_MS = 120_000
const GONE_MS = 60_000
const POLL_MS = 20

/** What was waited for did not come: the promise that it breaks is in the message. */
export class Late extends Error {}

/** Polls until the condition gives something. @throws Late */
export async function until<T>(
  what: string,
  deadlineMs: number,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const value = await condition()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline) throw new Late(`waited ${deadlineMs / 1000} s in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** What a daemon was asked for and has no limit of its own. @throws Late */
function inTime<T>(what: string, answer: Promise<T>): Promise<T> {
  const late = (): Late => new Late(`waited ${COMMAND_MS / 1000} s in vain for ${what}`)
  return untilAborted(answer, AbortSignal.timeout(COMMAND_MS), late)
}

/** The real daemon of one mount, driven as an operator would: by its command line, its control socket and signals. */
export class Daemon {
  readonly places: Places
  readonly #program: Program
  readonly #mountArguments: readonly string[]
  readonly #boot: Boot
  readonly #started = new Map<number, number>()

  constructor(program: Program, places: Places, mountArguments: readonly string[], boot: Boot) {
    this.#boot = boot
    this.#program = program
    this.places = places
    this.#mountArguments = mountArguments
  }

  /** Runs a command line to its end. */
  run(...args: string[]): Promise<Ended> {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('FERRYFS_'))
    const env = {
      ...Object.fromEntries(inherited),
      ...this.#program.environment,
      FERRYFS_RUN_DIR: this.places.runDir,
      FERRYFS_STATE_ROOT: join(this.places.runDir, 'machine'),
    }
    const line = ['--disable-warning=ExperimentalWarning', this.#program.cli, ...args]
    const [command, own] = this.#boot.line(process.execPath, line)
    return new Promise((resolve) => {
      execFile(
        command,
        own,
        { env, cwd: '/', timeout: COMMAND_MS, killSignal: 'SIGKILL', maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          const status = error === null ? 0 : typeof error.code === 'number' ? error.code : null
          resolve({ status, output: `${stdout}${stderr}` })
        },
      )
    })
  }

  /** Runs a command that has to end with 0. */
  async done(...args: string[]): Promise<string> {
    const { status, output } = await this.run(...args)
    if (status === 0) return output
    throw new Error(`ferryfs ${args.join(' ')} ended with ${status}: ${output.slice(-2000)}${this.lastLog()}`)
  }

  async mount(mode: Mode | undefined): Promise<void> {
    const { source, target, stateDir } = this.places
    const chosen = mode === undefined ? [] : ['--mode', mode]
    const output = await this.done(
      ...['mount', source, target, '--state-dir', stateDir, ...this.#mountArguments, ...chosen],
    )
    const pid = Number(/by process (\d+)/.exec(output)?.[1])
    this.#remember(pid)
  }

  async unmount(): Promise<void> {
    await this.done('unmount', this.places.target)
  }

  async status(): Promise<StatusReport> {
    const report = await callDaemon(this.#registration(), { command: 'status' })
    this.#remember(report.pid)
    this.#remember(report.supervisorPid)
    return report
  }

  /** @throws Late with the last status */
  async until(
    what: string,
    deadlineMs: number,
    condition: (report: StatusReport) => boolean,
  ): Promise<StatusReport> {
    let last: StatusReport | undefined
    try {
      return await until(what, deadlineMs, async () => {
        last = await this.status()
        return condition(last) ? last : undefined
      })
    } catch (error) {
      if (!(error instanceof Late) || !last) throw error
      const { mode, store, files, outbox, migration, failures } = last
      const seen = JSON.stringify({ mode, store, files, outbox, migration, failures: failures.slice(0, 5) })
      throw new Late(`${error.message}; last seen ${seen}`)
    }
  }

  /** False where the daemon turned it down. */
  async mode(mode: Mode): Promise<boolean> {
    try {
      await inTime(`mode ${mode}`, callDaemon(this.#registration(), { command: 'mode', mode }))
      return true
    } catch (error) {
      if (error instanceof DaemonError && error.exitStatus === 3) return false
      throw error
    }
  }

  /** Moves everything and waits for it; the number of files that are left. */
  async migrate(): Promise<number> {
    const report = await inTime(
      'the end of a migration',
      callDaemon(this.#registration(), { command: 'migrate', wait: true }),
    )
    if (!('remaining' in report)) throw new Error('a migration that was waited for has no report')
    return report.remaining
  }

  verify(): Promise<VerifyReport> {
    return inTime('the end of verify', callDaemon(this.#registration(), { command: 'verify' }))
  }

  sweep(): Promise<SweepReport> {
    const request = { command: 'sweep', dryRun: false, all: false } as const
    return inTime('the end of sweep', callDaemon(this.#registration(), request))
  }

  /** `kill -9` of the worker; resolves when its successor answers. */
  async killWorker(): Promise<void> {
    const { pid, workerStarts } = await this.status()
    process.kill(pid, 'SIGKILL')
    await this.until('the next worker', GONE_MS, (report) => report.workerStarts > workerStarts)
  }

  /** A planned replacement of the worker, as at an upgrade. */
  async handOver(): Promise<void> {
    const { supervisorPid, workerStarts } = await this.status()
    process.kill(supervisorPid, 'SIGHUP')
    await this.until('the hand-over to a new worker', GONE_MS, (report) => report.workerStarts > workerStarts)
  }

  /** `kill -9` of supervisor and worker together. */
  async killBoth(): Promise<void> {
    const { pid, supervisorPid } = await this.status()
    for (const victim of [supervisorPid, pid]) process.kill(victim, 'SIGKILL')
    await this.#gone(supervisorPid)
    await this.#gone(pid)
  }

  /**
   * The machine stops: `stopped` is called when nothing of the daemon goes on, and what it answered is known to have been
   * answered before. Then it dies, and what it had mounted is gone.
   */
  async loseMachine(stopped: () => Promise<void>): Promise<void> {
    const { pid, supervisorPid } = await this.status()
    await stop([supervisorPid, pid])
    await stopped()
    for (const victim of [supervisorPid, pid]) process.kill(victim, 'SIGKILL')
    await this.clear()
    rmSync(this.places.runDir, { recursive: true, force: true })
  }

  /** SIGTERM, and waits for the end. */
  async terminate(): Promise<void> {
    const { pid, supervisorPid } = await this.status()
    process.kill(supervisorPid, 'SIGTERM')
    await this.#gone(supervisorPid)
    await this.#gone(pid)
  }

  lastLog(): string {
    try {
      const text = readFileSync(join(this.places.stateDir, 'daemon.log'), 'utf8')
      return `\nlog:\n${text.slice(-3000)}`
    } catch {
      return ''
    }
  }

  /** Ends everything that this daemon was, whatever state it is in. */
  async clear(): Promise<void> {
    for (const [pid, ticks] of this.#started) if (isRunning(pid, ticks)) process.kill(pid, 'SIGKILL')
    for (const [pid] of this.#started) await this.#gone(pid)
    while (mountsOf(this.places.target).some(({ type }) => type.startsWith('fuse'))) {
      await unmountKernel(this.places.target, { lazy: true })
    }
  }

  #registration(): Registration {
    const found = findRegistration(this.places.runDir, this.places.target)
    if (found) return found
    throw new Error(`no daemon is recorded for ${this.places.target}${this.lastLog()}`)
  }

  #remember(pid: number): void {
    const ticks = startTicks(pid)
    if (ticks !== undefined) this.#started.set(pid, ticks)
  }

  async #gone(pid: number): Promise<void> {
    const ticks = this.#started.get(pid)
    await until(`the end of process ${pid}`, GONE_MS, () => ticks === undefined || !isRunning(pid, ticks))
  }
}
