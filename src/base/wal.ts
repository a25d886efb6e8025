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
export const COMMIT_SIZE = 4
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

  /** What of a frame is summed up, of words in which it begins at `at`. */
  addFrame(words: Int32Array, at: number): void {
    this.addWords(words, at, at + SUMMED_OF_FRAME_HEADER / 4)
    this.addWords(words, at + FRAME_HEADER_BYTES / 4, at + FRAME_BYTES / 4)
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

/** What a log begins with. */
export interface LogHeader {
  readonly bytes: Buffer
  /** By which it is told from the one that was written over it. */
  readonly salt: Buffer
  readonly bigEndian: boolean
  /** With which the checksums of the frames begin. */
  readonly sums: Sums
}

/** @throws WalDamaged; the error of read(2) */
export function readHeader(descriptor: number): LogHeader {
  const bytes = Buffer.allocUnsafeSlow(HEADER_BYTES)
  readAll(descriptor, bytes, 0)
  const magic = bytes.readUInt32BE(0)
  const checksum = new Checksum(magic === MAGIC_BIG)
  checksum.add(bytes.subarray(0, SUMMED_OF_HEADER))
  if ((magic !== MAGIC_LITTLE && magic !== MAGIC_BIG) || !checksum.equals(bytes, SUMMED_OF_HEADER))
    throw new WalDamaged('its header is damaged')
  return {
    bytes,
    salt: bytes.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES),
    bigEndian: magic === MAGIC_BIG,
    sums: sumsAt(bytes, SUMMED_OF_HEADER),
  }
}

/** A frame of a log that is whole. */
interface Frame {
  /** The first is number 1. */
  readonly number: number
  readonly page: number
  /** Pages of the database after the transaction that ends here; 0 where none does. */
  readonly commit: number
}

/** Frames one behind the other, as they are in the file. Valid until the next are asked for. */
interface Frames {
  readonly frames: readonly Frame[]
  readonly bytes: Buffer
  readonly position: number
  /** The checksums of the last of them. */
  readonly sums: Sums
}

/** How the walk through a log goes on where a frame is not what was written. */
export interface Mending {
  /** The frame with this number, if it has been put right before. */
  known(number: number): Buffer | undefined
  /** The frame, put right, with its checksums; `undefined` if it cannot be. */
  mend(frame: Buffer, number: number, sums: Sums): { readonly bytes: Buffer; readonly sums: Sums } | undefined
}

/**
 * Goes through a log as SQLite does: as far as each frame has the checksums that follow from all before it, and `last` at most.
 * @param after frames that are known, and the checksums of the last of them
 */
export function* framesOf(
  descriptor: number,
  { salt, bigEndian }: Pick<LogHeader, 'salt' | 'bigEndian'>,
  after: { readonly frames: number; readonly sums: Sums },
  last: number,
  mending?: Mending,
): Generator<Frames, undefined> {
  const block = Buffer.allocUnsafeSlow(FRAMES_PER_BLOCK * FRAME_BYTES)
  const checksum = new Checksum(bigEndian, after.sums)
  for (let before = after.frames; before < last; ) {
    const position = positionOf(before + 1)
    const wanted = Math.min(FRAMES_PER_BLOCK, last - before) * FRAME_BYTES
    const count = Math.floor(readSome(descriptor, block.subarray(0, wanted), position) / FRAME_BYTES)
    const words = checksum.words(block)
    const frames: Frame[] = []
    for (let index = 0; index < count; index += 1) {
      const number = before + index + 1
      const at = index * FRAME_BYTES
      const known = mending?.known(number)
      if (known) checksum.addFrame(checksum.words(known), 0)
      else checksum.addFrame(words, at / 4)
      let bytes = known ?? block.subarray(at, at + FRAME_BYTES)
      const isOfThisLog = bytes.compare(salt, 0, SALT_BYTES, FRAME_SALT, FRAME_SUMS) === 0
      if (!isOfThisLog || !checksum.equals(bytes, FRAME_SUMS)) {
        const mended = mending?.mend(bytes, number, { first: checksum.first, second: checksum.second })
        if (!mended) break
        bytes = mended.bytes
        checksum.first = mended.sums.first
        checksum.second = mended.sums.second
      }
      frames.push({ number, page: bytes.readUInt32BE(0), commit: bytes.readUInt32BE(COMMIT_SIZE) })
    }
    const sums = { first: checksum.first, second: checksum.second }
    if (frames.length > 0)
      yield { frames, bytes: block.subarray(0, frames.length * FRAME_BYTES), position, sums }
    before += frames.length
    if (frames.length * FRAME_BYTES < wanted) return undefined
  }
  return undefined
}

/** Where in a log the frame with this number is. */
export const positionOf = (frame: number): number => HEADER_BYTES + (frame - 1) * FRAME_BYTES

/** @throws WalDamaged if not all frames that were written are what was written */
export function requireFrames(found: number, frames: number): void {
  if (found < frames) throw new WalDamaged(`frame ${found + 1} of ${frames} is not what was written`)
}

/**
 * Writes the first `frames` frames of a WAL over themselves. After a failed sync the kernel holds the pages that did not
 * reach the disk for clean, and no later sync would write them; written again they are as good as new. Each is compared
 * with its checksum first: what the page cache no longer had was read from the disk, which does not have it.
 * Nobody may write to the file meanwhile.
 * @throws WalDamaged if a frame is not what SQLite wrote; the error of read(2) or write(2)
 */
export function rewriteWal(descriptor: number, frames: number): void {
  if (frames === 0) return
  const header = readHeader(descriptor)
  writeAll(descriptor, header.bytes, 0)
  let written = 0
  for (const found of framesOf(descriptor, header, { frames: 0, sums: header.sums }, frames)) {
    writeAll(descriptor, found.bytes, found.position)
    written += found.frames.length
  }
  requireFrames(written, frames)
}

/** Reads as much as there is, up to the length of the buffer. @returns so many bytes */
export function readSome(descriptor: number, buffer: Buffer, position: number): number {
  let done = 0
  while (done < buffer.length) {
    const count = readSync(descriptor, buffer, done, buffer.length - done, position + done)
    if (count === 0) break
    done += count
  }
  return done
}

export function readAll(descriptor: number, buffer: Buffer, position: number): void {
  if (readSome(descriptor, buffer, position) < buffer.length)
    throw new WalDamaged('it is shorter than what was written')
}

export function writeAll(descriptor: number, buffer: Buffer, position: number): void {
  for (let done = 0; done < buffer.length; ) {
    done += writeSync(descriptor, buffer, done, buffer.length - done, position + done)
  }
}
