import {
  closeSync,
  constants,
  existsSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { Checksum, PAGE_BYTES, writeAll } from './wal.ts'

// Of a disk's smallest sector, so that a power cut leaves a block as it was or as it is.
const BLOCK_BYTES = 512
const ENTRY_BYTES = 16
const PER_BLOCK = 31
const NUMBER_OFFSET = PER_BLOCK * ENTRY_BYTES
const SUM_OFFSET = NUMBER_OFFSET + 4
// Of the fold that the block was changed for; the first block says besides how many folds are durable.
const FOLD_OFFSET = SUM_OFFSET + 4
const DURABLE_OFFSET = FOLD_OFFSET + 4
const BLOCKS_PER_SCAN = 256

// Pages read in one go.
const PAGES_AT_ONCE = 256

// Blocks that are no farther apart are read and written together, so many at most: a system call costs more than to copy them.
const NEAR_BLOCKS = 8
const BLOCKS_AT_ONCE = 128

/** What a page is known by: a CRC-32, and a sum of another kind. 0 and 0: it never was in the file. */
export interface PageSum {
  readonly crc: number
  readonly words: number
}

interface Entry {
  /** What the page is, or is to become, and what it was: a fold that is cut short leaves either. Equal once it is durable. */
  readonly now: PageSum
  readonly before: PageSum
}

interface Block {
  readonly entries: readonly Entry[]
  /** It was not what was written: of its pages nothing is known. */
  readonly isDamaged: boolean
}

const NONE: PageSum = { crc: 0, words: 0 }

/** `page` is added up, so that one that lies in the place of another is found. */
export function pageSum(bytes: Buffer, page: number): PageSum {
  const words = new Checksum(false, { first: page, second: 1 })
  words.add(bytes)
  return { crc: crc32(bytes), words: words.second }
}

const areEqual = (one: PageSum, other: PageSum): boolean => one.crc === other.crc && one.words === other.words

/**
 * Checksums of the pages of a database, in a file beside it. A checkpoint has those of the pages that it is going to write on the
 * medium before it begins, beside the ones that they take the place of; what it has not folded in is in the log, which has its own.
 * Once the database is synced the old ones are void (`settle`): folds are counted, each block says for which one it was changed, and
 * the first block how many are durable. So that takes one small write, which need not reach the medium.
 */
export class PageSums {
  readonly #descriptor: number

  readonly #isWritable: boolean

  private constructor(descriptor: number, isWritable = true) {
    this.#descriptor = descriptor
    this.#isWritable = isWritable
  }

  /** `undefined` if there are none. */
  static open(path: string, readOnly = false): PageSums | undefined {
    if (!existsSync(path)) return undefined
    return new PageSums(openSync(path, readOnly ? constants.O_RDONLY : constants.O_RDWR), !readOnly)
  }

  /** Adds up what is in a database that nobody has open, and whose log is folded in. On the medium when it returns. */
  static make(path: string, database: string): void {
    const temporary = `${path}.new`
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC
    const descriptor = openSync(temporary, flags, 0o600)
    try {
      const sums = new PageSums(descriptor)
      let block: Array<[number, PageSum]> = []
      for (const { page, bytes } of pagesOf(database)) {
        block.push([page, pageSum(bytes, page)])
        if (page % PER_BLOCK !== 0) continue
        sums.#put(block, 1)
        block = []
      }
      sums.#put(block, 1)
      fdatasyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    renameSync(temporary, path)
    const directory = openSync(dirname(path), constants.O_RDONLY)
    try {
      fsyncSync(directory)
    } finally {
      closeSync(directory)
    }
  }

  close(): void {
    closeSync(this.#descriptor)
  }

  /** What these pages become. On the medium when it returns; by page, ascending. */
  note(sums: ReadonlyArray<readonly [page: number, sum: PageSum]>): void {
    const fold = (this.#knownDurable() ?? this.#provenDurable()) + 1
    const distance = (one: number, other: number): number =>
      blockOf(sums[one]?.[0] ?? 0) - blockOf(sums[other]?.[0] ?? 0)
    for (let from = 0; from < sums.length; ) {
      let end = from + 1
      while (
        end < sums.length &&
        distance(end, end - 1) <= NEAR_BLOCKS &&
        distance(end, from) < BLOCKS_AT_ONCE
      )
        end += 1
      this.#put(sums.slice(from, end), fold)
      from = end
    }
    fdatasyncSync(this.#descriptor)
  }

  /**
   * All pages are what was noted of them last, and the database is synced: what they were before is not valid any more. Whoever
   * looks at an older first block, after a power cut, accepts both.
   * @param onMedium synced when it returns
   */
  settle(onMedium: boolean): void {
    const known = this.#knownDurable()
    // A damaged block is put right when the database is opened.
    if (known === undefined) return
    this.#putDurable(known + 1)
    if (onMedium) fdatasyncSync(this.#descriptor)
  }

  /**
   * Compares all pages of a database that nobody has open, but for those that its log has. A page with one flipped bit is put right.
   * @returns what was put right, and the pages that are damaged beyond it
   */
  check(database: string, inLog: ReadonlySet<number>): { repairs: string[]; damaged: number[] } {
    const repairs: string[] = []
    const damaged: number[] = []
    const known = this.#knownDurable()
    const durable = Math.max(known ?? 0, this.#provenDurable())
    // The power took the note of it, and left what was written behind it.
    if (this.#isWritable && known !== undefined && known < durable) this.#putDurable(durable)
    let block: Block = { entries: [], isDamaged: false }
    let noted: Array<[number, PageSum]> = []
    const note = (): void => {
      if (noted.length > 0 && this.#isWritable) this.note(noted)
      noted = []
    }
    for (const { page, bytes, write } of pagesOf(database)) {
      if ((page - 1) % PER_BLOCK === 0) {
        note()
        block = this.#block(blockOf(page), durable)
        if (block.isDamaged) repairs.push(`checksums of the pages from ${page} on`)
      }
      const entry = block.entries[(page - 1) % PER_BLOCK]
      if (!entry || inLog.has(page)) continue
      const sum = pageSum(bytes, page)
      if (isUnknown(entry)) {
        if (block.isDamaged) noted.push([page, sum])
        continue
      }
      if (areEqual(sum, entry.now)) continue
      if (areEqual(sum, entry.before)) {
        // The power took the log before the checkpoint began: the page is what it was.
        noted.push([page, sum])
        continue
      }
      const mended = mend(bytes, page, sum.crc, entry)
      if (!mended) {
        damaged.push(page)
        continue
      }
      write(mended)
      repairs.push(`page ${page}`)
    }
    note()
    return { repairs, damaged }
  }

  /** Of pages whose blocks are near one another: those are read and written together. `fold`: the first one that is not durable. */
  #put(sums: ReadonlyArray<readonly [number, PageSum]>, fold: number): void {
    const first = blockOf(sums[0]?.[0] ?? 1)
    const last = blockOf(sums.at(-1)?.[0] ?? 1)
    const bytes = Buffer.alloc((last - first + 1) * BLOCK_BYTES)
    readSync(this.#descriptor, bytes, 0, bytes.length, first * BLOCK_BYTES)
    let block = Buffer.alloc(0)
    let number = -1
    for (const [page, { crc, words }] of sums) {
      if (blockOf(page) !== number) {
        if (number >= 0) seal(block, number)
        number = blockOf(page)
        block = bytes.subarray((number - first) * BLOCK_BYTES, (number - first + 1) * BLOCK_BYTES)
        if (!isWhole(block, number)) block.fill(0)
        else if (foldOf(block) < fold) dropOlder(block)
        block.writeUInt32LE(Math.max(fold, foldOf(block)), FOLD_OFFSET)
        if (number === 0) block.writeUInt32LE(fold - 1, DURABLE_OFFSET)
      }
      const at = ((page - 1) % PER_BLOCK) * ENTRY_BYTES
      if (block.readUInt32LE(at) === crc && block.readInt32LE(at + 4) === words) continue
      block.copyWithin(at + ENTRY_BYTES / 2, at, at + ENTRY_BYTES / 2)
      block.writeUInt32LE(crc, at)
      block.writeInt32LE(words, at + 4)
    }
    if (number >= 0) seal(block, number)
    writeAll(this.#descriptor, bytes, first * BLOCK_BYTES)
  }

  /** How many folds are durable, as the first block has it; `undefined` if that is damaged. */
  #knownDurable(): number | undefined {
    const bytes = Buffer.alloc(BLOCK_BYTES)
    readSync(this.#descriptor, bytes, 0, BLOCK_BYTES, 0)
    return isWhole(bytes, 0) ? bytes.readUInt32LE(DURABLE_OFFSET) : undefined
  }

  /** What the other blocks prove: none is changed for a fold before the one before it is durable. */
  #provenDurable(): number {
    const bytes = Buffer.alloc(BLOCKS_PER_SCAN * BLOCK_BYTES)
    let newest = 1
    for (let first = 0; ; first += BLOCKS_PER_SCAN) {
      const length = readSync(this.#descriptor, bytes, 0, bytes.length, first * BLOCK_BYTES)
      for (let at = 0; at + BLOCK_BYTES <= length; at += BLOCK_BYTES) {
        const block = bytes.subarray(at, at + BLOCK_BYTES)
        if (isWhole(block, first + at / BLOCK_BYTES)) newest = Math.max(newest, foldOf(block))
      }
      if (length < bytes.length) return newest - 1
    }
  }

  #putDurable(durable: number): void {
    const block = Buffer.alloc(BLOCK_BYTES)
    readSync(this.#descriptor, block, 0, BLOCK_BYTES, 0)
    if (!isWhole(block, 0)) return
    block.writeUInt32LE(durable, DURABLE_OFFSET)
    seal(block, 0)
    writeAll(this.#descriptor, block, 0)
  }

  /** With the older sums dropped if that is of a fold that is durable. */
  #block(number: number, durable: number): Block {
    const bytes = Buffer.alloc(BLOCK_BYTES)
    const length = readSync(this.#descriptor, bytes, 0, BLOCK_BYTES, number * BLOCK_BYTES)
    const isSound = isWhole(bytes, number)
    if (isSound && foldOf(bytes) <= durable) dropOlder(bytes)
    const isHole = length === 0 || bytes.every((byte) => byte === 0)
    const entries = Array.from({ length: PER_BLOCK }, (_, index) => {
      if (!isSound) return { now: NONE, before: NONE }
      const at = index * ENTRY_BYTES
      const sum = (offset: number): PageSum => ({
        crc: bytes.readUInt32LE(offset),
        words: bytes.readInt32LE(offset + 4),
      })
      return { now: sum(at), before: sum(at + 8) }
    })
    return { entries, isDamaged: !isSound && !isHole }
  }
}

const blockOf = (page: number): number => Math.floor((page - 1) / PER_BLOCK)

/** Nothing is known of the page: it never was in the file, or what was known of it is damaged. */
const isUnknown = ({ now, before }: Entry): boolean => areEqual(now, NONE) && areEqual(before, NONE)

const isWhole = (block: Buffer, number: number): boolean => {
  if (block.readUInt32LE(NUMBER_OFFSET) !== number) return false
  const sum = block.readUInt32LE(SUM_OFFSET)
  // As it was before folds were counted.
  const isOlder = block.readUInt32LE(FOLD_OFFSET) === 0 && block.readUInt32LE(DURABLE_OFFSET) === 0
  return sum === sumOf(block) || (isOlder && sum === crc32(block.subarray(0, SUM_OFFSET)))
}

const sumOf = (block: Buffer): number =>
  crc32(block.subarray(FOLD_OFFSET), crc32(block.subarray(0, SUM_OFFSET)))

/** The fold that it was changed for last: the first one if it is of a time before they were counted. */
const foldOf = (block: Buffer): number => Math.max(1, block.readUInt32LE(FOLD_OFFSET))

/** Of each page only the newer sum is left. */
function dropOlder(block: Buffer): void {
  for (let at = 0; at < NUMBER_OFFSET; at += ENTRY_BYTES) block.copyWithin(at + ENTRY_BYTES / 2, at, at + 8)
}

function seal(block: Buffer, number: number): void {
  block.writeUInt32LE(number, NUMBER_OFFSET)
  block.writeUInt32LE(sumOf(block), SUM_OFFSET)
}

interface Page {
  readonly page: number
  readonly bytes: Buffer
  /** On the medium when it returns. */
  readonly write: (bytes: Buffer) => void
}

function* pagesOf(database: string): Generator<Page> {
  let descriptor: number
  let isWritable = true
  try {
    descriptor = openSync(database, constants.O_RDWR)
  } catch {
    isWritable = false
    descriptor = openSync(database, constants.O_RDONLY)
  }
  try {
    const pages = Math.ceil(fstatSync(descriptor).size / PAGE_BYTES)
    const buffer = Buffer.allocUnsafeSlow(PAGES_AT_ONCE * PAGE_BYTES)
    for (let from = 0; from < pages; from += PAGES_AT_ONCE) {
      const count = Math.min(PAGES_AT_ONCE, pages - from)
      const length = readSync(descriptor, buffer, 0, count * PAGE_BYTES, from * PAGE_BYTES)
      buffer.fill(0, length)
      for (let index = 0; index < count; index += 1) {
        const bytes = buffer.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES)
        const write = (mended: Buffer): void => {
          if (!isWritable) return
          writeAll(descriptor, mended, (from + index) * PAGE_BYTES)
          fdatasyncSync(descriptor)
        }
        yield { page: from + index + 1, bytes, write }
      }
    }
  } finally {
    closeSync(descriptor)
  }
}

/** The page with the one bit put right that is wrong in it: no two bits make the same difference to a CRC. */
function mend(bytes: Buffer, page: number, crc: number, { now, before }: Entry): Buffer | undefined {
  for (const wanted of [now, before]) {
    const bit = syndromes().get((crc ^ wanted.crc) >>> 0)
    if (bit === undefined || areEqual(wanted, NONE)) continue
    const mended = Buffer.from(bytes)
    const at = Math.floor(bit / 8)
    mended[at] = (mended[at] ?? 0) ^ (1 << (bit % 8))
    if (areEqual(pageSum(mended, page), wanted)) return mended
  }
  return undefined
}

let known: Map<number, number> | undefined

/** What each bit of a page, flipped, adds to its CRC. Made when the first damage is met. */
function syndromes(): Map<number, number> {
  if (known) return known
  known = new Map()
  const bytes = Buffer.alloc(PAGE_BYTES)
  const none = crc32(bytes)
  for (let bit = 0; bit < PAGE_BYTES * 8; bit += 1) {
    const at = Math.floor(bit / 8)
    bytes[at] = 1 << (bit % 8)
    known.set((crc32(bytes) ^ none) >>> 0, bit)
    bytes[at] = 0
  }
  return known
}
