import type { Logger } from 'pino'
import type { Attachment, Connection, StateNames } from './connection.ts'
import { CONNECTION_FD, type FromWorker, type StartMessage, type ToWorker } from './messages.ts'

type Reply = Extract<ToWorker, { type: 'reply' }>

/** A request was refused by the supervisor, with the errno's name where it said one. */
class SupervisorError extends Error {
  readonly code: string | undefined

  constructor(message: string, code: string | undefined) {
    super(message)
    this.name = 'SupervisorError'
    this.code = code
  }
}

/** The worker's end of the channel to its supervisor. */
export class WorkerConnection implements Connection {
  readonly supervisorPid: number
  readonly workerStarts: number
  readonly startedAt: string
  readonly takesOver: boolean
  readonly held: ReadonlyMap<string, string>
  readonly notes: string | undefined
  readonly log: Logger
  /** Resolves when the kernel has closed the connection. */
  readonly whenClosed: Promise<void>
  readonly #hasConnection: boolean
  readonly #send: (message: FromWorker) => void
  readonly #closed = Promise.withResolvers<void>()
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>()
  #requests = 0

  constructor(start: StartMessage, log: Logger, send: (message: FromWorker) => void) {
    this.supervisorPid = start.supervisorPid
    this.workerStarts = start.workerStarts
    this.startedAt = start.startedAt
    this.takesOver = start.takesOver
    this.held = new Map(Object.entries(start.held))
    this.notes = start.notes
    this.log = log
    this.whenClosed = this.#closed.promise
    this.#hasConnection = start.hasConnection
    this.#send = send
  }

  async attach(names: StateNames): Promise<Attachment> {
    const value = await this.#ask((request) => ({ type: 'attach', request, names }))
    const answer: { readonly state?: unknown; readonly flags?: unknown } =
      typeof value === 'object' && value !== null ? value : {}
    const flags = Array.isArray(answer.flags) ? answer.flags.map(String) : []
    return { fd: this.#hasConnection ? CONNECTION_FD : undefined, state: answer.state ?? undefined, flags }
  }

  useSource(used: boolean): void {
    this.#send({ type: 'source', used })
  }

  saveState(state: unknown): void {
    this.#send({ type: 'state', state })
  }

  closed(): void {
    this.#send({ type: 'closed' })
    this.#closed.resolve()
  }

  async hold(id: string, fd: number): Promise<void> {
    const path = `/proc/${process.pid}/fd/${fd}`
    await this.#ask((request) => ({ type: 'hold', request, id, path }))
  }

  drop(id: string): void {
    this.#send({ type: 'drop', id })
  }

  /** @throws SupervisorError with code EBUSY while the mount is in use */
  async unmount(lazy: boolean): Promise<void> {
    await this.#ask((request) => ({ type: 'unmount', request, lazy }))
  }

  receive(reply: Reply): void {
    const waiting = this.#waiting.get(reply.request)
    this.#waiting.delete(reply.request)
    if (reply.error) waiting?.reject(new SupervisorError(reply.error.message, reply.error.code))
    else waiting?.resolve(reply.value)
  }

  #ask(message: (request: number) => FromWorker): Promise<unknown> {
    this.#requests += 1
    const answer = Promise.withResolvers<unknown>()
    this.#waiting.set(this.#requests, answer)
    this.#send(message(this.#requests))
    return answer.promise
  }
}
