import { FsError } from '../../base/errors.ts'

/** The bytes of a request are not what its opcode asks for. */
export class ProtocolError extends FsError {
  override readonly name = 'ProtocolError'
}

/** A name, and the value of a small WRITE, are copied out of the request; from here on a WRITE lends its buffer. */
const LEND_FROM = 32 * 1024

const SLASH = 0x2f
const DOT = 0x2e

/**
 * Reads the body of one request from front to back. Every step is checked against the end of the request, so bytes that
 * make no sense end in a ProtocolError and nothing else.
 */
export class Body {
  #bytes: Buffer
  #view: DataView
  #at = 0
  #end = 0
  /** `data` has handed out a view of the request's own buffer. */
  lent = false

  constructor() {
    this.#bytes = Buffer.alloc(0)
    this.#view = new DataView(this.#bytes.buffer)
  }

  /** Starts on a request whose body lies in `bytes` from `start` to `end`; `view` covers the same memory. */
  reset(bytes: Buffer, view: DataView, start: number, end: number): this {
    this.#bytes = bytes
    this.#view = view
    this.#at = start
    this.#end = end
    this.lent = false
    return this
  }

  #take(size: number): number {
    const at = this.#at
    if (size > this.#end - at) {
      throw new ProtocolError('EIO', `request ends ${size - (this.#end - at)} bytes early`)
    }
    this.#at = at + size
    return at
  }

  skip(size: number): void {
    this.#take(size)
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  uint64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true)
  }

  int64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true)
  }

  /** An unsigned 64-bit number; beyond 2^53 it is near enough to be seen as too large. */
  large(): number {
    const at = this.#take(8)
    return this.#view.getUint32(at + 4, true) * 0x1_0000_0000 + this.#view.getUint32(at, true)
  }

  /** Up to the next NUL. @throws ProtocolError if there is none, or nothing before it */
  string(): Buffer {
    const end = this.#bytes.indexOf(0, this.#at)
    if (end < 0 || end >= this.#end) throw new ProtocolError('EINVAL', 'a string does not end')
    if (end === this.#at) throw new ProtocolError('EINVAL', 'a string is empty')
    const text = Buffer.from(this.#bytes.subarray(this.#at, end))
    this.#at = end + 1
    return text
  }

  /** A name in a directory: never one that leads elsewhere. @throws ProtocolError */
  name(): Buffer {
    const name = this.nameOrDots()
    if (name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT))) {
      throw new ProtocolError('EINVAL', 'a name is "." or ".."')
    }
    return name
  }

  /** The same, or "." or "..", by which the kernel looks up a node that it knows by its number (EXPORT_SUPPORT). */
  nameOrDots(): Buffer {
    const name = this.string()
    if (name.includes(SLASH)) throw new ProtocolError('EINVAL', 'a name contains a slash')
    return name
  }

  copy(size: number): Buffer {
    const at = this.#take(size)
    return Buffer.from(this.#bytes.subarray(at, at + size))
  }

  /** Without a copy if large; sets `lent` then. */
  data(size: number): Buffer {
    if (size < LEND_FROM) return this.copy(size)
    const at = this.#take(size)
    this.lent = true
    return this.#bytes.subarray(at, at + size)
  }
}
