import { closeSync, constants, fdatasyncSync, openSync, readSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import type { Sums } from './flipped-bit.ts'
import { type PageSum, PageSums, pageSum } from './page-sums.ts'
import {
  Checksum,
  FRAME_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_SALT,
  FRAME_SUMS,
  HEADER_BYTES,
  HEADER_SALT,
  MAGIC_BIG,
  readAll,
  SALT_BYTES,
  SUMMED_OF_FRAME_HEADER,
  SUMMED_OF_HEADER,
  WalDamaged,
} from './wal.ts'

// Read in one go.
const FRAMES_AT_ONCE = 256

/** How far a log has been added up. */
export interface Added {
  readonly frames: number
  /** Of the log, in hexadecimal: another one begins anew. */
  readonly salt: string
  readonly sums: Sums
}

/** Another log has begun in the place of the one that was to be folded in: all of that is in the database. */
export class LogBegunAnew extends Error {
  constructor() {
    super('the log has begun anew')
    this.name = 'LogBegunAnew'
  }
}

/** What tells a log from all others in its file, in hexadecimal; `undefined` if there is none. */
export function saltOfLog(path: string): string | undefined {
  const descriptor = openSync(`${path}-wal`, constants.O_RDONLY)
  try {
    return saltOf(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function saltOf(descriptor: number): string | undefined {
  const salt = Buffer.alloc(SALT_BYTES)
  return readSync(descriptor, salt, 0, SALT_BYTES, HEADER_SALT) === SALT_BYTES
    ? salt.toString('hex')
    : undefined
}

/**
 * As `prepareFold`, beside somebody who writes: the frames are of the log with this salt.
 * @throws LogBegunAnew if another one has taken its place; WalDamaged
 */
export function prepareFoldOf(
  salt: string | undefined,
  ...[path, frames, added, isFirst]: Parameters<typeof prepareFold>
): Added | undefined {
  const requireSame = (): void => {
    if (saltOfLog(path) !== salt) throw new LogBegunAnew()
  }
  requireSame()
  try {
    return prepareFold(path, frames, added, isFirst)
  } catch (error) {
    // What begins anew has its header first, and its frames behind that.
    if (error instanceof WalDamaged) requireSame()
    throw error
  }
}

/**
 * Before the first `frames` frames of a log are folded into its database: they are whole, and the checksums of the pages that come of
 * it are on the medium. Nobody may fold in anything else meanwhile.
 * @param added how far that was done before
 * @param isFirst nobody knows whether what was added up before was folded in: the log is synced, so that it has those pages whatever
 * becomes of this
 * @throws WalDamaged if a frame is not what was written: it must not get into the database
 */
export function prepareFold(
  path: string,
  frames: number,
  added: Added | undefined,
  isFirst: boolean,
): Added | undefined {
  if (frames === 0) return undefined
  const descriptor = openSync(`${path}-wal`, constants.O_RDWR)
  try {
    if (isFirst) fdatasyncSync(descriptor)
    const header = Buffer.allocUnsafeSlow(HEADER_BYTES)
    readAll(descriptor, header, 0)
    const salt = header.subarray(HEADER_SALT, HEADER_SALT + SALT_BYTES)
    const isSame = added?.salt === salt.toString('hex') && added.frames <= frames
    const bigEndian = header.readUInt32BE(0) === MAGIC_BIG
    const checksum = new Checksum(bigEndian, isSame ? added.sums : undefined)
    if (!isSame) {
      checksum.add(header.subarray(0, SUMMED_OF_HEADER))
      if (!checksum.equals(header, SUMMED_OF_HEADER)) throw new WalDamaged('its header is damaged')
    }
    const last = new Map<number, number>()
    const block = Buffer.allocUnsafeSlow(FRAMES_AT_ONCE * FRAME_BYTES)
    for (let from = isSame ? added.frames : 0; from < frames; from += FRAMES_AT_ONCE) {
      const count = Math.min(FRAMES_AT_ONCE, frames - from)
      readAll(descriptor, block.subarray(0, count * FRAME_BYTES), HEADER_BYTES + from * FRAME_BYTES)
      const words = checksum.words(block)
      for (let index = 0; index < count; index += 1) {
        const at = index * FRAME_BYTES
        const word = at / 4
        checksum.addWords(words, word, word + SUMMED_OF_FRAME_HEADER / 4)
        checksum.addWords(words, word + FRAME_HEADER_BYTES / 4, word + FRAME_BYTES / 4)
        const isOfThisLog = block.compare(salt, 0, SALT_BYTES, at + FRAME_SALT, at + FRAME_SUMS) === 0
        if (!isOfThisLog || !checksum.equals(block, at + FRAME_SUMS))
          throw new WalDamaged(`frame ${from + index + 1} of ${frames} is not what was written`)
        last.set(block.readUInt32BE(at), from + index + 1)
      }
    }
    noteSums(path, descriptor, last)
    return {
      frames,
      salt: salt.toString('hex'),
      sums: { first: checksum.first, second: checksum.second },
    }
  } finally {
    closeSync(descriptor)
  }
}

function noteSums(path: string, log: number, last: ReadonlyMap<number, number>): void {
  const sums = PageSums.open(`${path}-sums`)
  if (!sums) return
  try {
    const bytes = Buffer.allocUnsafeSlow(FRAME_BYTES - FRAME_HEADER_BYTES)
    const noted = [...last]
      .sort(([one], [other]) => one - other)
      .map(([page, number]): [number, PageSum] => {
        readSync(log, bytes, 0, bytes.length, HEADER_BYTES + (number - 1) * FRAME_BYTES + FRAME_HEADER_BYTES)
        return [page, pageSum(bytes, page)]
      })
    sums.note(noted)
  } finally {
    sums.close()
  }
}

/** Closes a database that this process has open, whose last one folds the log in: not if that would not be right. */
export function closeFolding(path: string, handle: DatabaseSync, added?: Added): void {
  try {
    const log = handle.prepare('PRAGMA wal_checkpoint(NOOP)').get() as { log?: number } | undefined
    prepareFold(path, Math.max(0, Number(log?.log ?? 0)), added, true)
  } catch {
    // Left to the end of the process: the log stays, and the next who opens it looks at it.
    return
  }
  handle.close()
}
