import { crc32 } from 'node:zlib'

// A checksum covers so many bytes: what an append after a check has to read again.
const BLOCK_BYTES = 64 * 1024

/** Checksums of a staged chunk's bytes: their number, then the CRC-32 of every 64 KiB, all as 32 bits, little-endian. */
export function sumsOf(bytes: Buffer): Buffer {
  const sums = Buffer.alloc(4 + Math.ceil(bytes.length / BLOCK_BYTES) * 4)
  sums.writeUInt32LE(bytes.length, 0)
  for (let at = 0, from = 0; from < bytes.length; at += 1, from += BLOCK_BYTES) {
    sums.writeUInt32LE(crc32(bytes.subarray(from, from + BLOCK_BYTES)), 4 + at * 4)
  }
  return sums
}

/** Whether these are the bytes that the sums were taken of. What follows them, where the file grew since, is zeros. */
export function matchesSums(bytes: Buffer, sums: Buffer): boolean {
  const length = sums.length >= 4 ? sums.readUInt32LE(0) : Number.POSITIVE_INFINITY
  if (length > bytes.length) return false
  return sumsOf(bytes.subarray(0, length)).equals(sums) && isZero(bytes.subarray(length))
}

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length)
    if (!part.equals(ZEROS.subarray(0, part.length))) return false
  }
  return true
}

const ZEROS = Buffer.alloc(BLOCK_BYTES)
