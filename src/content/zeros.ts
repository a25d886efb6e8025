import { BLOCK_BYTES, CHUNK_BLOCKS } from '../catalog/index.ts'

const ZEROS = Buffer.alloc(BLOCK_BYTES)
const BITS_BYTES = Math.ceil(CHUNK_BLOCKS / 8)

/** Marks every block of a chunk. */
export const ALL_ZEROS = Buffer.alloc(BITS_BYTES, 0xff)

/** Which blocks of a chunk's bytes are zeros: `all`, or one bit each, or `undefined` where none is. */
export function zerosOf(bytes: Buffer): 'all' | Buffer | undefined {
  let bits: Buffer | undefined
  let found = 0
  const blocks = Math.ceil(bytes.length / BLOCK_BYTES)
  for (let block = 0; block < blocks; block += 1) {
    const from = block * BLOCK_BYTES
    // Most blocks are told by their first byte.
    if (bytes[from] !== 0) continue
    const part = bytes.subarray(from, from + BLOCK_BYTES)
    if (ZEROS.compare(part, 0, part.length, 0, part.length) !== 0) continue
    bits ??= Buffer.alloc(BITS_BYTES)
    bits[block >> 3] = (bits[block >> 3] ?? 0) | (1 << (block & 7))
    found += 1
  }
  return found === blocks ? 'all' : bits
}

/** How many blocks of so many are not marked as zeros. */
export function dataBlocks(zeros: Buffer | undefined, blocks: number): number {
  if (!zeros) return blocks
  let holes = 0
  for (let block = 0; block < blocks; block += 1) holes += ((zeros[block >> 3] ?? 0) >> (block & 7)) & 1
  return blocks - holes
}

/** A chunk as its object has it: the bytes, or where some blocks are zeros which ones, and then the others. */
export function packed(bytes: Buffer, zeros: Buffer | undefined): Buffer {
  if (!zeros) return bytes
  const parts = [zeros]
  for (const { start, end } of dataIn(zeros, bytes.length)) parts.push(bytes.subarray(start, end))
  return Buffer.concat(parts)
}

/**
 * What `packed` made an object of, at least `length` bytes; `undefined` if it is another one. A chunk that has just become longer
 * than the file that is recorded has more.
 */
export function unpacked(value: Buffer, zeros: Buffer | undefined, length: number): Buffer | undefined {
  if (!zeros) return value
  if (!value.subarray(0, zeros.length).equals(zeros)) return undefined
  const parts: Buffer[] = []
  let [at, end] = [zeros.length, 0]
  for (const run of dataIn(zeros, CHUNK_BLOCKS * BLOCK_BYTES)) {
    if (run.start >= length && at === value.length) break
    const part = value.subarray(at, at + run.end - run.start)
    parts.push(Buffer.alloc(run.start - end), part)
    at += part.length
    end = run.start + part.length
    if (end < Math.min(run.end, length)) return undefined
  }
  if (at !== value.length) return undefined
  return end >= length ? Buffer.concat(parts) : Buffer.concat(parts, length)
}

/** Runs of a chunk's bytes that are not blocks of zeros. */
export function dataOf(bytes: Buffer): Iterable<{ start: number; end: number }> {
  const zeros = zerosOf(bytes)
  if (zeros === undefined) return [{ start: 0, end: bytes.length }]
  return zeros === 'all' ? [] : dataIn(zeros, bytes.length)
}

/** Runs of bytes that are not in blocks marked as zeros. */
function* dataIn(zeros: Buffer, length: number): Generator<{ start: number; end: number }> {
  const isZero = (block: number): boolean => (((zeros[block >> 3] ?? 0) >> (block & 7)) & 1) === 1
  const blocks = Math.ceil(length / BLOCK_BYTES)
  for (let block = 0; block < blocks; ) {
    const first = block
    while (block < blocks && !isZero(block)) block += 1
    if (block > first) yield { start: first * BLOCK_BYTES, end: Math.min(length, block * BLOCK_BYTES) }
    else block += 1
  }
}
