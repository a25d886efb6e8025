import {
  closeSync,
  constants,
  copyFileSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
} from 'node:fs'
import { isSystemError } from './errors.ts'
import { bitsBetween, type FlippedBit, flippedBits, type Sums } from './flipped-bit.ts'
import {
  COMMIT_SIZE,
  Checksum,
  FRAME_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_SALT,
  FRAME_SUMS,
  framesOf,
  HEADER_BYTES,
  HEADER_SALT,
  MAGIC_BIG,
  MAGIC_LITTLE,
  PAGE_BYTES,
  positionOf,
  readSome,
  SALT_BYTES,
  SUMMED_OF_FRAME_HEADER,
  SUMMED_OF_HEADER,
  sumsAt,
  writeAll,
} from './wal.ts'
import type { LogIndex } from './wal-index.ts'

// Of the format of the log.
const VERSION = 3007000
const SUMMED_OF_FRAME = SUMMED_OF_FRAME_HEADER + PAGE_BYTES

/** What the log of a database is known to have had. */
export interface KnownLog {
  readonly frames: number
  readonly salt: Buffer
  /** The checksums of the last of these frames. */
  readonly sums: Sums | undefined
}

/** Transactions that were committed, and that the log does not have any more. */
export interface LostFrames {
  /** So many frames of committed transactions; 0 where nobody can tell whether any is. */
  readonly frames: number
  /** The pages that they changed; `undefined` where not even that is known. */
  readonly pages: readonly number[] | undefined
}

export interface LogFindings {
  /** What was put right: one line each. */
  readonly repairs: readonly string[]
  readonly lost: LostFrames | undefined
  /** Pages of the database that the log has, as it is left. */
  readonly pages: ReadonlySet<number>
}

/** The log is damaged where it was being folded into the database: neither is whole without the other. */
class LogBeyondRepair extends Error {
  constructor() {
    super('its log is damaged where it was being folded in')
    this.name = 'LogBeyondRepair'
  }
}

/**
 * Looks at the log of a database that nobody has open. SQLite takes the first frame that is not whole for the end, so damage would
 * silently take back what was committed behind it. A flipped bit is put right: the checksums say which one it was. Where more
 * is damaged, what is known of the log from outside says what is lost. The log is left such that SQLite makes a state of it that was.
 * @param index what SQLite noted, if it is of this boot
 * @param claim what the disk is known to have had
 * @throws LogBeyondRepair
 */
export function checkLog(
  path: string,
  index: LogIndex | undefined,
  claim: KnownLog | undefined,
): LogFindings {
  const known = index ?? claim
  const descriptor = openLog(path)
  if (descriptor === undefined) {
    const missing = index ? index.frames - index.foldedIn : (claim?.frames ?? 0)
    const lost = missing > 0 ? { frames: missing, pages: undefined } : undefined
    return { repairs: [], lost, pages: new Set() }
  }
  try {
    const walk = new LogWalk(descriptor, known)
    const repairs = walk.run()
    // Started over since.
    if (!index && claim && walk.salt && !walk.salt.equals(claim.salt))
      return { repairs, lost: undefined, pages: walk.pages }
    const isOther = index !== undefined && index.frames > 0 && !walk.salt?.equals(index.salt)
    const committed = isOther ? 0 : walk.committed
    const isWhole = index?.frames === 0 ? walk.isWhole : committed >= (known?.frames ?? 0)
    if (isWhole || !known) return { repairs, lost: undefined, pages: walk.pages }
    let kept = committed
    if (index && kept < index.foldingIn) {
      // The database has what is behind the damage, and what is before it must not be put over that.
      if (index.foldedIn < index.foldingIn) throw new LogBeyondRepair()
      kept = index.foldedIn
    }
    const pages = isOther ? undefined : walk.pagesBehind(kept, known.frames)
    if (kept < known.frames) copyFileSync(path, `${path}-damaged`)
    const isDropped = isOther || index?.frames === 0 || kept > committed
    if (isDropped) {
      ftruncateSync(descriptor, 0)
      fdatasyncSync(descriptor)
    }
    const frames = known.frames - kept
    const lost = frames > 0 ? { frames, pages } : undefined
    return { repairs, lost, pages: isDropped ? new Set() : walk.pages }
  } finally {
    closeSync(descriptor)
  }
}

/** By which a log is told from the one that was written over it; `undefined` where there is none. */
export function saltOfLog(path: string): Buffer | undefined {
  const descriptor = openLog(path)
  if (descriptor === undefined) return undefined
  try {
    return read(descriptor, HEADER_BYTES, 0)?.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES)
  } finally {
    closeSync(descriptor)
  }
}

/** What the log with this descriptor is known by once its first frames are on the disk. */
export function knownLog(descriptor: number, frames: number): KnownLog | undefined {
  const header = read(descriptor, HEADER_BYTES, 0)
  if (!header) return undefined
  const last = frames > 0 ? read(descriptor, FRAME_HEADER_BYTES, positionOf(frames)) : undefined
  const salt = header.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES)
  return { frames, salt, sums: last && sumsAt(last, FRAME_SUMS) }
}

function openLog(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDWR)
  } catch (error) {
    if (!isSystemError(error)) throw error
    if (error.code === 'ENOENT') return undefined
    // It can still be found to be whole.
    if (error.code === 'EROFS' || error.code === 'EACCES') return openSync(path, constants.O_RDONLY)
    throw error
  }
}

interface Mended {
  readonly bytes: Buffer
  readonly sums: Sums
  /** It may be another bit that was flipped, of these pages: what the frame says counts only where it is written over later. */
  readonly doubtful?: readonly number[]
}

/** Goes through a log as SQLite does, and puts flipped bits right. */
class LogWalk {
  readonly #descriptor: number
  readonly #known: KnownLog | undefined
  /** Frames put right, and not written yet; the header is number 0. */
  readonly #mended = new Map<number, Mended>()
  salt: Buffer | undefined
  /** Frames from the beginning that are whole, and those of them through the last commit. */
  whole = 0
  committed = 0
  #bigEndian = false
  /** Of the whole frames. */
  #pages: number[] = []

  constructor(descriptor: number, known: KnownLog | undefined) {
    this.#descriptor = descriptor
    this.#known = known
  }

  /** Of what is committed. */
  get pages(): Set<number> {
    return new Set(this.#pages.slice(0, this.committed))
  }

  /** Nothing follows the whole frames that was written behind them. */
  get isWhole(): boolean {
    if (this.salt === undefined) return fstatSync(this.#descriptor).size === 0
    const next = this.#frame(this.whole + 1)
    return next === undefined || !saltOf(next).equals(this.salt)
  }

  /** What was put right, on the medium. */
  run(): string[] {
    const limit = this.#lastWhole(Number.POSITIVE_INFINITY)
    // A frame that is not certain, and that nothing takes the place of, is the end after all.
    for (const [number, { doubtful }] of this.#mended) {
      if (doubtful?.every((page) => this.#isWrittenAgain(page, number)) !== false) continue
      this.#lastWhole(number - 1)
      break
    }
    const repairs: string[] = []
    for (const [number, { bytes }] of this.#mended) {
      if (number > Math.min(this.whole, limit)) continue
      writeAll(this.#descriptor, bytes, number === 0 ? 0 : positionOf(number))
      repairs.push(number === 0 ? 'the header of its log' : `frame ${number} of its log`)
    }
    if (repairs.length > 0) fdatasyncSync(this.#descriptor)
    return repairs
  }

  /** Goes as far as frames are whole, `limit` at most. */
  #lastWhole(limit: number): number {
    this.whole = 0
    this.committed = 0
    this.#pages = []
    const sums = this.#header()
    if (!sums) return 0
    const header = { salt: this.#ownSalt, bigEndian: this.#bigEndian }
    const mending = {
      known: (number: number) => this.#mended.get(number)?.bytes,
      mend: (frame: Buffer, number: number, found: Sums) => {
        const mended = this.#mend(frame, number, found)
        if (mended) this.#mended.set(number, mended)
        return mended
      },
    }
    for (const { frames } of framesOf(this.#descriptor, header, { frames: 0, sums }, limit, mending)) {
      for (const { number, page, commit } of frames) {
        this.whole = number
        this.#pages.push(page)
        if (commit !== 0) this.committed = number
      }
    }
    return this.whole
  }

  /** The page is in a later frame of what is committed. */
  #isWrittenAgain(page: number, number: number): boolean {
    for (let later = number + 1; later <= this.committed; later += 1) {
      if (this.#mended.get(later)?.doubtful === undefined && this.#frame(later)?.readUInt32BE(0) === page)
        return true
    }
    return false
  }

  /** The pages of the frames behind `from`, up to `to`; `undefined` where what is damaged does not say which page it was. */
  pagesBehind(from: number, to: number): number[] | undefined {
    const pages = new Set<number>()
    for (let number = from + 1; number <= to; number += 1) {
      const frame = this.#frame(number)
      if (!frame || !saltOf(frame).equals(this.#ownSalt)) return undefined
      const next = this.#frame(number + 1)
      const stored = sumsAt(frame, FRAME_SUMS)
      // The frame's own header is around what the next frame, or what is known, proves to be as it was.
      const isProven =
        number === this.#known?.frames && this.#known.sums
          ? areEqual(stored, this.#known.sums)
          : next !== undefined && areEqual(this.#sumsOf(next, stored), sumsAt(next, FRAME_SUMS))
      const previous = this.#frame(number - 1)
      const isSound =
        previous !== undefined && areEqual(this.#sumsOf(frame, sumsAt(previous, FRAME_SUMS)), stored)
      if (!isProven && !isSound) return undefined
      pages.add(frame.readUInt32BE(0))
    }
    return [...pages]
  }

  get #ownSalt(): Buffer {
    return this.salt ?? Buffer.alloc(0)
  }

  /** The checksums of the header, with which those of the frames begin; `undefined` if there is none that can be used. */
  #header(): Sums | undefined {
    const header = this.#mended.get(0)?.bytes ?? read(this.#descriptor, HEADER_BYTES, 0)
    if (!header) return undefined
    const stored = sumsAt(header, SUMMED_OF_HEADER)
    const mended: Mended[] = []
    for (const bigEndian of [false, true]) {
      const checksum = new Checksum(bigEndian)
      const summed = header.subarray(0, SUMMED_OF_HEADER)
      checksum.add(summed)
      const candidates: Mended[] = areEqual(checksum, stored)
        ? [{ bytes: header, sums: stored }]
        : candidatesOf(header, summed, SUMMED_OF_HEADER, checksum, bigEndian, 0)
      for (const candidate of candidates) {
        if (candidate.bytes.readUInt32BE(0) !== (bigEndian ? MAGIC_BIG : MAGIC_LITTLE)) continue
        if (candidate.bytes.readUInt32BE(4) !== VERSION || candidate.bytes.readUInt32BE(8) !== PAGE_BYTES)
          continue
        this.#bigEndian = bigEndian
        this.salt = candidate.bytes.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES)
        if (candidate.bytes === header) return candidate.sums
        const first = this.#frame(1)
        if (first && !saltOf(first).equals(this.salt)) continue
        if (this.#isFollowed(0, candidate.sums) !== false) mended.push(candidate)
      }
    }
    const [only] = mended
    this.salt = undefined
    if (!only || mended.length > 1) return undefined
    this.#bigEndian = only.bytes.readUInt32BE(0) === MAGIC_BIG
    this.salt = only.bytes.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES)
    this.#mended.set(0, only)
    return only.sums
  }

  /** The frame with the one bit put right that is wrong in it. */
  #mend(frame: Buffer, number: number, sums: Sums): Mended | undefined {
    const salt = saltOf(frame)
    const wrongInSalt = bitsBetween(sumsAt(salt, 0), sumsAt(this.#ownSalt, 0))
    if (wrongInSalt > 1) return undefined
    if (wrongInSalt === 1) {
      if (!areEqual(sums, sumsAt(frame, FRAME_SUMS))) return undefined
      const bytes = Buffer.from(frame)
      this.#ownSalt.copy(bytes, FRAME_SALT)
      return { bytes, sums }
    }
    const summed = summedOf(frame)
    const all = candidatesOf(frame, summed, FRAME_SUMS, sums, this.#bigEndian, FRAME_SALT)
    const answers = all.map((candidate) => this.#isFollowed(number, candidate.sums))
    const isProven = answers.includes(true)
    const size = this.#sizeAfter(number)
    const possible = all.filter(
      ({ bytes }, index) => answers[index] === (isProven || answers[index]) && isPossible(bytes, size),
    )
    const [first] = possible
    if (!first || possible.length === 1) return first
    // The checksums do not tell these apart. A page that is written again later may have any of them; nor does it then matter
    // whether the frame ended a transaction.
    const isOneState = possible.every(({ sums: ends }) => areEqual(ends, first.sums))
    const doubtful = [...new Set(possible.map(({ bytes }) => bytes.readUInt32BE(0)))]
    return isOneState ? { ...first, doubtful } : undefined
  }

  /** Pages of the database after the next commit behind this frame that can be read; the file never gets shorter. */
  #sizeAfter(number: number): number {
    for (let later = number + 1; ; later += 1) {
      const frame = this.#frame(later)
      if (!frame || !saltOf(frame).equals(this.#ownSalt)) return Number.POSITIVE_INFINITY
      const size = frame.readUInt32BE(COMMIT_SIZE)
      if (size !== 0) return size
    }
  }

  /** Whether the frame with this number ends with these checksums; `undefined` where nothing says so. */
  #isFollowed(number: number, sums: Sums): boolean | undefined {
    const known = this.#known
    if (known?.sums && number === known.frames && known.salt.equals(this.#ownSalt))
      return areEqual(sums, known.sums)
    const next = this.#frame(number + 1)
    if (!next || !saltOf(next).equals(this.#ownSalt)) return undefined
    return areEqual(this.#sumsOf(next, sums), sumsAt(next, FRAME_SUMS))
  }

  #sumsOf(frame: Buffer, from: Sums): Sums {
    const checksum = new Checksum(this.#bigEndian, from)
    checksum.add(summedOf(frame))
    return checksum
  }

  #frame(number: number): Buffer | undefined {
    if (number < 1) return undefined
    return this.#mended.get(number)?.bytes ?? read(this.#descriptor, FRAME_BYTES, positionOf(number))
  }
}

/** All that `bytes` can have been with one other bit, in what is summed up or in the sums themselves. */
function candidatesOf(
  bytes: Buffer,
  summed: Buffer,
  sumsOffset: number,
  sums: Sums,
  bigEndian: boolean,
  gap: number,
): Mended[] {
  const stored = sumsAt(bytes, sumsOffset)
  const found: Mended[] = []
  if (bitsBetween(sums, stored) === 1) {
    const right = Buffer.from(bytes)
    right.writeInt32BE(sums.first, sumsOffset)
    right.writeInt32BE(sums.second, sumsOffset + 4)
    found.push({ bytes: right, sums: { first: sums.first, second: sums.second } })
  }
  const words = new Checksum(bigEndian).words(summed)
  for (const bit of flippedBits(words, sums, stored)) {
    const right = Buffer.from(bytes)
    // Between what of a frame's header is summed up and the page lie the salts and the sums.
    const isInPage = gap > 0 && bit.word * 4 >= SUMMED_OF_FRAME_HEADER
    flip(right, bit.word * 4 + (isInPage ? FRAME_HEADER_BYTES - SUMMED_OF_FRAME_HEADER : 0), bit, bigEndian)
    found.push({ bytes: right, sums: stored })
  }
  return found
}

function flip(bytes: Buffer, offset: number, { mask }: FlippedBit, bigEndian: boolean): void {
  if (bigEndian) bytes.writeInt32BE(bytes.readInt32BE(offset) ^ mask, offset)
  else bytes.writeInt32LE(bytes.readInt32LE(offset) ^ mask, offset)
}

function summedOf(frame: Buffer): Buffer {
  const summed = Buffer.allocUnsafeSlow(SUMMED_OF_FRAME)
  frame.copy(summed, 0, 0, SUMMED_OF_FRAME_HEADER)
  frame.copy(summed, SUMMED_OF_FRAME_HEADER, FRAME_HEADER_BYTES)
  return summed
}

/** Its page and what it says about a commit are in a database that has `size` pages later. */
function isPossible(frame: Buffer, size: number): boolean {
  const page = frame.readUInt32BE(0)
  const commit = frame.readUInt32BE(COMMIT_SIZE)
  return page >= 1 && page <= size && commit <= size && (commit === 0 || commit >= page)
}

const saltOf = (frame: Buffer): Buffer => frame.subarray(FRAME_SALT, FRAME_SALT + SALT_BYTES)

const areEqual = (one: Sums, other: Sums): boolean => one.first === other.first && one.second === other.second

function read(descriptor: number, length: number, position: number): Buffer | undefined {
  const bytes = Buffer.allocUnsafeSlow(length)
  return readSome(descriptor, bytes, position) < length ? undefined : bytes
}
