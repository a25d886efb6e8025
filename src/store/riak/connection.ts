import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { authenticate, ERROR_RESPONSE, type RiakCommand, readErrorMessage, startTls } from './client.ts'
import { RiakError, TransportError } from './failures.ts'
import { type Frame, FrameReader } from './frames.ts'
import { describeNode, type NodeAddress, type TlsOptions } from './url.ts'

/** Takes one part of an answer that comes in several. */
type OnPart<T> = (part: T) => void

interface Running {
  readonly mostBytes: number
  accept(frame: Frame): void
  fail(error: Error): void
}

/** After so much silence the kernel asks whether the other side is still there, in milliseconds. */
const KEEP_ALIVE_MS = 15_000

/**
 * One connection to a node, with one request at a time, as Riak wants it. Anything unforeseen on it (an answer that is
 * none, a request given up) ends it: what would come next could be taken for the answer to another request.
 */
export class Connection {
  readonly #node: string
  #socket: Socket
  #frames = this.#newFrames()
  #running: Running | undefined
  #failure: Error | undefined

  private constructor(node: string, socket: Socket) {
    this.#node = node
    this.#socket = socket
    this.#listen()
  }

  /**
   * Connects, and where `tls` is given makes the connection safe and names the user.
   * @throws TransportError with `outcomeUnknown: false`, RiakError
   */
  static async open(
    address: NodeAddress,
    tls: TlsOptions | undefined,
    signal: AbortSignal,
  ): Promise<Connection> {
    const node = describeNode(address)
    const socket = connect({ host: address.host, port: address.port, noDelay: true })
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    await settled(node, socket, 'connect', signal)
    const connection = new Connection(node, socket)
    if (tls === undefined) return connection
    try {
      await connection.run(startTls(), signal)
      await connection.#secure(address, tls, signal)
      await connection.run(authenticate(tls.user, tls.password), signal)
      return connection
    } catch (error) {
      connection.destroy()
      throw error
    }
  }

  get usable(): boolean {
    return this.#failure === undefined && this.#running === undefined
  }

  /** The answer, or its last part. @throws RiakError, TransportError; the reason of `signal` if that ends it */
  run<T>(command: RiakCommand<T>, signal: AbortSignal, onPart?: OnPart<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure)
      const end = (): void => {
        this.#running = undefined
        signal.removeEventListener('abort', abort)
      }
      const fail = (error: Error): void => {
        end()
        reject(error)
      }
      const abort = (): void => this.#fail(asError(signal.reason))
      this.#running = {
        mostBytes: command.mostBytes,
        fail,
        accept: (frame) => {
          const answer = this.#read(command, frame)
          if (!answer.done) return onPart?.(answer.value)
          end()
          resolve(answer.value)
        },
      }
      signal.addEventListener('abort', abort, { once: true })
      if (signal.aborted) return abort()
      this.#socket.cork()
      for (const part of command.parts) this.#socket.write(part)
      this.#socket.uncork()
    })
  }

  /** Stops and goes on with reading, for answers in more parts than the reader can take at once. */
  hold(held: boolean): void {
    if (held) this.#socket.pause()
    else this.#socket.resume()
  }

  /** What nobody asked for is read no further than its length. */
  #newFrames(): FrameReader {
    return new FrameReader(() => this.#running?.mostBytes ?? 0)
  }

  destroy(): void {
    this.#fail(new TransportError(`${this.#node}: the connection was given up`, { nodeIsIll: false }))
  }

  #read<T>(command: RiakCommand<T>, frame: Frame): { readonly value: T; readonly done: boolean } {
    if (frame.code === ERROR_RESPONSE) throw new RiakError(this.#node, readErrorMessage(frame.body))
    if (frame.code !== command.responseCode) {
      throw new Error(`message ${frame.code} where ${command.responseCode} belongs`)
    }
    return command.read(frame.body)
  }

  #listen(): void {
    const socket = this.#socket
    socket.on('data', (data) => this.#received(data))
    socket.on('error', (error) => this.#fail(this.#lost(error)))
    socket.on('close', () => this.#fail(this.#lost(undefined)))
  }

  #lost(cause: Error | undefined): TransportError {
    const why = cause === undefined ? 'closed the connection' : `failed: ${cause.message}`
    return new TransportError(`${this.#node} ${why} before it had answered`, {}, { cause })
  }

  #received(data: Buffer): void {
    try {
      for (const frame of this.#frames.add(data)) {
        if (this.#running === undefined) throw new Error('an answer that nobody asked for')
        this.#accept(this.#running, frame)
      }
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      this.#fail(new TransportError(`${this.#node} sent what is no answer: ${text}`, {}, { cause: error }))
    }
  }

  /** An error that Riak reports ends the request, not the connection. */
  #accept(running: Running, frame: Frame): void {
    try {
      running.accept(frame)
    } catch (error) {
      if (!(error instanceof RiakError)) throw error
      running.fail(error)
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error
    // Destroyed, not ended: a peer that is gone would keep the socket half open, and the process alive.
    this.#socket.destroy()
    this.#running?.fail(error)
  }

  /** The handshake. Unlike the client library's it verifies who the server is, before the password goes out. */
  async #secure({ host }: NodeAddress, tls: TlsOptions, signal: AbortSignal): Promise<void> {
    const plain = this.#socket
    plain.removeAllListeners('data')
    this.#frames = this.#newFrames()
    const socket = connectTls({
      socket: plain,
      // A name to verify; SNI takes no addresses.
      host,
      ...(isIP(host) === 0 && { servername: host }),
      ...(tls.ca !== undefined && { ca: tls.ca }),
      ...(tls.cert !== undefined && { cert: tls.cert }),
      ...(tls.key !== undefined && { key: tls.key }),
    })
    await settled(this.#node, socket, 'secureConnect', signal)
    this.#socket = socket
    this.#listen()
  }
}

/** Waits until the socket is there. @throws TransportError: nothing was sent */
function settled(
  node: string,
  socket: Socket,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      socket.off(event, done)
      socket.off('error', fail)
      socket.off('close', closed)
      signal.removeEventListener('abort', abort)
    }
    const done = (): void => {
      end()
      resolve()
    }
    const fail = (error: Error): void => {
      end()
      // A late error of a socket that is given up has nobody left to care.
      socket.on('error', () => undefined)
      socket.destroy()
      const verb = event === 'connect' ? 'cannot be reached' : 'gives no safe connection'
      reject(TransportError.unsent(`${node} ${verb}: ${error.message}`, { cause: error }))
    }
    const closed = (): void => fail(new Error('closed'))
    const abort = (): void => fail(asError(signal.reason))
    socket.once(event, done)
    socket.once('error', fail)
    socket.once('close', closed)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
  })
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason))
}
