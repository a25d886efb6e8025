/** Cuts a stream of bytes into frames: 4 bytes of length, then as many bytes, of which the first is the message code. */
export class FrameReader {
  #chunks: Buffer[] = []
  #length = 0

  add(data: Buffer): void {
    this.#chunks.push(data)
    this.#length += data.length
  }

  /** The next whole frame without its length, an empty one for a length of zero; `undefined` while it is incomplete. */
  next(): Buffer | undefined {
    if (this.#length < 4) return undefined
    const [first] = this.#chunks
    const header = first !== undefined && first.length >= 4 ? first : this.#join()
    const length = header.readUInt32BE(0)
    if (this.#length < 4 + length) return undefined
    const all = this.#join()
    this.#length -= 4 + length
    this.#chunks = [all.subarray(4 + length)]
    return all.subarray(4, 4 + length)
  }

  /** Joined only when a frame is whole, because a large one comes in a thousand pieces. */
  #join(): Buffer {
    const all = Buffer.concat(this.#chunks)
    this.#chunks = [all]
    return all
  }
}
