import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { callDaemon } from '../../../src/daemon/control-client.ts'
import type { Command, ControlRequest, Results } from '../../../src/daemon/control-protocol.ts'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import { isRunning, startTicks } from '../../../src/daemon/process.ts'
import { LONG_TURN } from '../../../src/daemon/gauges.ts'
import { findRegistration, type Registration } from '../../../src/daemon/registry.ts'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { type Ended, eventually, gone } from '../daemon/place.ts'
import { Agent, type Identity, type Remote } from '../posix/agent.ts'
import { builtCli } from './built.ts'

const CLI = builtCli()

// A command that has not ended by then hangs; no test measures by it.
const COMMAND_MS = 120_000

// What one turn of a worker's event loop may cost the processor, and take, on a machine that runs much else: P6 fails the test.
const TURN_CPU_MS = 1000
const TURN_MS = 10_000

interface Options {
  /** Its parent; the system's temporary directory unless a test wants another file system. */
  readonly parent?: string
  /** The daemon can be made to die at a fault point. */
  readonly faults?: boolean
  /** Other places than directories side by side; made once the root is there. */
  readonly surroundings?: (root: string) => Surroundings
}

export interface Places {
  readonly source: string
  readonly target: string
  readonly stateDir: string
}

/** Where a test has its directories, if they lie on file systems of its own. */
export interface Surroundings extends Places {
  /** How a command is started that mounts. */
  line(command: string, args: readonly string[]): [command: string, args: string[]]
  /** Takes away what was mounted for them. */
  remove(): void | Promise<void>
}

/** A source, a target and a state directory of one test, the command line to them, and processes that work in them. */
export class Ferry {
  readonly root: string
  readonly source: string
  readonly target: string
  readonly stateDir: string
  /** What the machine remembers. */
  readonly stateRoot: string
  readonly #runDir: string
  readonly #faults: boolean
  readonly #faultFile: string
  readonly #surroundings: Surroundings | undefined
  readonly #agents: Agent[] = []
  readonly #started: { readonly pid: number; readonly ticks: number }[] = []
  /** Makes system calls in a process of its own, so that a file system that hangs does not take the test with it. */
  readonly call: Remote

  constructor({ parent = tmpdir(), faults = false, surroundings }: Options = {}) {
    this.#faults = faults
    this.root = realpathSync(mkdtempSync(join(parent, 'ferryfs-mount-')))
    // Other users work in the mount too.
    chmodSync(this.root, 0o755)
    this.#surroundings = surroundings?.(this.root)
    const { source, target, stateDir } = this.#surroundings ?? sideBySide(this.root)
    this.source = source
    this.target = target
    this.stateDir = stateDir
    this.stateRoot = join(this.root, 'machine')
    this.#runDir = join(this.root, 'run')
    this.#faultFile = join(this.root, 'fault')
    for (const directory of [source, target]) mkdirSync(directory, { recursive: true })
    this.call = this.as(null).call
  }

  /** Another process that works in the mount, as that user. */
  as(identity: Identity | null): Agent {
    const agent = new Agent(identity === null ? 'root' : `user ${identity.uid}`, identity)
    this.#agents.push(agent)
    return agent
  }

  get environment(): NodeJS.ProcessEnv {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('FERRYFS_'))
    const own = {
      ...Object.fromEntries(inherited),
      FERRYFS_RUN_DIR: this.#runDir,
      FERRYFS_STATE_ROOT: this.stateRoot,
    }
    return this.#faults ? { ...own, FERRYFS_FAULT: `@${this.#faultFile}` } : own
  }

  /** Has the daemon die where it passes this fault point next; one after the other where there are several. */
  arm(...points: string[]): void {
    const whole = `${this.#faultFile}.new`
    writeFileSync(whole, points.join('\n'))
    renameSync(whole, this.#faultFile)
  }

  /** Whether all that was armed has fired. */
  get fired(): boolean {
    return !existsSync(this.#faultFile)
  }

  disarm(): void {
    rmSync(this.#faultFile, { force: true })
  }

  get log(): string {
    return readFileSync(join(this.stateDir, 'daemon.log'), 'utf8')
  }

  /** Command and arguments of a ferryfs command line, for a test that starts it itself. */
  line(...args: string[]): [command: string, args: string[]] {
    const line = ['--disable-warning=ExperimentalWarning', CLI, ...args]
    return this.#surroundings?.line(process.execPath, line) ?? [process.execPath, line]
  }

  ferryfs(...args: string[]): Promise<Ended> {
    const [command, line] = this.line(...args)
    return new Promise((resolve) => {
      execFile(
        command,
        line,
        {
          env: this.environment,
          cwd: this.root,
          timeout: COMMAND_MS,
          killSignal: 'SIGKILL',
          maxBuffer: 64 << 20,
        },
        (error, stdout, stderr) => {
          const status = error === null ? 0 : typeof error.code === 'number' ? error.code : null
          resolve({ status, stdout, stderr })
        },
      )
    })
  }

  /** Runs a command that has to end with 0; what it printed. */
  async done(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.ferryfs(...args)
    if (status !== 0)
      throw new Error(`ferryfs ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}${this.#lastLog()}`)
    return stdout
  }

  /** Mounts in the background; the command's end, whatever it is. */
  async tryMount(...more: string[]): Promise<Ended> {
    const ended = await this.ferryfs('mount', this.source, this.target, '--state-dir', this.stateDir, ...more)
    const pid = /by process (\d+)/.exec(ended.stdout)?.[1]
    if (pid !== undefined) this.#remember(Number(pid))
    return ended
  }

  async mount(...more: string[]): Promise<void> {
    const { status, stderr } = await this.tryMount(...more)
    if (status !== 0) throw new Error(`mount ended with ${status}: ${stderr}${this.#lastLog()}`)
  }

  /** Unmounts with nothing owed to the store. */
  async unmount(): Promise<void> {
    await this.done('unmount', this.target)
  }

  async remount(...more: string[]): Promise<void> {
    await this.unmount()
    await this.mount(...more)
  }

  /** What `status --json` prints, asked for without the start of a process: tests wait by it. */
  status(): Promise<StatusReport> {
    return this.ask({ command: 'status' })
  }

  /** A command without the start of a process. */
  async ask<C extends Command>(request: ControlRequest & { readonly command: C }): Promise<Results[C]> {
    return callDaemon<C>(this.#registration(), request)
  }

  /** Waits for a state of the daemon; the report that has it. */
  async until(what: string, condition: (report: StatusReport) => boolean): Promise<StatusReport> {
    let last: StatusReport | undefined
    try {
      return await eventually(what, async () => {
        last = await this.status()
        return condition(last) ? last : undefined
      })
    } catch (error) {
      throw new Error(`${what}: last seen ${JSON.stringify(last)}`, { cause: error })
    }
  }

  /** Waits for something that applications see. */
  async eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
    await eventually(what, condition)
  }

  /** Everything known is in the store and nothing is owed to it. */
  settled(): Promise<StatusReport> {
    return this.until(
      'everything in the store',
      ({ files, outbox }) => files.pending === 0 && files.dirty === 0 && outbox.length === 0,
    )
  }

  /** Moves everything and waits for it; how many files are left. */
  async migrate(): Promise<{ remaining: number }> {
    const report = await callDaemon(this.#registration(), { command: 'migrate', wait: true })
    if (!('remaining' in report)) throw new Error('a migration that was waited for has no report')
    return report
  }

  mode(mode: string): Promise<string> {
    return this.done('mode', this.target, mode)
  }

  /** Kills the worker as a bug or the OOM killer would, and waits until its successor has begun. */
  async killWorker(): Promise<void> {
    const { pid, workerStarts } = await this.status()
    process.kill(pid, 'SIGKILL')
    await this.until('the next worker', (report) => report.workerStarts > workerStarts)
  }

  /** Puts a new worker in place, as an upgrade does; the supervisor counts no deaths before it. */
  async handOver(): Promise<void> {
    const { supervisorPid, workerStarts } = await this.status()
    process.kill(supervisorPid, 'SIGHUP')
    await this.until('the next worker', (report) => report.workerStarts > workerStarts)
  }

  /** Kills supervisor and worker at once: a machine's crash as far as processes go. */
  async killBoth(): Promise<void> {
    const { pid, supervisorPid } = await this.status()
    for (const process_ of [supervisorPid, pid]) process.kill(process_, 'SIGKILL')
    await gone(supervisorPid)
    await gone(pid)
  }

  /** Path of something as applications see it. */
  at(path: string): string {
    return join(this.target, path)
  }

  /** Path of something on the legacy volume. */
  under(path: string): string {
    return join(this.source, path)
  }

  /** Reads a file past the page cache of this mount. */
  async readAnew(path: string, call = this.call): Promise<Buffer> {
    const fd = await call.open(this.at(path), 0)
    try {
      await call.dropCache(fd)
      const parts: Buffer[] = []
      for (;;) {
        const part = await call.read(fd, 1 << 20)
        if (part.length === 0) return Buffer.concat(parts)
        parts.push(Buffer.from(part))
      }
    } finally {
      await call.close(fd)
    }
  }

  /** Runs a program in the mount, in a process that is nobody's but the test's. Rejects unless it ends with 0. */
  run(command: string, ...args: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const child = spawn(command, args, {
        cwd: this.root,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { PATH: process.env.PATH, LC_ALL: 'C' },
      })
      this.watch(child)
      let [stdout, stderr] = ['', '']
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text
      })
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text
      })
      child.once('error', reject)
      child.once('close', (status, signal) =>
        status === 0
          ? resolve(stdout)
          : reject(
              new Error(
                `${command} ${args.join(' ')} ended with ${signal ?? status}: ${stderr.slice(-2000)}`,
              ),
            ),
      )
    })
  }

  /** A process that a test started itself ends with the test. */
  watch({ pid }: ChildProcess): void {
    if (pid !== undefined) this.#remember(pid)
  }

  #registration(): Registration {
    const found = findRegistration(this.#runDir, this.target)
    if (found) return found
    throw new Error(`nothing is mounted at ${this.target}`)
  }

  #remember(pid: number): void {
    const ticks = startTicks(pid)
    if (ticks !== undefined) this.#started.push({ pid, ticks })
  }

  #lastLog(): string {
    try {
      return `\nlog:\n${this.log.slice(-3000)}`
    } catch {
      return ''
    }
  }

  /** Ends every process of this test, unmounts, and removes its directories. */
  async clear(): Promise<void> {
    // Before the agents: what hangs in the mount lets go when the connection ends.
    for (const { pid, ticks } of this.#started) if (isRunning(pid, ticks)) process.kill(pid, 'SIGKILL')
    for (const { pid, ticks } of this.#started)
      await eventually(`the end of process ${pid}`, () => !isRunning(pid, ticks))
    while (mountsOf(this.target).length > 0) await unmountKernel(this.target, { lazy: true })
    for (const agent of this.#agents) await agent.stop()
    const kept = this.#longTurns()
    await this.#surroundings?.remove()
    rmSync(this.root, { recursive: true, force: true })
    if (kept.length > 0) throw new Error(`P6: a worker kept its event loop:\n${kept.join('\n')}`)
  }

  /** Lines of the log that tell of turns of the event loop which nobody may take. */
  #longTurns(): string[] {
    const path = join(this.stateDir, 'daemon.log')
    if (!existsSync(path)) return []
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => {
        if (!line.includes(LONG_TURN)) return false
        const { ms, cpuMs } = JSON.parse(line) as { ms: number; cpuMs: number }
        return cpuMs > TURN_CPU_MS || ms > TURN_MS
      })
  }
}

export function sideBySide(root: string): Places {
  return { source: join(root, 'source'), target: join(root, 'target'), stateDir: join(root, 'state') }
}
