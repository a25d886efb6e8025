import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fsync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { dirname, extname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import type { CheckpointOrder, CheckpointResult } from './checkpoint-thread.ts'
import { FsError, isSystemError, reasonOf } from './errors.ts'
import type { FailedSyncs } from './failed-syncs.ts'
import { PageSums } from './page-sums.ts'
import { synced } from './synced.ts'
import { type Added, closeFolding, prepareFold, saltOfLog } from './fold.ts'
import { knownLog, type LostFrames } from './log-check.ts'
import { rewriteWal, WalDamaged } from './wal.ts'
import { begin, examine, type Witness } from './witness.ts'

/** The file is not what this program wrote: overwritten, truncated, or of another program or a newer format. */
export class DatabaseDamaged extends Error {
  constructor(path: string, why: string, options?: ErrorOptions) {
    super(`${path} cannot be used: ${why}`, options)
    this.name = 'DatabaseDamaged'
  }
}

export interface DatabaseOptions {
  /** Identifies the program's file (PRAGMA application_id), so that a foreign file is refused, not filled. */
  readonly applicationId: number
  /** Format of the schema; a file with a higher one was written by a newer ferryfs and is refused. */
  readonly format: number
  /** Creates the schema in an empty file. */
  readonly schema: string
  /** By format: what makes a file of the format before it one of this format. A file older than all of them is refused. */
  readonly upgrades?: Readonly<Record<number, string>>
  /**
   * Read the whole file once and compare its structure (time grows with the file). `false`: nor are its pages compared with their
   * checksums.
   */
  readonly check?: boolean
  /** The file has to be there, in this format, and nothing in it changes. */
  readonly readOnly?: boolean
  /**
   * A file that is of use only once it is whole, and is made anew otherwise: without a log beside it, and nothing of it is on the
   * medium before `flush`. A crash leaves anything.
   */
  readonly bulk?: boolean
  /** Hears of syncs of the file and its log that fail. */
  readonly failedSyncs?: FailedSyncs
  /**
   * The log in the page cache is not what was written, and the disk lacks it as well: nothing that was committed since the last
   * flush can be relied on, and every change and flush fails from now on. To be opened anew, which goes on from what is whole.
   */
  onBroken?(error: unknown): void
  /** Hears of damage that was found in the file or its log, and put right: what it was in. */
  onRepaired?(what: string): void
  /** Pages are damaged beyond that, and it goes on without them (`isDamaged`); not given: the file is refused. */
  onDamagedPages?(why: string): void
}

// A WAL that grew past this many bytes is folded into the database by the checkpoint thread.
const CHECKPOINT_BYTES = 16 * 1024 * 1024
const PAGE_BYTES = 4096
const WAL_FRAME_BYTES = PAGE_BYTES + 24

// "The WAL-Index File Format" of SQLite's documentation: how many frames of the log have been folded in (nBackfill).
const FOLDED_IN_OFFSET = 96

// What SQLite and this program have beside a database's file.
const BESIDE = ['-wal', '-shm', '-witness', '-sums', '-wal-damaged'] as const

// What was committed while the thread worked is folded in by the main thread if it is no more than this, or the log has become
// so long; else the thread goes on with it.
const LITTLE_FRAMES = 1024
const LONG_FRAMES = 8192

// sqlite3.h; the low byte of an extended error code.
const SQLITE_IOERR = 10
const SQLITE_FULL = 13

function isOf(error: unknown, code: number): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === code
}

/** A full disk has no room for what is beside the file: then it does without until the next start. */
function unlessFull(body: () => void): void {
  try {
    body()
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOSPC') throw error
  }
}

const isDiskFailure = (error: unknown): boolean =>
  isOf(error, SQLITE_IOERR) || (isSystemError(error) && error.code === 'EIO')

/**
 * The statements that bring a file of this format to the program's.
 * @throws DatabaseDamaged if the file is of a newer format, or of one that nothing leads on from
 */
function upgradeOf(path: string, format: number, options: DatabaseOptions): string {
  const refuse = (advice: string): never => {
    throw new DatabaseDamaged(path, `its format is ${format}, this ferryfs knows ${options.format}${advice}`)
  }
  if (format > options.format) refuse('; use the newer ferryfs that wrote it')
  const steps: string[] = []
  for (let next = format + 1; next <= options.format; next += 1) {
    steps.push(options.upgrades?.[next] ?? refuse(''))
  }
  return steps.join(';')
}

/** What waits for the flush of the commit with this number. */
interface Follower {
  readonly commit: number
  run(): void
}

// How long what waits for a flush waits for others to share it with, in milliseconds: ten flushes a second at most, where
// no application asks for one.
const SHARED_FLUSH_MS = 100

// What was committed is flushed after so many milliseconds, whoever asks for it or nobody: ext4's commit interval, so that a
// power loss takes no more from an application that never syncs than it would on the volume.
const LONGEST_UNFLUSHED_MS = 5000

/**
 * A SQLite file with one writer (this process) and two levels of safety. Committed: in the page cache, so safe
 * against `kill -9`; costs no sync. Flushed: `flush()` resolved, so safe against power loss. In between, a power
 * loss takes back whole transactions from the end, never a part of one (WAL with synchronous=NORMAL).
 */
export class Database {
  readonly path: string
  readonly #handle: DatabaseSync
  readonly #begin: StatementSync
  readonly #commit: StatementSync
  readonly #rollback: StatementSync
  readonly #savepoint: StatementSync
  readonly #release: StatementSync
  readonly #rollbackTo: StatementSync
  readonly #frameCount: StatementSync
  readonly #options: Pick<DatabaseOptions, 'failedSyncs' | 'onBroken' | 'bulk'>
  readonly #witness: Witness
  readonly #readOnly: boolean
  readonly #hasDamage: boolean
  #depth = 0
  #walDescriptor: number | undefined
  // Once open it stays so: to close it would drop SQLite's locks on the same file.
  #indexDescriptor: number | undefined
  // The log may not be on the disk though the kernel holds it for written: a sync failed, or a predecessor died that may
  // have met one. It is written anew before the next flush, and before that no checkpoint may rely on it.
  #mustRewrite: boolean
  // A sync has failed: no flush relies on the log any more.
  #cautious = false
  #broken: unknown
  // What a killed process committed counts as one that is not flushed.
  #commits = 1
  #flushed = 0
  #flushing: Promise<void> | undefined
  #followers: Follower[] = []
  #flushTimer: NodeJS.Timeout | undefined
  #flushAtMs = Number.POSITIVE_INFINITY
  #checkpointer: Worker | undefined
  #reader: DatabaseSync | undefined
  #added: Added | undefined
  // What was added up last was not folded in, as far as is known.
  #isFirstFold = true
  #checkpointRunning = false
  /** The log is folded in when it has grown past this. */
  #checkpointBytes = CHECKPOINT_BYTES
  /** It must not outgrow this where it can be helped. */
  #mostLogBytes = Number.POSITIVE_INFINITY
  #closed = false
  #closing: Promise<void> | undefined

  private constructor(
    path: string,
    handle: DatabaseSync,
    witness: Witness,
    options: DatabaseOptions,
    isDamaged: boolean,
  ) {
    this.#hasDamage = isDamaged
    this.path = path
    this.#handle = handle
    this.#witness = witness
    this.#options = options
    this.#frameCount = handle.prepare('PRAGMA wal_checkpoint(NOOP)')
    this.#readOnly = options.readOnly === true
    this.#mustRewrite = !options.readOnly && !options.bulk
    this.#begin = handle.prepare('BEGIN IMMEDIATE')
    this.#commit = handle.prepare('COMMIT')
    this.#rollback = handle.prepare('ROLLBACK')
    this.#savepoint = handle.prepare('SAVEPOINT attempt')
    this.#release = handle.prepare('RELEASE attempt')
    this.#rollbackTo = handle.prepare('ROLLBACK TO attempt')
  }

  /** @throws DatabaseDamaged if the file is not a healthy one of this program and format */
  static open(path: string, options: DatabaseOptions): Database {
    const fresh = !existsSync(path)
    let handle: DatabaseSync | undefined
    try {
      const { readOnly = false } = options
      if (existsSync(`${path}-witness`) && (fresh || statSync(path).size === 0))
        throw new DatabaseDamaged(path, 'it is gone or empty, and what is beside it is there')
      const { witness, repairs, pages } = examine(path)
      for (const repair of repairs) options.onRepaired?.(repair)
      const isDamaged = options.check !== false && checkPages(path, pages, witness, options)
      handle = new DatabaseSync(path, { timeout: 5000, readOnly })
      const pragma = (name: string): unknown =>
        Object.values(handle?.prepare(`PRAGMA ${name}`).get() ?? {})[0]
      const tables = handle.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number }
      if (!readOnly && tables.n === 0 && (fresh || pragma('application_id') === 0)) {
        handle.exec(
          `BEGIN IMMEDIATE; ${options.schema}; PRAGMA application_id=${options.applicationId};` +
            `PRAGMA user_version=${options.format}; COMMIT`,
        )
      }
      if (pragma('application_id') !== options.applicationId) {
        throw new DatabaseDamaged(path, 'it belongs to another program')
      }
      const format = Number(pragma('user_version'))
      const upgrade = upgradeOf(path, format, options)
      if (upgrade && readOnly)
        throw new DatabaseDamaged(
          path,
          `its format is ${format}, which this ferryfs brings up to date when it mounts`,
        )
      // Only now is it ours to change.
      if (!readOnly)
        handle.exec(
          options.bulk
            ? 'PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF'
            : 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0',
        )
      if (!readOnly && !options.bulk && !existsSync(`${path}-sums`)) {
        // Its pages are added up while nobody has it open: to close another descriptor of it would drop SQLite's locks.
        if (witness.claim) witness.note({ log: undefined })
        handle.close()
        unlessFull(() => PageSums.make(`${path}-sums`, path))
        handle = new DatabaseSync(path, { timeout: 5000 })
        handle.exec('PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0')
      }
      if (upgrade) handle.exec(`BEGIN IMMEDIATE; ${upgrade}; PRAGMA user_version=${options.format}; COMMIT`)
      handle.exec('PRAGMA cache_size=-32768; PRAGMA temp_store=MEMORY')
      if (options.check) {
        const verdict = pragma('quick_check(1)')
        if (verdict !== 'ok') throw new DatabaseDamaged(path, String(verdict))
      }
      if (!readOnly && !options.bulk) unlessFull(() => begin(path, witness))
      return new Database(path, handle, witness, options, isDamaged)
    } catch (error) {
      try {
        if (handle?.isOpen) closeFolding(path, handle)
      } catch {
        // The first error is the one that counts.
      }
      if (error instanceof DatabaseDamaged) throw error
      throw new DatabaseDamaged(path, error instanceof Error ? error.message : String(error), {
        cause: error,
      })
    }
  }

  /** A statement whose integers come back as bigint when `bigints`, else as number. */
  prepare(sql: string, bigints = false): StatementSync {
    const statement = this.#handle.prepare(sql)
    if (bigints) statement.setReadBigInts(true)
    return statement
  }

  exec(sql: string): void {
    this.#handle.exec(sql)
  }

  /**
   * Runs `body` in one transaction; an inner call joins the outer one. Committed when this returns.
   * @throws FsError ENOSPC if the disk is full, EIO if it fails; nothing was changed then
   */
  transaction<T>(body: () => T): T {
    if (this.#depth > 0) return body()
    this.requireWhole()
    this.#begin.run()
    this.#depth = 1
    let result: T
    try {
      result = body()
      this.#commit.run()
    } catch (error) {
      try {
        this.#rollback.run()
      } catch {
        // SQLite has rolled back already where it had to (disk full, I/O error).
      }
      if (isOf(error, SQLITE_FULL))
        throw new FsError('ENOSPC', `the disk of ${this.path} is full; make room there`, { cause: error })
      if (!isOf(error, SQLITE_IOERR)) throw error
      this.#diskFailed(error)
      throw new FsError('EIO', `the disk of ${this.path} fails: ${reasonOf(error)}`, { cause: error })
    } finally {
      this.#depth = 0
    }
    this.#committed()
    return result
  }

  /**
   * A part of a transaction (call it in one) that may fail alone: what it changed is taken back, `onError` says how to go on.
   * @throws what `body` threw, if the whole transaction is lost with it (SQLite rolls back by itself on a full disk)
   */
  attempt<T>(body: () => T, onError: (error: unknown) => T): T {
    this.#savepoint.run()
    let result: T
    try {
      result = body()
    } catch (error) {
      // Whoever went on now would write outside of any transaction, and each statement for good.
      if (!this.#handle.isTransaction) throw error
      this.#rollbackTo.run()
      this.#release.run()
      return onError(error)
    }
    this.#release.run()
    return result
  }

  get inTransaction(): boolean {
    return this.#depth > 0
  }

  /**
   * Resolves once everything committed before the call is on the medium. Concurrent calls share one sync.
   * @throws FsError EIO or ENOSPC if that failed. What was committed stays so, and is written anew for the next flush.
   */
  async flush(): Promise<void> {
    const wanted = this.#commits
    while (this.#flushed < wanted || this.#mustRewrite) {
      // A sync already under way may have started before our last commit: wait for it, then look again.
      this.#flushing ??= this.#sync()
      await this.#flushing
    }
  }

  /**
   * Runs `follow` once everything committed so far is safe against power loss; never if that fails, or the file is closed
   * before. For what cannot be taken
   * back: what the last flushed state still needs must not be destroyed before. Those who ask within a while share a flush.
   */
  afterFlush(follow: () => void): void {
    if (this.#flushed >= this.#commits) follow()
    else {
      this.#followers.push({ commit: this.#commits, run: follow })
      this.#flushWithin(SHARED_FLUSH_MS)
    }
  }

  /** The number of the last commit; what belongs to it is safe against power loss once `isFlushed` of it. */
  get lastCommit(): number {
    return this.#commits
  }

  isFlushed(commit: number): boolean {
    return commit <= this.#flushed
  }

  /** What had been committed, and damage took: found when it was opened, by this process or one before. */
  get lost(): LostFrames | undefined {
    return this.#witness.lost
  }

  /** It has, or had, pages that are not what was written: what is not found in it may have been there. */
  get isDamaged(): boolean {
    return this.#hasDamage || this.#witness.isDamaged
  }

  /** What was lost is, from now on, damage that stays. */
  noteDamaged(): void {
    this.#witness.note({ lost: undefined, isDamaged: true })
  }

  /** It is written down elsewhere what was lost. */
  forgetLost(): void {
    this.#witness.note({ lost: undefined })
  }

  /** The same at once, in this thread. For a start, before anybody is served. @throws FsError as `flush` */
  flushNow(): void {
    try {
      this.requireWhole()
      const descriptor = openSync(this.#log, 'r+')
      try {
        if (this.#mustRewrite) this.#rewrite(descriptor)
        fdatasyncSync(descriptor)
      } finally {
        closeSync(descriptor)
      }
    } catch (error) {
      throw this.#notSynced(error)
    }
    this.#hasFlushed(this.#commits)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#followers = []
    // SQLite folds the log in when it closes the file: what the log says has to be on the disk by then.
    if (this.#mustRewrite) await this.flush().catch(() => undefined)
    this.#closed = true
    clearTimeout(this.#flushTimer)
    await this.#flushing?.catch(() => undefined)
    await this.#checkpointer?.terminate()
    if (this.#walDescriptor !== undefined) closeSync(this.#walDescriptor)
    this.#walDescriptor = undefined
    this.#letGo()
    this.#reader?.close()
    if (this.#readOnly) this.#handle.close()
    else closeFolding(this.path, this.#handle, this.#added)
    if (this.#indexDescriptor !== undefined) closeSync(this.#indexDescriptor)
  }

  /** SQLite folds the log in and removes it when it closes the file: it is not missing then. */
  #letGo(): void {
    try {
      if (!this.#readOnly && !this.#options.bulk) this.#witness.note({ log: undefined })
    } catch {
      // A disk that fails: at worst the next start says that something is lost.
    }
    this.#witness.close()
  }

  async #sync(): Promise<void> {
    const covers = this.#commits
    try {
      this.requireWhole()
      const descriptor = await this.#openLog()
      if (this.#mustRewrite) this.#rewrite(descriptor)
      const log = this.#options.bulk ? undefined : knownLog(descriptor, this.#frames)
      await synced(fdatasync, descriptor)
      if (this.#cautious) await this.#fold(descriptor)
      else if (log) this.#witness.noteLater({ log })
    } catch (error) {
      throw this.#notSynced(error)
    } finally {
      this.#flushing = undefined
    }
    this.#hasFlushed(covers)
  }

  #hasFlushed(through: number): void {
    this.#flushed = Math.max(this.#flushed, through)
    const ready = this.#followers.filter(({ commit }) => commit <= this.#flushed)
    this.#followers = this.#followers.filter(({ commit }) => commit > this.#flushed)
    for (const { run } of ready) run()
  }

  #notSynced(error: unknown): FsError {
    this.#diskFailed(error)
    const code = error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? 'ENOSPC' : 'EIO'
    return new FsError(code, `${this.path} could not be synced to its disk`, { cause: error })
  }

  /**
   * A frame appended to the log lies in the page cache of that file whoever opened it, so a descriptor of our own flushes it
   * off the main thread. (Closing it drops no lock: SQLite's lie on the other two files.)
   */
  async #openLog(): Promise<number> {
    if (this.#walDescriptor !== undefined) return this.#walDescriptor
    const descriptor = openSync(this.#log, 'r+')
    try {
      // SQLite made the file and syncs its name with its own first sync of it, which may never come.
      const directory = openSync(dirname(this.path), 'r')
      await synced(fsync, directory).finally(() => closeSync(directory))
    } catch (error) {
      closeSync(descriptor)
      throw error
    }
    this.#walDescriptor = descriptor
    return descriptor
  }

  /**
   * A sync failed, of the log or, in a checkpoint, of the database. The pages that did not reach the disk are clean now, so no
   * later sync would write them: the log is written anew, at once, while the page cache still has it, and all that is in it
   * is folded into the database once more. (SQLite syncs the database only where it comes to the end of the log, and would not
   * write again what it had folded in before.)
   */
  #diskFailed(error: unknown): void {
    if (this.#broken !== undefined || this.#options.bulk) return
    this.#options.failedSyncs?.note(
      this.path,
      `a sync failed: ${reasonOf(error)}; what it was for was written anew`,
      error,
    )
    this.#mustRewrite = true
    this.#cautious = true
    try {
      this.#indexDescriptor ??= openSync(`${this.path}-shm`, 'r+')
      writeSync(this.#indexDescriptor, Buffer.alloc(4), 0, 4, FOLDED_IN_OFFSET)
      if (this.#walDescriptor !== undefined) this.#rewrite(this.#walDescriptor)
    } catch {
      // The next flush tries again, and fails if it cannot.
    }
  }

  /** @throws WalDamaged; the error of read(2) or write(2): it is tried again by the next flush */
  #rewrite(descriptor: number): void {
    try {
      rewriteWal(descriptor, this.#frames)
      this.#mustRewrite = false
    } catch (error) {
      if (error instanceof WalDamaged) this.#break(error)
      throw error
    }
  }

  #break(error: unknown): void {
    this.#broken = error
    this.#options.failedSyncs?.note(this.path, `what was committed last is lost: ${reasonOf(error)}`, error)
    this.#options.onBroken?.(error)
  }

  /** @throws FsError EIO if the disk has lost some of what was committed (`onBroken`) */
  requireWhole(): void {
    if (this.#broken === undefined) return
    throw new FsError('EIO', `the disk has lost a part of ${this.path}`, { cause: this.#broken })
  }

  /** Where what was committed lies before it is flushed. */
  get #log(): string {
    return this.#options.bulk ? this.path : `${this.path}-wal`
  }

  /** The log finds no room on its disk beyond so many bytes: it is folded in before it gets there. */
  boundLog(bytes: number): void {
    this.#checkpointBytes = Math.min(CHECKPOINT_BYTES, bytes / 2)
    this.#mostLogBytes = (bytes * 3) / 4
  }

  /** Has the log begin anew, in this thread: for a start, or where it has no more room. */
  foldLog(): void {
    if (this.#closed || this.#depth > 0 || this.#mustRewrite || this.#cautious) return
    try {
      this.#added = prepareFold(this.path, this.#frames, this.#added, this.#isFirstFold)
      this.#isFirstFold = true
      this.#handle.exec('PRAGMA wal_checkpoint(PASSIVE)')
      this.#isFirstFold = false
    } catch (error) {
      this.#notFolded(error)
    }
  }

  /** Bytes in pages of the file with nothing in them. */
  get emptyBytes(): number {
    const pages = this.#handle.prepare('PRAGMA freelist_count').get() as
      | { freelist_count?: number }
      | undefined
    return Number(pages?.freelist_count ?? 0) * PAGE_BYTES
  }

  /** Frames of the log. */
  get #frames(): number {
    const log = this.#frameCount.get() as { log?: number } | undefined
    return Math.max(0, Number(log?.log ?? 0))
  }

  /** Everything in the log is in the file. */
  get #isFoldedIn(): boolean {
    const log = this.#frameCount.get() as { log?: number; checkpointed?: number } | undefined
    return log !== undefined && Number(log.checkpointed) >= Number(log.log)
  }

  /**
   * Where a sync has failed: folds the log into the database and empties it, in one turn, so that what is acknowledged from
   * then on lies in another place of the disk than the one that failed. The first try may only tell SQLite's own descriptor of
   * the failure that is known here.
   */
  async #fold(descriptor: number): Promise<void> {
    while (this.#checkpointRunning)
      await new Promise((resolve) => this.#checkpointer?.once('message', resolve))
    this.#witness.note({ log: undefined })
    prepareFold(this.path, this.#frames, undefined, true)
    try {
      this.#handle.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      this.#handle.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    }
    // Frames that came back with a power loss would be older than the database.
    await synced(fsync, descriptor)
  }

  /** A flush that nobody waits for. One that fails is met again by the next who does. */
  #flushWithin(ms: number): void {
    if (this.#closed) return
    const at = performance.now() + ms
    if (this.#flushAtMs <= at) return
    clearTimeout(this.#flushTimer)
    this.#flushAtMs = at
    this.#flushTimer = setTimeout(() => {
      this.#flushAtMs = Number.POSITIVE_INFINITY
      this.flush().catch(() => {
        if (this.#followers.length > 0) this.#flushWithin(LONGEST_UNFLUSHED_MS)
      })
    }, ms)
    this.#flushTimer.unref()
  }

  #committed(): void {
    this.#commits += 1
    if (this.#options.bulk) return
    this.#flushWithin(LONGEST_UNFLUSHED_MS)
    const isBounded = this.#mostLogBytes < CHECKPOINT_BYTES
    if ((this.#commits % 64 !== 0 && !isBounded) || this.#checkpointRunning || this.#closed) return
    if (this.#mustRewrite || this.#cautious) return
    const logBytes = this.#frames * WAL_FRAME_BYTES
    if (logBytes >= this.#mostLogBytes) this.foldLog()
    if (logBytes < this.#checkpointBytes || logBytes >= this.#mostLogBytes) return
    this.#startCheckpoint()
  }

  /** Has the thread fold in what is committed now, and no more: the pages of that are added up before. */
  #startCheckpoint(): void {
    // A log that is folded in begins anew under whoever reads it: no lock of a reader is in its way.
    if (this.#isFoldedIn) return
    this.#checkpointRunning = true
    try {
      // Nothing behind what somebody reads is folded in.
      this.#reader ??= new DatabaseSync(this.path, { readOnly: true })
      this.#reader.exec('BEGIN; SELECT 1 FROM sqlite_schema')
    } catch (error) {
      // What is committed is committed; the next checkpoint does it.
      this.#letReaderGo()
      this.#notFolded(error)
      return
    }
    const order: CheckpointOrder = {
      frames: this.#frames,
      salt: saltOfLog(this.path),
      added: this.#added,
      isFirst: this.#isFirstFold,
    }
    if (!this.#checkpointer) {
      const entry = new URL(`./checkpoint-thread${extname(import.meta.url)}`, import.meta.url)
      this.#checkpointer = new Worker(entry, { workerData: this.path })
      this.#checkpointer.unref()
      this.#checkpointer.on('message', (result: CheckpointResult) => this.#checkpointed(result))
      this.#checkpointer.on('error', () => {
        this.#checkpointer = undefined
        this.#letReaderGo()
      })
    }
    this.#checkpointer.postMessage(order)
  }

  #letReaderGo(): void {
    this.#checkpointRunning = false
    if (this.#reader?.isTransaction) this.#reader.exec('COMMIT')
  }

  #checkpointed({ added, failure }: CheckpointResult): void {
    this.#letReaderGo()
    this.#added = added ?? this.#added
    this.#isFirstFold = failure !== undefined
    if (this.#closed || this.#depth > 0) return
    if (failure) {
      const { message, errcode, isDamage } = failure
      this.#notFolded(isDamage ? new WalDamaged(message) : Object.assign(new Error(message), { errcode }))
      return
    }
    if (this.#mustRewrite || this.#cautious) return
    const frames = this.#frames
    // What was committed while the thread worked is little; folding it in here, where nothing is being written,
    // is what lets the next commit start the WAL over. Else a busy writer would let it grow for ever (P6).
    const isLittle = frames - (this.#added?.frames ?? 0) <= LITTLE_FRAMES || frames >= LONG_FRAMES
    if (isLittle || frames * WAL_FRAME_BYTES >= this.#mostLogBytes) this.foldLog()
    else this.#startCheckpoint()
  }

  #notFolded(error: unknown): void {
    this.#isFirstFold = true
    // What is not what was written must not get into the database.
    if (error instanceof WalDamaged) this.#break(error)
    // A lock that was held, a full disk: the next checkpoint does it. A disk that fails is another matter.
    if (!isDiskFailure(error)) return
    this.#diskFailed(error)
    this.#flushWithin(SHARED_FLUSH_MS)
  }
}

/**
 * Whether a page is not what was written, beyond one flipped bit, and it goes on without it.
 * @throws DatabaseDamaged if it does not
 */
function checkPages(
  path: string,
  inLog: ReadonlySet<number>,
  witness: Witness,
  options: DatabaseOptions,
): boolean {
  const sums = PageSums.open(`${path}-sums`, options.readOnly)
  if (!sums) return false
  try {
    const { repairs, damaged } = sums.check(path, inLog)
    for (const repair of repairs) options.onRepaired?.(repair)
    if (damaged.length === 0) return false
    const why = `${damaged.length} of its pages, the first of them ${damaged[0]}, are not what was written`
    if (!options.onDamagedPages) throw new DatabaseDamaged(path, why)
    // A checkpoint may write such a page again, with checksums of what is in it then.
    if (!options.readOnly) witness.note({ isDamaged: true })
    options.onDamagedPages(why)
    return true
  } finally {
    sums.close()
  }
}

/**
 * Copies a database that nobody has open, with all that was committed to it and what is known about that. Nothing of the
 * first one changes.
 * @throws DatabaseDamaged if it cannot be read
 */
export async function copyDatabase(from: string, to: string): Promise<void> {
  try {
    for (const suffix of ['', ...BESIDE]) {
      if (suffix !== '' && !existsSync(from + suffix)) continue
      await copyFile(from + suffix, to + suffix, constants.COPYFILE_FICLONE)
    }
  } catch (error) {
    throw new DatabaseDamaged(from, `it cannot be copied to ${to}: ${reasonOf(error)}`, { cause: error })
  }
}

/** A database with all that is beside it is gone. */
export function removeDatabase(path: string): void {
  for (const suffix of ['', ...BESIDE]) rmSync(path + suffix, { force: true })
}
