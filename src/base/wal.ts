import { readSync, writeSync } from 'node:fs'
import { endianness } from 'node:os'

// "The WAL File Format" of SQLite's documentation. Numbers are big-endian; the words that are summed up have the byte order
// that the magic number names.
const MAGIC_LITTLE = 0x377f0682
const MAGIC_BIG = 0x377f0683
const HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
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
class Checksum {
  readonly #swap: boolean
  first = 0
  second = 0

  constructor(bigEndian: boolean) {
    this.#swap = bigEndian !== (endianness() === 'BE')
  }

  add(bytes: Buffer): void {
    const own = this.#swap ? Buffer.from(bytes).swap32() : bytes
    const words = new Int32Array(own.buffer, own.byteOffset, own.length / 4)
    let { first, second } = this
    for (let at = 0; at < words.length; at += 2) {
      first = (first + (words[at] ?? 0) + second) | 0
      second = (second + (words[at + 1] ?? 0) + first) | 0
    }
    this.first = first
    this.second = second
  }

  equals(bytes: Buffer, offset: number): boolean {
    return bytes.readInt32BE(offset) === this.first && bytes.readInt32BE(offset + 4) === this.second
  }
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
  checksum.add(header.subarray(0, 24))
  if (!checksum.equals(header, 24)) throw new WalDamaged('its header is damaged')
  const frameBytes = FRAME_HEADER_BYTES + header.readUInt32BE(8)
  const salt = header.subarray(16, 24)
  writeAll(descriptor, header, 0)
  for (let from = 0; from < frames; from += FRAMES_PER_BLOCK) {
    const count = Math.min(FRAMES_PER_BLOCK, frames - from)
    const block = Buffer.allocUnsafeSlow(count * frameBytes)
    const position = HEADER_BYTES + from * frameBytes
    readAll(descriptor, block, position)
    for (let index = 0; index < count; index += 1) {
      const frame = block.subarray(index * frameBytes, (index + 1) * frameBytes)
      checksum.add(frame.subarray(0, 8))
      checksum.add(frame.subarray(FRAME_HEADER_BYTES))
      if (!frame.subarray(8, 16).equals(salt) || !checksum.equals(frame, 16)) {
        throw new WalDamaged(`frame ${from + index + 1} of ${frames} is not what was written`)
      }
    }
    writeAll(descriptor, block, position)
  }
}

function readAll(descriptor: number, buffer: Buffer, position: number): void {
  for (let done = 0; done < buffer.length; ) {
    const count = readSync(descriptor, buffer, done, buffer.length - done, position + done)
    if (count === 0) throw new WalDamaged('it is shorter than what was written')
    done += count
  }
}

function writeAll(descriptor: number, buffer: Buffer, position: number): void {
  for (let done = 0; done < buffer.length; ) {
    done += writeSync(descriptor, buffer, done, buffer.length - done, position + done)
  }
}
