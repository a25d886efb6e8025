import { crc32 } from 'node:zlib'

/** A checksum covers so many bytes: the least that is read to give any of them. */
const BLOCK_BYTES = 16 * 1024

/** CRC-32 of every 16 KiB of bytes that were found right as a whole: with them a part can be read and checked by itself. */
export class BlockSums {
  readonly #length: number
  readonly #sums: Uint32Array

  constructor(bytes: Buffer) {
    this.#length = bytes.length
    this.#sums = Uint32Array.from({ length: Math.ceil(bytes.length / BLOCK_BYTES) }, (_, at) =>
      crc32(bytes.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES)),
    )
  }

  /** Whole blocks that have the bytes [start, end) in them: where they begin and end. */
  around(start: number, end: number): { readonly from: number; readonly to: number } {
    const from = start - (start % BLOCK_BYTES)
    return { from, to: Math.min(this.#length, Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES) }
  }

  /** Whether these are the bytes that were there from `from` on, which is where a block begins. */
  match(blocks: Buffer, from: number): boolean {
    for (let at = 0; at < blocks.length; at += BLOCK_BYTES) {
      const sum = this.#sums[(from + at) / BLOCK_BYTES]
      if (crc32(blocks.subarray(at, at + BLOCK_BYTES)) !== sum) return false
    }
    return true
  }
}
