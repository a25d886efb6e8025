import { closeSync, constants, fdatasyncSync, openSync, readSync } from 'node:fs'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { isSystemError } from './errors.ts'
import type { Sums } from './flipped-bit.ts'
import { isMarked, setMark } from './open-mark.ts'
import { type PageSum, PageSums, pageSum } from './page-sums.ts'
import { isDiskFailure } from './sqlite-errors.ts'
import {
  FRAME_BYTES,
  FRAME_HEADER_BYTES,
  framesOf,
  HEADER_SALT,
  PAGE_BYTES,
  positionOf,
  readAll,
  readHeader,
  requireFrames,
  SALT_BYTES,
  WalDamaged,
} from './wal.ts'

// Frames that are no farther apart are read together, so many at most: a system call costs more than to copy them.
const NEAR_FRAMES = 4
const FRAMES_AT_ONCE = 64

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
    const header = readHeader(descriptor)
    const salt = header.salt.toString('hex')
    const isSame = added?.salt === salt && added.frames <= frames
    let through: Pick<Added, 'frames' | 'sums'> = isSame ? added : { frames: 0, sums: header.sums }
    const last = new Map<number, number>()
    for (const found of framesOf(descriptor, header, through, frames)) {
      for (const { page, number } of found.frames) last.set(page, number)
      through = { frames: through.frames + found.frames.length, sums: found.sums }
    }
    requireFrames(through.frames, frames)
    noteSums(path, descriptor, last)
    return { ...through, salt }
  } finally {
    closeSync(descriptor)
  }
}

function noteSums(path: string, log: number, last: ReadonlyMap<number, number>): void {
  const sums = PageSums.open(`${path}-sums`)
  if (!sums) return
  try {
    const frames = [...last]
      .map(([page, number]) => ({ page, number }))
      .sort((one, other) => one.number - other.number)
    const block = Buffer.allocUnsafeSlow(FRAMES_AT_ONCE * FRAME_BYTES)
    const noted: Array<[number, PageSum]> = []
    for (let from = 0; from < frames.length; ) {
      const first = frames[from]?.number ?? 0
      const isNear = (at: number): boolean => {
        const number = frames[at]?.number ?? Number.POSITIVE_INFINITY
        return number - (frames[at - 1]?.number ?? 0) <= NEAR_FRAMES && number - first < FRAMES_AT_ONCE
      }
      let end = from + 1
      while (isNear(end)) end += 1
      const length = ((frames[end - 1]?.number ?? first) - first + 1) * FRAME_BYTES
      readAll(log, block.subarray(0, length), positionOf(first))
      for (const { page, number } of frames.slice(from, end)) {
        const at = (number - first) * FRAME_BYTES + FRAME_HEADER_BYTES
        noted.push([page, pageSum(block.subarray(at, at + PAGE_BYTES), page)])
      }
      from = end
    }
    sums.note(noted.sort(([one], [other]) => one - other))
  } finally {
    sums.close()
  }
}

/** Says how far the log is folded in, and folds nothing. */
export const LOG_STATE = 'PRAGMA wal_checkpoint(NOOP)'

/** By a statement of `LOG_STATE`: frames of the log, and how many of them are folded in; -1 of a database without a log. */
export function readLogState(statement: StatementSync): { log: number; checkpointed: number } {
  const { log, checkpointed } = statement.get() ?? {}
  return { log: Number(log ?? -1), checkpointed: Number(checkpointed ?? -1) }
}

/** SQLite counts frames as folded in up to the end of the log only once the database is synced: it lets the log begin anew by that. */
function isFoldedIn(handle: DatabaseSync): boolean {
  const { log, checkpointed } = readLogState(handle.prepare(LOG_STATE))
  return log >= 0 && checkpointed >= log
}

/**
 * Behind a checkpoint: if it came to the end of the log, SQLite has synced the database, and its pages are nothing but what was
 * added up last. What fails here is done by the next: until then the sums of what they were before are accepted, too.
 * @param onMedium synced when it returns
 */
export function settleFold(path: string, handle: DatabaseSync, onMedium = false): void {
  if (!isFoldedIn(handle)) return
  let sums: PageSums | undefined
  try {
    sums = PageSums.open(`${path}-sums`)
    sums?.settle(onMedium)
  } catch (error) {
    if (!isSystemError(error)) throw error
  } finally {
    sums?.close()
  }
}

// SQLite folds the log in and removes it as it closes a file, also one that nobody refers to any more.
const leftOpen: DatabaseSync[] = []

/**
 * Closes a database that this process has open, whose last one folds the log in: not if that would not be right. Then it is left to the
 * end of the process: the log stays, and the next who opens it looks at it.
 */
export function closeFolding(path: string, handle: DatabaseSync, added?: Added): void {
  if (foldToClose(path, handle, added) && takeMarkBack(path, handle)) handle.close()
  else leftOpen.push(handle)
}

/** Whether SQLite may remove the log: a file that says that it is open has one. */
function takeMarkBack(path: string, handle: DatabaseSync): boolean {
  try {
    if (!isMarked(handle)) return true
    // In a fold of its own: a file that says that it was closed does not lack what its log has.
    if (!isFoldedIn(handle)) return false
    setMark(handle, false)
  } catch {
    // A full disk.
    return false
  }
  return foldToClose(path, handle, undefined)
}

/** Folds the log in if there is room and no lock is in the way. @returns whether SQLite may do the same as it closes the file */
function foldToClose(path: string, handle: DatabaseSync, added: Added | undefined): boolean {
  try {
    prepareFold(path, Math.max(0, readLogState(handle.prepare(LOG_STATE)).log), added, true)
  } catch {
    return false
  }
  try {
    handle.exec('PRAGMA wal_checkpoint(PASSIVE)')
    // While the log is still there: whoever dies here finds all in it.
    settleFold(path, handle, true)
  } catch (error) {
    // A lock, or a full disk: the log stays if SQLite cannot fold it in, either, as it closes the file.
    return !isDiskFailure(error)
  }
  return true
}
