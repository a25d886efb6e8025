import type { Socket } from 'node:net'

/**
 * What passes over a connection once it is one to the tree: u32 length of the rest, u32 length of a header, both little endian, the
 * header as JSON, and bytes that belong to it (a chunk, a name).
 */
export interface TreeFrame {
  readonly header: unknown
  readonly body: Buffer
}

// A page of names with the largest extended attributes, and more.
const MAX_FRAME_BYTES = 16 * 1024 * 1024
const PREFIX_BYTES = 8

function encodeFrame(header: unknown, body: Buffer = Buffer.alloc(0)): Buffer[] {
  const text = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(PREFIX_BYTES)
  prefix.writeUInt32LE(4 + text.length + body.length)
  prefix.writeUInt32LE(text.length, 4)
  return [prefix, text, body]
}

/** Sends a frame in one piece. */
export function sendFrame(socket: Socket, header: unknown, body?: Buffer): void {
  if (!socket.writable) return
  socket.cork()
  for (const part of encodeFrame(header, body)) if (part.length > 0) socket.write(part)
  socket.uncork()
}

/** Puts frames together from what comes in. */
export class FrameParser {
  readonly #parts: Buffer[] = []
  #length = 0

  /** The frames that are complete now. @throws Error for what is no frame */
  push(bytes: Buffer): TreeFrame[] {
    this.#parts.push(bytes)
    this.#length += bytes.length
    const frames: TreeFrame[] = []
    for (let frame = this.#take(); frame; frame = this.#take()) frames.push(frame)
    return frames
  }

  #take(): TreeFrame | undefined {
    if (this.#length < PREFIX_BYTES) return undefined
    const rest = this.#peek(PREFIX_BYTES).readUInt32LE(0)
    if (rest < 4 || rest > MAX_FRAME_BYTES) throw new Error(`a frame of ${rest} bytes`)
    if (this.#length < 4 + rest) return undefined
    const frame = this.#peek(4 + rest)
    const header = frame.readUInt32LE(4)
    if (header > rest - 4) throw new Error('a frame that is shorter than its header')
    this.#drop(frame.length)
    const end = PREFIX_BYTES + header
    return { header: JSON.parse(frame.toString('utf8', PREFIX_BYTES, end)), body: frame.subarray(end) }
  }

  /** The first bytes of what has come, in one piece. */
  #peek(length: number): Buffer {
    const [first] = this.#parts
    if (first && first.length >= length) return first.subarray(0, length)
    const all = Buffer.concat(this.#parts)
    this.#parts.splice(0, this.#parts.length, all)
    return all.subarray(0, length)
  }

  #drop(length: number): void {
    const [first] = this.#parts
    this.#length -= length
    if (!first) return
    if (first.length === length) this.#parts.shift()
    else this.#parts[0] = first.subarray(length)
  }
}
