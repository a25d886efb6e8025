import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { z } from 'zod'
import { reasonOf } from '../base/errors.ts'
import {
  type ControlRequest,
  type Frame,
  MAX_REQUEST_BYTES,
  requestSchema,
  SIGN_OF_LIFE_MS,
} from './control-protocol.ts'
import type { LongRunning } from './engine.ts'
import { EXIT, exitStatusOf } from './exit-status.ts'

/** Carries a request out. `run.signal` is aborted when whoever asked has gone. */
export type ControlHandler = (request: ControlRequest, run: LongRunning) => Promise<unknown>

// A client that reads slower than progress comes loses progress, not this process's memory (P6).
const MAX_UNSENT_BYTES = 64 * 1024

/** Answers the commands of this mount on a Unix socket that only its owner may connect to. */
export class ControlServer {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server) {
    this.#server = server
  }

  /**
   * Listens in the place of a predecessor that was killed.
   * @throws the listener's error
   */
  static async listen(path: string, handler: ControlHandler): Promise<ControlServer> {
    rmSync(path, { force: true })
    const server = createServer()
    const control = new ControlServer(server)
    server.on('connection', (socket) => control.#converse(socket, handler))
    // The socket's file is made by bind(2) with the umask of that moment.
    const previous = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(path, resolve)
      })
    } finally {
      process.umask(previous)
    }
    return control
  }

  /** Takes no more connections, ends those there are once what was written has been sent. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const socket of this.#sockets) socket.end(() => socket.destroy())
    await closed
  }

  #converse(socket: Socket, handler: ControlHandler): void {
    this.#sockets.add(socket)
    const gone = new AbortController()
    let text = ''
    let asked = false
    socket.setEncoding('utf8')
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#sockets.delete(socket)
      gone.abort(new Error('the client has gone'))
    })
    socket.on('data', (part: string) => {
      if (asked) return
      text += part
      const end = text.indexOf('\n')
      if (end === -1 && text.length <= MAX_REQUEST_BYTES) return
      asked = true
      void this.#serve(socket, end === -1 ? '' : text.slice(0, end), handler, gone.signal)
    })
  }

  async #serve(socket: Socket, line: string, handler: ControlHandler, signal: AbortSignal): Promise<void> {
    const send = (frame: Frame): void => {
      if (socket.writable) socket.write(`${JSON.stringify(frame)}\n`)
    }
    const pulse = setInterval(() => send({ alive: true }), SIGN_OF_LIFE_MS)
    try {
      const request = parseRequest(line)
      const onProgress: LongRunning['onProgress'] = (progress) => {
        if (socket.writableLength < MAX_UNSENT_BYTES) send({ progress })
      }
      send({ result: await handler(request, { onProgress, signal }) })
    } catch (error) {
      const code =
        error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
      send({ error: { message: reasonOf(error), exitStatus: exitStatusOf(error), code } })
    } finally {
      clearInterval(pulse)
      socket.end()
    }
  }
}

function parseRequest(line: string): ControlRequest {
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    throw new BadRequest('the request is not one line of JSON')
  }
  const result = requestSchema.safeParse(parsed)
  if (result.success) return result.data
  throw new BadRequest(
    `the request is not understood: ${z.prettifyError(result.error).replaceAll('\n', ' ')}`,
  )
}

class BadRequest extends Error {
  readonly exitStatus = EXIT.usage
}
