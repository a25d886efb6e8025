import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { callDaemon } from '../../../src/daemon/control-client.ts'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import { isRunning, startTicks } from '../../../src/daemon/process.ts'
import { findRegistration } from '../../../src/daemon/registry.ts'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import type { FakeBehaviour } from './fake-engine.ts'

const CLI = fileURLToPath(new URL('./cli.ts', import.meta.url))
const UNMOUNTED = fileURLToPath(new URL('./unmounted-daemon.ts', import.meta.url))

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Polls until the condition gives something. The bound ends a test that hangs; nothing is measured by it. */
export async function eventually<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + 30_000
  for (;;) {
    const value = await condition()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

export function gone(pid: number): Promise<true> {
  return eventually(`the end of process ${pid}`, () => startTicks(pid) === undefined || undefined)
}

interface Running {
  readonly pid: number
  readonly ended: Promise<Ended>
  /** What it has written so far. */
  readonly output: () => string
  readonly kill: (signal: NodeJS.Signals) => void
}

/** Directories of one test with a daemon of its own, and the command line to it. */
export class Place {
  readonly root: string
  readonly source: string
  readonly target: string
  readonly stateDir: string
  readonly runDir: string
  fake: FakeBehaviour = {}
  readonly #started: { readonly pid: number; readonly ticks: number }[] = []

  constructor() {
    this.root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-daemon-')))
    this.source = join(this.root, 'source')
    this.target = join(this.root, 'target')
    this.stateDir = join(this.root, 'state')
    this.runDir = join(this.root, 'run')
    for (const directory of [this.source, this.target]) mkdirSync(directory)
    writeFileSync(join(this.source, 'data'), 'the legacy content\n')
  }

  get environment(): NodeJS.ProcessEnv {
    const { FERRYFS_STORE: _store, FERRYFS_MODE: _mode, ...rest } = process.env
    return {
      ...rest,
      FERRYFS_RUN_DIR: this.runDir,
      FERRYFS_STATE_ROOT: join(this.root, 'machine'),
      FERRYFS_FAKE: JSON.stringify(this.fake),
    }
  }

  get journal(): string[] {
    return readFileSync(join(this.stateDir, 'journal'), 'utf8').trimEnd().split('\n')
  }

  get log(): string {
    return readFileSync(join(this.stateDir, 'daemon.log'), 'utf8')
  }

  ferryfs(...args: string[]): Promise<Ended> {
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        [CLI, ...args],
        { env: this.environment, cwd: this.root, timeout: 50_000, killSignal: 'SIGKILL' },
        (error, stdout, stderr) => {
          const status = error === null ? 0 : typeof error.code === 'number' ? error.code : null
          resolve({ status, stdout, stderr })
        },
      )
    })
  }

  /** Starts a command that stays. */
  spawn(...args: string[]): Running {
    return this.#run([CLI, ...args])
  }

  #run(args: readonly string[]): Running {
    const child = spawn(process.execPath, args, {
      env: this.environment,
      cwd: this.root,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      stdout += part
    })
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      stderr += part
    })
    const pid = child.pid ?? 0
    this.remember(pid)
    return {
      pid,
      ended: new Promise((resolve) => child.once('close', (status) => resolve({ status, stdout, stderr }))),
      output: () => stdout + stderr,
      kill: (signal) => void child.kill(signal),
    }
  }

  /** A daemon of this place's directories with a fake engine and no mount, in the foreground. */
  daemonWithoutMount(...more: string[]): Running {
    return this.#run([UNMOUNTED, this.source, this.target, this.stateDir, ...more])
  }

  /** Waits until the daemon answers. */
  async served(): Promise<StatusReport> {
    const registration = await eventually('a daemon', () => findRegistration(this.runDir, this.target))
    return callDaemon(registration, { command: 'status' })
  }

  /** Mounts in the background with the directories of this place. */
  async mount(...more: string[]): Promise<Ended> {
    const ended = await this.ferryfs('mount', this.source, this.target, '--state-dir', this.stateDir, ...more)
    const pid = /by process (\d+)/.exec(ended.stdout)?.[1]
    if (pid !== undefined) this.remember(Number(pid))
    return ended
  }

  async status(): Promise<StatusReport> {
    const { stdout, stderr, status } = await this.ferryfs('status', this.target, '--json')
    if (status !== 0) throw new Error(`status ended with ${status}: ${stderr}`)
    return JSON.parse(stdout)
  }

  remember(pid: number): void {
    const ticks = startTicks(pid)
    if (ticks !== undefined) this.#started.push({ pid, ticks })
  }

  /** Ends what this place started and removes it. */
  async clear(): Promise<void> {
    for (const { pid, ticks } of this.#started) {
      if (isRunning(pid, ticks)) process.kill(pid, 'SIGKILL')
      await gone(pid)
    }
    while (mountsOf(this.target).length > 0) await unmountKernel(this.target, { lazy: true })
    rmSync(this.root, { recursive: true, force: true })
  }
}
