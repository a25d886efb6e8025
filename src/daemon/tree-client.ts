import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { z } from 'zod'
import {
  type FileRef,
  type FileState,
  SourceError,
  type SourceTree,
  type TreeFile,
  type TreeTotals,
} from '../migration/index.ts'
import { SILENCE_MS } from './control-protocol.ts'
import { type Registration, supervisorAlive } from './registry.ts'
import { LOG_FILE } from './state-dir.ts'
import { FrameParser, sendFrame, type TreeFrame } from './tree-frames.ts'
import {
  receivedChunks,
  receivedEntry,
  receivedFile,
  sentReference,
  sentState,
  type TreeRequest,
  treeAnswerSchema,
  treeValues,
} from './tree-messages.ts'

// Between two tries to reach a worker that is being replaced.
const RETRY_MS = 100
const LINE_FEED = 0x0a
const MAX_LINE_BYTES = 64 * 1024

type Op = TreeRequest['op']
type Question = { [O in Op]: Omit<Extract<TreeRequest, { op: O }>, 'id'> }[Op]
interface Answer {
  readonly value: unknown
  readonly body: Buffer
}

/** The connection broke off: the worker died, is just starting, or hangs. The next one answers the same question. */
class ConnectionLost extends Error {}

/** The tree that a daemon serves, read through it, across restarts of its worker. */
export class DaemonTree implements SourceTree {
  readonly #registration: Registration
  readonly #silenceMs: number
  #connecting: Promise<TreeConnection> | undefined
  #heardAt = performance.now()
  #closed = false

  constructor(registration: Registration, silenceMs = SILENCE_MS) {
    this.#registration = registration
    this.#silenceMs = silenceMs
  }

  totals(): Promise<TreeTotals> {
    return this.#value({ op: 'totals' }, treeValues.totals)
  }

  async root(): Promise<TreeFile> {
    return receivedFile(await this.#value({ op: 'root' }, treeValues.root))
  }

  async list(directory: FileRef, from?: string): ReturnType<SourceTree['list']> {
    const question = { op: 'list', directory: sentReference(directory), from } as const
    const { entries, next } = await this.#value(question, treeValues.list)
    return { entries: entries.map(receivedEntry), next }
  }

  async look(directory: FileRef, name: Buffer): ReturnType<SourceTree['look']> {
    const question = { op: 'look', directory: sentReference(directory) } as const
    const entry = await this.#value(question, treeValues.look, name)
    return entry === null ? undefined : receivedEntry(entry)
  }

  async chunks(file: FileState, from: number): ReturnType<SourceTree['chunks']> {
    const question = { op: 'chunks', file: sentState(file), from } as const
    const { chunks, next } = await this.#value(question, treeValues.chunks)
    return { chunks: receivedChunks(chunks), next }
  }

  async read(file: FileState, index: number): Promise<Buffer> {
    return (await this.#ask({ op: 'read', file: sentState(file), index })).body
  }

  async stamp(file: FileRef): Promise<string | undefined> {
    return (await this.#value({ op: 'stamp', file: sentReference(file) }, treeValues.stamp)) ?? undefined
  }

  async ping(): Promise<void> {
    await this.#value({ op: 'ping' }, treeValues.ping)
  }

  async close(): Promise<void> {
    this.#closed = true
    const connection = await this.#connecting?.catch(() => undefined)
    connection?.close()
  }

  async #value<T>(question: Question, schema: z.ZodType<T>, body?: Buffer): Promise<T> {
    const { value } = await this.#ask(question, body)
    const parsed = schema.safeParse(value)
    if (parsed.success) return parsed.data
    throw new SourceError(
      'gone',
      `the daemon of ${this.#registration.target} answers in another format; use the ferryfs that runs there`,
    )
  }

  async #ask(question: Question, body?: Buffer): Promise<Answer> {
    for (;;) {
      try {
        const connection = await this.#connected()
        return await connection.ask(question, body)
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error
        this.#requireDaemon(error)
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }

  #connected(): Promise<TreeConnection> {
    if (this.#connecting) return this.#connecting
    const connecting = TreeConnection.open(this.#registration.socket, {
      silenceMs: this.#silenceMs,
      onHeard: () => {
        this.#heardAt = performance.now()
      },
      onLost: () => {
        if (this.#connecting === connecting) this.#connecting = undefined
      },
    })
    this.#connecting = connecting
    return connecting
  }

  /** @throws SourceError if nobody will answer any more */
  #requireDaemon(lost: ConnectionLost): void {
    const { target, stateDir, supervisorPid } = this.#registration
    if (this.#closed) throw new SourceError('gone', 'the restore is over')
    if (!supervisorAlive(this.#registration)) {
      throw new SourceError(
        'gone',
        `the ferryfs daemon of ${target} is gone (it was process ${supervisorPid}); ` +
          `"ferryfs restore --state-dir ${stateDir} DEST" goes on without it`,
      )
    }
    if (performance.now() - this.#heardAt < this.#silenceMs) return
    throw new SourceError(
      'gone',
      `the ferryfs daemon of ${target} (process ${supervisorPid}) did not answer: ${lost.message}; ` +
        `see ${join(stateDir, LOG_FILE)}`,
    )
  }
}

interface Listener {
  readonly silenceMs: number
  readonly onHeard: () => void
  readonly onLost: () => void
}

/** One connection to one worker. */
class TreeConnection {
  readonly #socket: Socket
  readonly #parser = new FrameParser()
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>()
  #last = 0
  #lost: ConnectionLost | undefined

  private constructor(socket: Socket, { onHeard, onLost }: Listener) {
    this.#socket = socket
    socket.removeAllListeners('data')
    socket.on('data', (bytes) => {
      onHeard()
      this.#take(bytes)
    })
    socket.once('close', () => {
      this.#fail(new ConnectionLost('the connection was closed'))
      onLost()
    })
  }

  /** @throws ConnectionLost, SourceError */
  static open(path: string, listener: Listener): Promise<TreeConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      let text = Buffer.alloc(0)
      const lost = (message: string): void => {
        reject(new ConnectionLost(message))
        socket.destroy()
      }
      socket.setTimeout(listener.silenceMs, () => {
        socket.destroy(new Error(`nothing heard for ${listener.silenceMs} ms`))
      })
      socket.once('connect', () => socket.write('{"command":"tree"}\n'))
      socket.on('error', (error: NodeJS.ErrnoException) => {
        const refused = error.code === 'EACCES' || error.code === 'EPERM'
        if (refused) reject(new SourceError('gone', `${path}: not permitted; be the user who mounted it`))
        else lost(error.message)
      })
      socket.once('close', () => {
        lost('the connection was closed')
        listener.onLost()
      })
      // Until the worker serves it says in lines that it lives.
      socket.on('data', (bytes) => {
        listener.onHeard()
        text = Buffer.concat([text, bytes])
        for (let end = text.indexOf(LINE_FEED); end >= 0; end = text.indexOf(LINE_FEED)) {
          const line = text.toString('utf8', 0, end)
          text = text.subarray(end + 1)
          const said = parseLine(line)
          if (said === 'alive') continue
          if (said instanceof SourceError) {
            reject(said)
            socket.destroy()
            return
          }
          const connection = new TreeConnection(socket, listener)
          resolve(connection)
          connection.#take(text)
          return
        }
        if (text.length > MAX_LINE_BYTES) lost('a line that is no answer')
      })
    })
  }

  ask(question: Question, body?: Buffer): Promise<Answer> {
    if (this.#lost) return Promise.reject(this.#lost)
    this.#last += 1
    const id = this.#last
    const answer = Promise.withResolvers<Answer>()
    this.#waiting.set(id, answer)
    sendFrame(this.#socket, { id, ...question }, body)
    return answer.promise
  }

  close(): void {
    this.#socket.destroy()
  }

  #take(bytes: Buffer): void {
    try {
      for (const frame of this.#parser.push(bytes)) this.#settle(frame)
    } catch {
      this.#fail(new ConnectionLost('an answer that is none'))
      this.#socket.destroy()
    }
  }

  #settle({ header, body }: TreeFrame): void {
    const answer = treeAnswerSchema.parse(header)
    if ('alive' in answer) return
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if ('error' in answer) waiting?.reject(new SourceError(answer.error.kind, answer.error.message))
    // The parser's buffer is used again.
    else waiting?.resolve({ value: answer.value, body: Buffer.from(body) })
  }

  #fail(lost: ConnectionLost): void {
    this.#lost ??= lost
    for (const { reject } of this.#waiting.values()) reject(this.#lost)
    this.#waiting.clear()
  }
}

/** What a worker says before it serves the tree. */
function parseLine(line: string): 'alive' | 'ready' | SourceError {
  try {
    const frame: { result?: unknown; error?: { message?: unknown } } = JSON.parse(line)
    if (frame.error) return new SourceError('gone', String(frame.error.message))
    return frame.result === undefined ? 'alive' : 'ready'
  } catch {
    // Half a line of a worker that was killed while it wrote.
    return 'alive'
  }
}
