import { readFileSync } from 'node:fs'
import { isSystemError } from './errors.ts'
import type { Sums } from './flipped-bit.ts'
import { Checksum, SALT_BYTES } from './wal.ts'
import { endianness } from 'node:os'

// "The WAL-Index File Format" of SQLite's documentation; numbers have the machine's byte order.
const HEADER_BYTES = 48
const SUMMED = 40
const FRAMES = 16
const FRAME_SUMS = 24
const SALT = 32
const FOLDED_IN = 96
const FOLDING_IN = 128

/** What SQLite noted in the page cache about a log, at each commit: it outlives the process, not the machine. */
export interface LogIndex {
  /** Frames of what is committed. */
  readonly frames: number
  readonly salt: Buffer
  /** The checksums of the last of them. */
  readonly sums: Sums
  /** So many frames have been folded into the database, and so many may have been. */
  readonly foldedIn: number
  readonly foldingIn: number
}

/** `undefined` where there is none, or it is damaged beyond use. Nobody may have the database open. */
export function readLogIndex(path: string): LogIndex | undefined {
  let bytes: Buffer
  try {
    bytes = Buffer.from(readFileSync(path))
  } catch (error) {
    if (isSystemError(error)) return undefined
    throw error
  }
  if (bytes.length < FOLDING_IN + 4) return undefined
  const number = (offset: number): number =>
    endianness() === 'LE' ? bytes.readUInt32LE(offset) : bytes.readUInt32BE(offset)
  // SQLite writes the second one first, so either may be newer, and each says what was committed.
  for (const at of [0, HEADER_BYTES]) {
    const sum = new Checksum(endianness() === 'BE')
    sum.add(bytes.subarray(at, at + SUMMED))
    if (sum.first !== (number(at + SUMMED) | 0) || sum.second !== (number(at + SUMMED + 4) | 0)) continue
    return {
      frames: number(at + FRAMES),
      salt: bytes.subarray(at + SALT, at + SALT + SALT_BYTES),
      sums: { first: number(at + FRAME_SUMS) | 0, second: number(at + FRAME_SUMS + 4) | 0 },
      foldedIn: number(FOLDED_IN),
      foldingIn: number(FOLDING_IN),
    }
  }
  return undefined
}
