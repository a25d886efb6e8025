import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Bulk } from './bulk.ts'
import { SyscallError } from './libc.ts'
import type { Posix } from './posix.ts'

/** Whom an agent acts for. */
export interface Identity {
  readonly uid: number
  readonly gid: number
  /** Supplementary groups. */
  readonly groups: readonly number[]
}

/** How long a killed process may take to go, in milliseconds. */
const UNKILLABLE_MS = 2_000

type Operations = Posix & Bulk

/** The operations of posix.ts and bulk.ts, carried out by another process. */
export type Remote = {
  readonly [Name in keyof Operations]: Operations[Name] extends (...values: infer Values) => infer Result
    ? (...values: Values) => Promise<Awaited<Result>>
    : never
}

interface Pending {
  readonly operation: string
  resolve(value: unknown): void
  reject(error: Error): void
}

interface Failure {
  readonly message: string
  readonly code?: string
  readonly syscall?: string
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly failure?: Failure
}

function isAnswer(message: unknown): message is Answer {
  return typeof message === 'object' && message !== null && 'id' in message
}

/**
 * A child process that makes system calls for a test, as one user. It starts on the first call, and again on the first
 * call after it died (a signal for a fault in mapped memory, `kill` for a file system that hangs): what it had in hand
 * fails then with an error that says so.
 */
export class Agent {
  readonly name: string
  readonly identity: Identity | null
  readonly call: Remote
  #child: ChildProcess | undefined
  #ready: Promise<unknown> | undefined
  #calls = 0
  #stopped = false
  readonly #pending = new Map<number, Pending>()

  /** Without an identity the agent stays the user that runs the tests. */
  constructor(name: string, identity: Identity | null) {
    this.name = name
    this.identity = identity
    this.call = new Proxy({} as Remote, {
      get: (_, operation) => {
        const caller = (...values: unknown[]) => {
          // The error is made elsewhere and later; what helps is where the call came from.
          const origin = { stack: '' }
          Error.captureStackTrace(origin, caller)
          return this.#request(String(operation), values).catch((error: unknown) => {
            const where = origin.stack.slice(origin.stack.indexOf('\n'))
            if (error instanceof Error) error.stack = `${error.name}: ${error.message}${where}`
            throw error
          })
        }
        return caller
      },
    })
  }

  get running(): boolean {
    return this.#child !== undefined
  }

  /** Process id; starts the agent. */
  async pid(): Promise<number> {
    const { pid } = await this.#start()
    return pid ?? -1
  }

  /** Ends the process at once; calls in hand fail. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    this.#gone(child, 'killed')
    // A process inside a request that a file system server has read cannot die before the answer: it is left behind.
    const bound = new AbortController()
    await Promise.race([exit, setTimeout(UNKILLABLE_MS, undefined, { signal: bound.signal })])
    bound.abort()
    if (child.exitCode !== null || child.signalCode !== null) return
    child.disconnect()
    child.unref()
  }

  #gone(child: ChildProcess, how: string): void {
    if (this.#child !== child) return
    this.#child = undefined
    for (const { operation, reject } of this.#pending.values()) {
      reject(new Error(`agent ${this.name} ended (${how}) during ${operation}`))
    }
    this.#pending.clear()
  }

  /** Ends the process for good: by its own will where it has nothing in hand, else by force. */
  async stop(): Promise<void> {
    this.#stopped = true
    const child = this.#child
    if (child === undefined) return
    if (this.#pending.size > 0 || !child.connected) return this.kill()
    const exit = once(child, 'exit')
    child.disconnect()
    await exit
  }

  async #start(): Promise<ChildProcess> {
    if (this.#child !== undefined) {
      await this.#ready
      return this.#child
    }
    if (this.#stopped) throw new Error(`agent ${this.name} was stopped`)
    const main = fileURLToPath(new URL('./agent-main.ts', import.meta.url))
    const child = fork(main, [JSON.stringify(this.identity)], {
      cwd: '/',
      execArgv: ['--disable-warning=ExperimentalWarning'],
      env: { PATH: process.env.PATH },
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#child = child
    // An agent that a hanging file system holds does not notice that its parent is gone.
    const end = () => child.kill('SIGKILL')
    process.once('exit', end)
    child.once('exit', () => process.off('exit', end))
    child.on('message', (message) => this.#settle(message))
    child.on('exit', (status, signal) => this.#gone(child, signal ?? `status ${status}`))
    this.#ready = Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => Promise.reject(new Error(`agent ${this.name} did not start`))),
    ])
    await this.#ready
    return child
  }

  async #request(operation: string, values: unknown[]): Promise<unknown> {
    const child = await this.#start()
    this.#calls += 1
    const id = this.#calls
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { operation, resolve, reject })
      child.send({ id, operation, values }, (error) => {
        if (error === null) return
        this.#pending.delete(id)
        reject(new Error(`agent ${this.name} takes no calls`, { cause: error }))
      })
    })
  }

  #settle(message: unknown): void {
    if (!isAnswer(message)) return
    const pending = this.#pending.get(message.id)
    if (pending === undefined) return
    this.#pending.delete(message.id)
    if (message.failure === undefined) pending.resolve(message.value)
    else pending.reject(this.#error(message.failure))
  }

  #error({ code, syscall, message }: Failure): Error {
    if (code === undefined || syscall === undefined) return new Error(`agent ${this.name}: ${message}`)
    // The text is "call(detail): code" already.
    const detail = message.slice(syscall.length + 1, message.lastIndexOf('): '))
    return new SyscallError(syscall, code, `${this.name}: ${detail}`)
  }
}
