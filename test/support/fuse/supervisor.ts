import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const WORKER = fileURLToPath(new URL('./worker.ts', import.meta.url))

interface Told {
  readonly state?: unknown
  readonly served?: number
  readonly resent?: number
  readonly ready?: boolean
  readonly done?: string
  readonly problems?: string[]
}

/** Keeps a connection alive over its workers: holds the descriptor and the state, starts the next when one is gone. */
export class Supervisor {
  readonly #fd: number
  readonly #root: string
  #worker: ChildProcess | undefined
  #state: unknown = null
  #onServed: (served: number) => void = () => {}
  resent = 0
  starts = 0
  readonly problems: string[] = []
  ended: string | undefined

  /** `fd` of /dev/fuse, mounted; `root` is the directory that is served. */
  constructor(fd: number, root: string) {
    this.#fd = fd
    this.#root = root
  }

  /** Starts a worker; resolves when it serves. */
  async start(): Promise<void> {
    this.starts += 1
    const worker = spawn(process.execPath, [WORKER, this.#root], {
      stdio: ['ignore', 'ignore', 'inherit', this.#fd, 'ipc'],
    })
    this.#worker = worker
    const ready = Promise.withResolvers<void>()
    let resentHere = 0
    worker.on('message', (message: Told) => {
      if (message.state !== undefined) this.#state = message.state
      if (message.resent !== undefined) {
        this.resent += message.resent - resentHere
        resentHere = message.resent
      }
      if (message.served !== undefined) this.#onServed(message.served)
      if (message.ready) ready.resolve()
      if (message.done !== undefined) this.ended = message.done
      this.problems.push(...(message.problems ?? []))
    })
    worker.once('exit', () => ready.reject(new Error('the worker ended before it served')))
    worker.send({ state: this.#state })
    await ready.promise
  }

  /** Kills the worker as soon as it has taken so many requests, and starts the next; nothing if `over` comes first. */
  async killAfter(requests: number, over: Promise<unknown>): Promise<void> {
    const worker = this.#worker
    if (!worker) throw new Error('there is no worker')
    const enough = new Promise<'enough'>((resolve) => {
      this.#onServed = (served) => {
        if (served >= requests) resolve('enough')
      }
    })
    const first = await Promise.race([enough, over])
    this.#onServed = () => {}
    if (first !== 'enough') return
    const exit = once(worker, 'exit')
    worker.kill('SIGKILL')
    await exit
    await this.start()
  }

  /** Has the worker stop in an orderly way, and starts the next. */
  async replace(): Promise<void> {
    await this.stop()
    await this.start()
  }

  async stop(): Promise<void> {
    const worker = this.#worker
    if (!worker) return
    const exit = once(worker, 'exit')
    worker.send({ stop: true })
    await exit
  }

  /** Ends whatever still runs. */
  close(): void {
    this.#worker?.kill('SIGKILL')
  }
}
