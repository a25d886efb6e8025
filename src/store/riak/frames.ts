/**
 * Riak's framing: 4 bytes of length, then a message code and a body. The client library's own reader throws out of the
 * socket's event handler for bytes that are no frame, and with it ends the process.
 */

export interface Frame {
  readonly code: number
  readonly body: Buffer
}

export class FrameReader {
  #chunks: Buffer[] = []
  #length = 0
  #expected: number | undefined
  readonly #most: () => number

  /** `most`: bytes of the longest frame that can be an answer to what was asked for; none is waited for beyond it. */
  constructor(most: () => number) {
    this.#most = most
  }

  /** Whole frames that `data` completes. @throws Error for a length that no frame has */
  *add(data: Buffer): Generator<Frame> {
    this.#chunks.push(data)
    this.#length += data.length
    for (;;) {
      const frame = this.#next()
      if (frame === undefined) return
      yield frame
    }
  }

  #next(): Frame | undefined {
    if (this.#expected === undefined) {
      if (this.#length < 4) return undefined
      const expected = this.#take(4).readUInt32BE(0)
      const most = this.#most()
      if (expected < 1 || expected > most)
        throw new Error(`a frame of ${expected} bytes, where ${most} are the most`)
      this.#expected = expected
    }
    if (this.#length < this.#expected) return undefined
    const frame = this.#take(this.#expected)
    this.#expected = undefined
    return { code: frame.readUInt8(0), body: frame.subarray(1) }
  }

  /** Copied once, into memory of its own: a small value must not hold on to the whole chunk that it came in. */
  #take(length: number): Buffer {
    const taken = Buffer.allocUnsafeSlow(length)
    let filled = 0
    while (filled < length) {
      const [chunk] = this.#chunks
      if (chunk === undefined) throw new Error('fewer bytes than counted')
      const copied = chunk.copy(taken, filled, 0, length - filled)
      filled += copied
      if (copied === chunk.length) this.#chunks.shift()
      else this.#chunks[0] = chunk.subarray(copied)
    }
    this.#length -= length
    return taken
  }
}
