import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readSync,
  statSync,
  write,
  writeSync,
} from 'node:fs'
import { uptime } from 'node:os'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { currentBoot } from './boot.ts'
import { isSystemError } from './errors.ts'
import { isMarkedFile } from './open-mark.ts'
import { checkLog, type KnownLog, type LostFrames, saltOfLog } from './log-check.ts'
import { synced } from './synced.ts'
import { readLogIndex } from './wal-index.ts'

// Two places, in turn: one that was being written when the power went, or is damaged, leaves the other.
const SLOT_BYTES = 4096
const HEAD_BYTES = 8

// A loss that changed more pages than this is not told page by page.
const MOST_PAGES = 300

/** What is written down beside a database, so that it knows when it is not what it was. */
interface Testimony {
  readonly number: number
  /** The boot since which SQLite's index of the log is what it has been told. */
  readonly boot: string | undefined
  /** What of the log is on the disk. */
  readonly log: KnownLog | undefined
  readonly lost: LostFrames | undefined
  /** The file has pages that are damaged. */
  readonly isDamaged?: boolean
}

const NOTHING: Testimony = { number: 0, boot: undefined, log: undefined, lost: undefined }

/**
 * A small file beside a database that says what of its log the disk has, and which boot SQLite's own index of the log (which the
 * page cache keeps after a kill) belongs to. Without it, damage in the log looks like the end of it.
 */
export class Witness {
  readonly path: string
  #descriptor: number | undefined
  #now: Testimony
  #writing: Promise<void> | undefined
  #isWritten = true
  #closed = false
  /** The place that a thread is writing to. */
  #late: number | undefined
  /** The last number that was used, also for what could not be written. */
  #lastNumber: number

  private constructor(path: string, now: Testimony) {
    this.path = path
    this.#now = now
    this.#lastNumber = now.number
  }

  /** Changes nothing. */
  static read(path: string): Witness {
    let descriptor: number
    try {
      descriptor = openSync(path, constants.O_RDONLY)
    } catch (error) {
      if (isSystemError(error) && error.code === 'ENOENT') return new Witness(path, NOTHING)
      throw error
    }
    try {
      const slots = [0, 1].map((slot) => readSlot(descriptor, slot)).filter((slot) => slot !== undefined)
      const [newest = NOTHING] = slots.sort((one, other) => other.number - one.number)
      return new Witness(path, newest)
    } finally {
      closeSync(descriptor)
    }
  }

  /** It says something: it was written, and can be read. */
  get isThere(): boolean {
    return this.#now.number > 0
  }

  /** Whether SQLite's index of the log is of this boot. */
  get isOfThisBoot(): boolean {
    return this.#now.boot === currentBoot()
  }

  /** What of the log the disk must have; `undefined` where nothing is certain. */
  get claim(): KnownLog | undefined {
    return this.#now.log
  }

  /** What was found to be lost, and nobody has taken note of. */
  get lost(): LostFrames | undefined {
    return this.#now.lost
  }

  /** Pages of the file were found to be damaged, and what went on with it may have written them again. */
  get isDamaged(): boolean {
    return this.#now.isDamaged === true
  }

  /** On the medium when it returns. @throws the error of open(2), write(2) or fdatasync(2) */
  note(change: Partial<Omit<Testimony, 'number'>>): void {
    const descriptor = this.#write(change)
    fdatasyncSync(descriptor)
  }

  /**
   * On the medium some time later: whoever looks meanwhile knows less.
   * @param byThread where the disk may hang: nothing waits for this write, and this thread is everybody's
   */
  noteLater(change: Partial<Omit<Testimony, 'number'>>, byThread: boolean): void {
    this.#now = { ...this.#now, ...change }
    this.#isWritten = false
    this.#writing ??= this.#writeAll(byThread).finally(() => {
      this.#writing = undefined
    })
  }

  async #writeAll(byThread: boolean): Promise<void> {
    // What fails is told by the database's own syncs.
    while (!this.#isWritten && !this.#closed) {
      try {
        await synced(fdatasync, byThread ? await this.#writeByThread() : this.#write({}))
      } catch {
        return
      }
    }
  }

  async #writeByThread(): Promise<number> {
    const { descriptor, next, at } = this.#next({})
    this.#isWritten = true
    this.#late = at
    try {
      await written(descriptor, encode(next), at)
    } finally {
      this.#late = undefined
    }
    this.#now = { ...this.#now, number: Math.max(this.#now.number, next.number) }
    return descriptor
  }

  /** What is being written goes on, and is not waited for: nothing depends on it. */
  close(): void {
    this.#closed = true
    const descriptor = this.#descriptor
    this.#descriptor = undefined
    if (descriptor === undefined) return
    if (this.#writing) void this.#writing.finally(() => closeSync(descriptor))
    else closeSync(descriptor)
  }

  #write(change: Partial<Omit<Testimony, 'number'>>): number {
    const { descriptor, next, at } = this.#next(change)
    writeSync(descriptor, encode(next), 0, SLOT_BYTES, at)
    this.#now = next
    this.#isWritten = true
    return descriptor
  }

  /** What is to be written, and where: nobody relies on it before that is done. */
  #next(change: Partial<Omit<Testimony, 'number'>>): { descriptor: number; next: Testimony; at: number } {
    const descriptor = (this.#descriptor ??= openOrMake(this.path))
    const place = (number: number): number => (number % 2) * SLOT_BYTES
    this.#lastNumber += 1
    // Nothing newer goes to where an older one may still arrive.
    if (place(this.#lastNumber) === this.#late) this.#lastNumber += 1
    const next = { ...this.#now, ...change, number: this.#lastNumber }
    return { descriptor, next, at: place(next.number) }
  }
}

const written = (descriptor: number, bytes: Buffer, at: number): Promise<void> =>
  new Promise((resolve, reject) =>
    write(descriptor, bytes, 0, bytes.length, at, (error) => (error ? reject(error) : resolve())),
  )

function openOrMake(path: string): number {
  try {
    return openSync(path, constants.O_RDWR)
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOENT') throw error
  }
  const descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  // Room for both places, whatever fills the disk later.
  writeSync(descriptor, Buffer.alloc(2 * SLOT_BYTES), 0, 2 * SLOT_BYTES, 0)
  syncDirectoryOf(path)
  return descriptor
}

function syncDirectoryOf(path: string): void {
  const directory = openSync(dirname(path), constants.O_RDONLY)
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

function encode({ number, boot, log, lost, isDamaged }: Testimony): Buffer {
  const text = Buffer.from(
    JSON.stringify({
      number,
      boot,
      isDamaged,
      log: log && { ...log, salt: log.salt.toString('hex') },
      lost: lost && { ...lost, pages: (lost.pages?.length ?? 0) > MOST_PAGES ? undefined : lost.pages },
    }),
  )
  const slot = Buffer.alloc(SLOT_BYTES)
  slot.writeUInt32LE(text.length, 0)
  slot.writeUInt32LE(crc32(text), 4)
  text.copy(slot, HEAD_BYTES)
  return slot
}

function readSlot(descriptor: number, slot: number): Testimony | undefined {
  const bytes = Buffer.alloc(SLOT_BYTES)
  readSync(descriptor, bytes, 0, SLOT_BYTES, slot * SLOT_BYTES)
  const length = bytes.readUInt32LE(0)
  if (length === 0 || length > SLOT_BYTES - HEAD_BYTES) return undefined
  const text = bytes.subarray(HEAD_BYTES, HEAD_BYTES + length)
  if (crc32(text) !== bytes.readUInt32LE(4)) return undefined
  // The checksum holds, so this is what `encode` wrote.
  const { log, ...rest } = JSON.parse(text.toString()) as Omit<Testimony, 'log'> & {
    log?: Omit<KnownLog, 'salt'> & { salt: string }
  }
  return { ...rest, log: log && { ...log, salt: Buffer.from(log.salt, 'hex') } }
}

/**
 * What is to be done before SQLite opens a database, which would take damage in its log for the end of it. A file that has checksums
 * beside it has had a witness: that is made first. Where it is gone, or cannot be read, only an index of this boot says what the log
 * must have, and without one nobody can tell whether something is lost. A file that says that it is open has had a witness, too, and has
 * a log.
 * @returns the witness, what was put right, and the pages that the log has
 * @throws LogBeyondRepair
 */
export function examine(path: string): {
  witness: Witness
  repairs: readonly string[]
  pages: ReadonlySet<number>
  isMarkedFile: boolean
} {
  const witness = Witness.read(`${path}-witness`)
  const log = `${path}-wal`
  const isMarked = isMarkedFile(path)
  const isGone = !witness.isThere && (isMarked || existsSync(`${path}-sums`))
  const hasNoLog = isMarked && !existsSync(log)
  const ofThisBoot = isGone ? changedSinceBoot(`${path}-shm`) : witness.isOfThisBoot
  const index = ofThisBoot ? readLogIndex(`${path}-shm`) : undefined
  const found = checkLog(log, index, witness.claim)
  const { repairs, pages } = found
  // Whether the file was closed, and so has no log, or the log went with the witness, nobody can tell where the file has no mark.
  const isUnknown = (isGone || hasNoLog) && !index
  const lost = found.lost ?? (isUnknown ? { frames: 0, pages: undefined } : undefined)
  if (lost) {
    const before = witness.lost?.frames ?? 0
    // SQLite's index goes with the first who opens the database.
    witness.note({ boot: undefined, log: undefined, lost: { ...lost, frames: lost.frames + before } })
  }
  return { witness, repairs, pages, isMarkedFile: isMarked }
}

/** By its time, which SQLite moves as it opens the database: an index that an earlier boot left says less than there was. */
function changedSinceBoot(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat !== undefined && stat.mtimeMs > Date.now() - uptime() * 1000
}

/** The database is open: SQLite's index is of this boot, and has what is in the log, which has its name on the medium. */
export function begin(path: string, witness: Witness): void {
  // A power cut must not take it once the file says that there is one.
  syncDirectoryOf(path)
  const { claim } = witness
  const isSame = claim && saltOfLog(`${path}-wal`)?.equals(claim.salt)
  witness.note({ boot: currentBoot(), log: isSame ? claim : undefined })
}
