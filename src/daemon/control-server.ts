import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { z } from 'zod'
import { reasonOf } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import type { SourceTree } from '../migration/index.ts'
import {
  type ControlRequest,
  type Frame,
  MAX_REQUEST_BYTES,
  requestSchema,
  SIGN_OF_LIFE_MS,
} from './control-protocol.ts'
import type { LongRunning } from './engine.ts'
import { EXIT, exitStatusOf } from './exit-status.ts'
import { serveTree } from './tree-server.ts'

type Carried = Exclude<ControlRequest, { command: 'tree' }>

export interface ControlHandler {
  /** Carries a request out. `run.signal` is aborted when whoever asked has gone. */
  carryOut(request: Carried, run: LongRunning): Promise<unknown>
  /** What a connection that asks for the tree is served from. */
  tree(): Promise<SourceTree>
}

// A client that reads slower than progress comes loses progress, not this process's memory (P6).
const MAX_UNSENT_BYTES = 64 * 1024
const LINE_FEED = 0x0a

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
    let text = Buffer.alloc(0)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#sockets.delete(socket)
      gone.abort(new Error('the client has gone'))
    })
    const take = (part: Buffer): void => {
      text = Buffer.concat([text, part])
      const end = text.indexOf(LINE_FEED)
      if (end === -1 && text.length <= MAX_REQUEST_BYTES) return
      socket.off('data', take)
      // What follows a request is nobody's business, but the end of the connection is.
      socket.resume()
      void this.#serve(socket, end === -1 ? '' : text.toString('utf8', 0, end), handler, gone.signal)
    }
    socket.on('data', take)
  }

  async #serve(socket: Socket, line: string, handler: ControlHandler, signal: AbortSignal): Promise<void> {
    const send = (frame: Frame): void => {
      if (socket.writable) socket.write(`${JSON.stringify(frame)}\n`)
    }
    const pulse = setInterval(() => send({ alive: true }), SIGN_OF_LIFE_MS)
    let isOver = true
    try {
      const request = parseRequest(line)
      if (request.command === 'tree') {
        const tree = await handler.tree()
        send({ result: {} })
        serveTree(socket, tree)
        isOver = false
        return
      }
      const onProgress: LongRunning['onProgress'] = (progress) => {
        if (socket.writableLength < MAX_UNSENT_BYTES) send({ progress })
      }
      const carry = () => handler.carryOut(request, { onProgress, signal })
      send({ result: await within(`the command '${request.command}'`, carry) })
    } catch (error) {
      const code =
        error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
      send({ error: { message: reasonOf(error), exitStatus: exitStatusOf(error), code } })
    } finally {
      clearInterval(pulse)
      if (isOver) socket.end()
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
