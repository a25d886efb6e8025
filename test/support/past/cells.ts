/**
 * Content that says what it is: cells of 64 bytes, each with the file's number, the version that wrote it, its place, and a pattern that
 * follows from those. So whatever is read tells which states of which file it is made of, and a byte of anything else shows.
 */
export const CELL_BYTES = 64
const WORDS = CELL_BYTES / 4

/** What cannot be a cell of any file: zeros, and all else that no cell is. */
export const ZEROS = 0
export const GARBAGE = -1

/** Cells of one file and version, one behind the other. */
export interface Run {
  /** The file's number, from 1 on; or `ZEROS`, or `GARBAGE`. */
  readonly file: number
  readonly version: number
  readonly count: number
}

/** Cells [from, from + count) of a file, as that version writes them. */
export function cells(file: number, version: number, from: number, count: number): Buffer {
  const bytes = Buffer.alloc(count * CELL_BYTES)
  for (let nth = 0; nth < count; nth += 1) {
    const seed = mixed(file, version, from + nth)
    const at = nth * CELL_BYTES
    bytes.writeUInt32LE(file, at)
    bytes.writeUInt32LE(version, at + 4)
    for (let word = 2; word < WORDS; word += 1) bytes.writeUInt32LE(patternWord(seed, word), at + word * 4)
  }
  return bytes
}

/** What a file's bytes from its beginning on are made of. */
export function runsOf(bytes: Buffer): Run[] {
  const runs: { file: number; version: number; count: number }[] = []
  for (let at = 0; at < bytes.length; at += CELL_BYTES) {
    const [file, version] = cellAt(bytes, at)
    const last = runs.at(-1)
    if (last?.file === file && last.version === version) last.count += 1
    else runs.push({ file, version, count: 1 })
  }
  return runs
}

function cellAt(bytes: Buffer, at: number): [file: number, version: number] {
  if (bytes.length - at < CELL_BYTES) return [GARBAGE, 0]
  const file = bytes.readUInt32LE(at)
  const version = bytes.readUInt32LE(at + 4)
  if (file === 0) {
    for (let word = 1; word < WORDS; word += 1)
      if (bytes.readUInt32LE(at + word * 4) !== 0) return [GARBAGE, 0]
    return [ZEROS, 0]
  }
  const seed = mixed(file, version, at / CELL_BYTES)
  for (let word = 2; word < WORDS; word += 1)
    if (bytes.readUInt32LE(at + word * 4) !== patternWord(seed, word)) return [GARBAGE, 0]
  return [file, version]
}

function mixed(file: number, version: number, index: number): number {
  const first = Math.imul(file ^ Math.imul(version, 0x9e37_79b1), 0x85eb_ca6b)
  return (first ^ Math.imul(index + 1, 0xc2b2_ae35) ^ (first >>> 15)) >>> 0
}

const patternWord = (seed: number, word: number): number => (seed ^ Math.imul(word, 0x27d4_eb2f)) >>> 0
