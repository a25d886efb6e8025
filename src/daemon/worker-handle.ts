import { type ChildProcess, spawn } from 'node:child_process'
import { onLines } from './lines.ts'
import { type FromWorker, isFromWorker, PROTOCOL, type StartMessage, type ToWorker } from './messages.ts'
import { HEAP_ENVIRONMENT, HEAP_FLAGS, NODE_FLAGS } from './process.ts'

export interface WorkerOptions {
  readonly file: string
  /** The descriptor that the worker gets as `CONNECTION_FD`. */
  readonly connection: number | undefined
  readonly onMessage: (message: FromWorker) => void
  /** One line of the worker's log, or (`isRecord` false) of what Node or a library says past it. */
  readonly onOutput: (line: string, isRecord: boolean) => void
  /** How often a serving worker is asked whether it lives, 5 s unless given. */
  readonly pingEveryMs?: number
}

export interface StartFailure {
  readonly message: string
  readonly exitStatus: number
}

// Threads of the worker's libuv pool: reads of /dev/fuse block some for good, file and DNS work needs the others. To be
// set before the pool's first use, so in the environment.
const THREAD_POOL_SIZE = '32'

// A worker that leaves so many questions in a row unanswered hangs; it is killed, so that the next one serves its callers
// (P6). Counted, not timed: a machine that was suspended has missed one, not all of them.
const PING_EVERY_MS = 5_000
const UNANSWERED_PINGS = 12

// Characters of a log line.
const MAX_LINE = 64 * 1024

/** A worker process as the supervisor sees it. */
export class WorkerHandle {
  readonly pid: number | undefined
  /** False if it ended, or speaks another protocol, instead of loading. */
  readonly loaded: Promise<boolean>
  /** True once it serves; false if it ended instead. */
  readonly ready: Promise<boolean>
  /** How it ended, in words. */
  readonly exited: Promise<string>
  readonly #child: ChildProcess
  #startedAt = 0
  #failure: StartFailure | undefined
  #finished = false
  #served = false
  #running = true
  #killTimer: NodeJS.Timeout | undefined
  #pingTimer: NodeJS.Timeout | undefined
  #unanswered = 0

  constructor(options: WorkerOptions) {
    const child = spawn(process.execPath, [...NODE_FLAGS, ...HEAP_FLAGS, options.file], {
      cwd: '/',
      env: { ...HEAP_ENVIRONMENT, ...process.env, UV_THREADPOOL_SIZE: THREAD_POOL_SIZE },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc', options.connection ?? 'ignore'],
    })
    this.#child = child
    this.pid = child.pid
    const loaded = Promise.withResolvers<boolean>()
    const ready = Promise.withResolvers<boolean>()
    const exited = Promise.withResolvers<string>()
    this.loaded = loaded.promise
    this.ready = ready.promise
    this.exited = exited.promise
    const ended = (how: string): void => {
      this.#running = false
      clearTimeout(this.#killTimer)
      clearInterval(this.#pingTimer)
      loaded.resolve(false)
      ready.resolve(false)
      exited.resolve(how)
    }
    child.once('exit', (code, signal) => ended(signal ? `killed by ${signal}` : `exit status ${code}`))
    child.on('error', (error) => {
      // Of spawn; an error of send or kill means that the process is about to report its end.
      if (child.pid === undefined) ended(`not started: ${error.message}`)
    })
    child.on('message', (message: unknown) => {
      if (!isFromWorker(message)) return
      if (message.type === 'loaded') loaded.resolve(message.protocol === PROTOCOL)
      else if (message.type === 'pong') this.#unanswered = 0
      else if (message.type === 'ready') {
        ready.resolve(true)
        this.#served = true
        this.#pingTimer = setInterval(() => this.#ping(), options.pingEveryMs ?? PING_EVERY_MS)
      } else if (message.type === 'failed') this.#failure = message
      else if (message.type === 'finished') this.#finished = true
      else options.onMessage(message)
    })
    // Only the log is written to standard output. What is said elsewhere may have a line in it that looks like one of the log.
    if (child.stdout) onLines(child.stdout, MAX_LINE, (line) => options.onOutput(line, true))
    if (child.stderr) onLines(child.stderr, MAX_LINE, (line) => options.onOutput(line, false))
  }

  get running(): boolean {
    return this.#running
  }

  /** Why it could not start to serve, if it said so. */
  get failure(): StartFailure | undefined {
    return this.#failure
  }

  /** It came as far as serving. */
  get served(): boolean {
    return this.#served
  }

  /** It ended because it was told to, with everything done. */
  get finished(): boolean {
    return this.#finished
  }

  /** Milliseconds since it was told to start. */
  get age(): number {
    return this.#startedAt === 0 ? 0 : performance.now() - this.#startedAt
  }

  start(message: StartMessage): void {
    this.#startedAt = performance.now()
    this.send(message)
  }

  send(message: ToWorker): void {
    // A worker that is gone does not read it; its end is reported by `exited`.
    if (this.#child.connected) this.#child.send(message, () => undefined)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  /** Kills it unless it has ended by then. A later bound replaces an earlier one. */
  killAfter(milliseconds: number): void {
    if (!this.#running) return
    clearTimeout(this.#killTimer)
    this.#killTimer = setTimeout(() => this.kill(), milliseconds)
  }

  #ping(): void {
    this.#unanswered += 1
    if (this.#unanswered > UNANSWERED_PINGS) this.kill()
    else this.send({ type: 'ping' })
  }
}
