import { connect, type Socket } from 'node:net'
import { FrameReader } from './frames.ts'
import { decodeMessage, encodeFrame, messageName } from './messages.ts'
import type { PbMessage } from './protobuf.ts'

/** One answer as it came over the wire; `closed` where the connection ended instead. */
export type RawAnswer = { readonly name: string; readonly fields: PbMessage } | { readonly closed: true }

/** A connection that speaks Riak's protocol without any client library, for tests of the simulator itself. */
export class RawClient implements AsyncDisposable {
  readonly #socket: Socket
  readonly #frames = new FrameReader()
  #waiting: ((answer: RawAnswer) => void) | undefined
  #closed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data) => {
      this.#frames.add(data)
      this.#deliver()
    })
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#closed = true
      this.#deliver()
    })
  }

  static connect(port: number, host = '127.0.0.1'): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, host, () => resolve(new RawClient(socket)))
      socket.setNoDelay(true)
      socket.once('error', reject)
    })
  }

  request(name: string, fields: PbMessage = {}): Promise<RawAnswer> {
    this.send(encodeFrame(name, fields))
    return this.answer()
  }

  send(data: Buffer): void {
    this.#socket.write(data)
  }

  /** The next answer, which may have come already. */
  answer(): Promise<RawAnswer> {
    return new Promise((resolve) => {
      this.#waiting = resolve
      this.#deliver()
    })
  }

  #deliver(): void {
    const waiting = this.#waiting
    if (waiting === undefined) return
    const frame = this.#frames.next()
    if (frame !== undefined) {
      const name = messageName(frame.readUInt8(0)) ?? 'unknown'
      this.#waiting = undefined
      waiting({ name, fields: decodeMessage(name, frame.subarray(1)) })
    } else if (this.#closed) {
      this.#waiting = undefined
      waiting({ closed: true })
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) return resolve()
      this.#socket.once('close', () => resolve())
      this.#socket.destroy()
    })
  }
}
