import { readSync, writeSync } from 'node:fs'
import { endianness } from 'node:os'
import type { Sums } from './flipped-bit.ts'

// "The WAL File Format" of SQLite's documentation. Numbers are big-endian; the words that are summed up have the byte order
// that the magic number names.
export const MAGIC_LITTLE = 0x377f0682
export const MAGIC_BIG = 0x377f0683
export const HEADER_BYTES = 32
export const FRAME_HEADER_BYTES = 24
export const PAGE_BYTES = 4096
export const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
/** So many bytes of a log's header, and of that of a frame, are summed up; what follows are the sums and salts. */
export const SUMMED_OF_HEADER = 24
export const SUMMED_OF_FRAME_HEADER = 8
/** Where in a frame's header the salts and the sums are; in the log's header they are behind one another as well. */
export const FRAME_SALT = 8
export const FRAME_SUMS = 16
export const HEADER_SALT = 16
export const SALT_BYTES = 8
// A block is read as a whole, so this bounds the memory.
const FRAMES_PER_BLOCK = 256

/** A write-ahead log whose checksums do not hold: the disk does not have what was written. */
export class WalDamaged extends Error {
  constructor(why: string, options?: ErrorOptions) {
    super(why, options)
    this.name = 'WalDamaged'
  }
}

/** SQLite's checksum: each step depends on all before it. */
export class Checksum implements Sums {
  readonly #swap: boolean
  first: number
  second: number

  constructor(bigEndian: boolean, from: Sums = { first: 0, second: 0 }) {
    this.#swap = bigEndian !== (endianness() === 'BE')
    this.first = from.first
    this.second = from.second
  }

  /** What is added up, as numbers of this machine. */
  words(bytes: Buffer): Int32Array {
    const isUsable = !this.#swap && bytes.byteOffset % 4 === 0
    const own = isUsable ? bytes : copyOf(bytes)
    if (this.#swap) own.swap32()
    return new Int32Array(own.buffer, own.byteOffset, own.length / 4)
  }

  add(bytes: Buffer): void {
    const words = this.words(bytes)
    this.addWords(words, 0, words.length)
  }

  /** Some of the words of a larger buffer: to make a smaller one of them costs more than to add them up. */
  addWords(words: Int32Array, from: number, to: number): void {
    let { first, second } = this
    for (let at = from; at < to; at += 2) {
      // Always a number there.
      first = (first + (words[at] as number) + second) | 0
      second = (second + (words[at + 1] as number) + first) | 0
    }
    this.first = first
    this.second = second
  }

  equals(bytes: Buffer, offset: number): boolean {
    return bytes.readInt32BE(offset) === this.first && bytes.readInt32BE(offset + 4) === this.second
  }
}

/** Aligned, as no slice of a pool is. */
function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}

export function sumsAt(bytes: Buffer, offset: number): Sums {
  return { first: bytes.readInt32BE(offset), second: bytes.readInt32BE(offset + 4) }
}

/**
 * Writes the first `frames` frames of a WAL over themselves. After a failed sync the kernel holds the pages that did not
 * reach the disk for clean, and no later sync would write them; written again they are as good as new. Each is compared
 * with its checksum first: what the page cache no longer had was read from the disk, which does not have it.
 * Nobody may write to the file meanwhile.
 * @throws WalDamaged if a frame is not what SQLite wrote; the error of read(2) or write(2)
 */
export function rewriteWal(descriptor: number, frames: number): void {
  const header = Buffer.allocUnsafeSlow(HEADER_BYTES)
  if (frames === 0) return
  readAll(descriptor, header, 0)
  const magic = header.readUInt32BE(0)
  if (magic !== MAGIC_LITTLE && magic !== MAGIC_BIG) throw new WalDamaged('its header is damaged')
  const checksum = new Checksum(magic === MAGIC_BIG)
  checksum.add(header.subarray(0, SUMMED_OF_HEADER))
  if (!checksum.equals(header, SUMMED_OF_HEADER)) throw new WalDamaged('its header is damaged')
  const frameBytes = FRAME_HEADER_BYTES + header.readUInt32BE(8)
  const salt = header.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES)
  writeAll(descriptor, header, 0)
  for (let from = 0; from < frames; from += FRAMES_PER_BLOCK) {
    const count = Math.min(FRAMES_PER_BLOCK, frames - from)
    const block = Buffer.allocUnsafeSlow(count * frameBytes)
    const position = HEADER_BYTES + from * frameBytes
    readAll(descriptor, block, position)
    for (let index = 0; index < count; index += 1) {
      const frame = block.subarray(index * frameBytes, (index + 1) * frameBytes)
      checksum.add(frame.subarray(0, SUMMED_OF_FRAME_HEADER))
      checksum.add(frame.subarray(FRAME_HEADER_BYTES))
      if (!frame.subarray(FRAME_SALT, FRAME_SUMS).equals(salt) || !checksum.equals(frame, FRAME_SUMS)) {
        throw new WalDamaged(`frame ${from + index + 1} of ${frames} is not what was written`)
      }
    }
    writeAll(descriptor, block, position)
  }
}

export function readAll(descriptor: number, buffer: Buffer, position: number): void {
  for (let done = 0; done < buffer.length; ) {
    const count = readSync(descriptor, buffer, done, buffer.length - done, position + done)
    if (count === 0) throw new WalDamaged('it is shorter than what was written')
    done += count
  }
}

export function writeAll(descriptor: number, buffer: Buffer, position: number): void {
  for (let done = 0; done < buffer.length; ) {
    done += writeSync(descriptor, buffer, done, buffer.length - done, position + done)
  }
}
