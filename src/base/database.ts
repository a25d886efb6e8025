import { closeSync, fdatasync, fdatasyncSync, fsync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import { Checkpoints } from './checkpoints.ts'
import { type DatabaseOptions, type OpenFile, openFile } from './database-file.ts'
import { FsError, reasonOf } from './errors.ts'
import { knownLog, type LostFrames } from './log-check.ts'
import { isMarked, setMark } from './open-mark.ts'
import { isDiskFull, isIoError } from './sqlite-errors.ts'
import { synced } from './synced.ts'
import { PAGE_BYTES, rewriteWal, WalDamaged } from './wal.ts'
import type { Witness } from './witness.ts'

export {
  copyDatabase,
  DatabaseDamaged,
  type DatabaseOptions,
  removeDatabase,
  rowsOfUnused,
} from './database-file.ts'

// "The WAL-Index File Format" of SQLite's documentation: how many frames of the log have been folded in (nBackfill).
const FOLDED_IN_OFFSET = 96

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
  readonly #checkpoints: Checkpoints
  readonly #options: Pick<DatabaseOptions, 'failedSyncs' | 'onBroken' | 'bulk' | 'probe'>
  readonly #witness: Witness
  readonly #readOnly: boolean
  readonly #hasDamage: boolean
  #totalChanges: StatementSync | undefined
  #inMemory = 0
  #depth = 0
  #walDescriptor: number | undefined
  // Once open it stays so: to close it would drop SQLite's locks on the same file.
  #indexDescriptor: number | undefined
  // The log may not be on the disk though the kernel holds it for written: a sync failed, or a predecessor died that may
  // have met one. It is written anew before the next flush, and before that no checkpoint may rely on it.
  #mustRewrite: boolean
  // A sync has failed: no flush relies on the log any more.
  #cautious = false
  #isMarked: boolean
  #broken: unknown
  // What a killed process committed counts as one that is not flushed.
  #commits = 1
  #flushed = 0
  #flushing: Promise<void> | undefined
  #followers: Follower[] = []
  #flushTimer: NodeJS.Timeout | undefined
  #flushAtMs = Number.POSITIVE_INFINITY
  #closed = false
  #closing: Promise<void> | undefined

  private constructor(path: string, file: OpenFile, options: DatabaseOptions) {
    const { handle, witness } = file
    this.#hasDamage = file.isDamaged
    this.#isMarked = file.isMarked
    this.path = path
    this.#handle = handle
    this.#witness = witness
    this.#options = options
    this.#readOnly = options.readOnly === true
    this.#mustRewrite = !options.readOnly && !options.bulk
    this.#begin = handle.prepare('BEGIN IMMEDIATE')
    this.#commit = handle.prepare('COMMIT')
    this.#rollback = handle.prepare('ROLLBACK')
    this.#savepoint = handle.prepare('SAVEPOINT attempt')
    this.#release = handle.prepare('RELEASE attempt')
    this.#rollbackTo = handle.prepare('ROLLBACK TO attempt')
    this.#checkpoints = new Checkpoints(path, handle, {
      isIdle: () => !this.#closed && this.#depth === 0,
      mayFold: () => !this.#closed && this.#depth === 0 && !this.#mustRewrite && !this.#cautious,
      onDamage: (error) => this.#break(error),
      onDiskFailure: (error) => {
        this.#diskFailed(error)
        this.#flushWithin(SHARED_FLUSH_MS)
      },
    })
  }

  /** @throws DatabaseDamaged if the file is not a healthy one of this program and format */
  static open(path: string, options: DatabaseOptions): Database {
    const database = new Database(path, openFile(path, options), options)
    database.#mark()
    return database
  }

  /** A statement whose integers come back as bigint when `bigints`, else as number. */
  prepare(sql: string, bigints = false): StatementSync {
    const statement = this.#handle.prepare(sql)
    if (bigints) statement.setReadBigInts(true)
    return statement
  }

  /** A function for statements, of one value. */
  define(name: string, body: (value: SQLInputValue) => SQLInputValue): void {
    this.#handle.function(name, { deterministic: true }, body)
  }

  exec(sql: string): void {
    this.#handle.exec(sql)
  }

  /**
   * Runs `body` in one transaction; an inner call joins the outer one. Committed when this returns.
   * @throws FsError ENOSPC if the disk is full, EIO if it fails, Unanswered if it has to be waited for; nothing was changed then
   */
  transaction<T>(body: () => T): T {
    if (this.#depth > 0) return body()
    this.requireWhole()
    const { probe } = this.#options
    const before = probe?.begin() ? this.#changed : undefined
    this.#begin.run()
    this.#depth = 1
    let result: T
    try {
      result = body()
      if (before !== undefined && this.#changed !== before) probe?.require()
      this.#commit.run()
    } catch (error) {
      try {
        this.#rollback.run()
      } catch {
        // SQLite has rolled back already where it had to (disk full, I/O error).
      }
      if (isDiskFull(error))
        throw new FsError('ENOSPC', `the disk of ${this.path} is full; make room there`, { cause: error })
      if (!isIoError(error)) throw error
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

  /** Rows that were changed and go to the disk. */
  get #changed(): number {
    return this.#rows - this.#inMemory
  }

  get #rows(): number {
    this.#totalChanges ??= this.#handle.prepare('SELECT total_changes() AS n')
    return Number(this.#totalChanges.get()?.n)
  }

  /** For changes of temporary tables, which need no disk. */
  inMemory<T>(body: () => T): T {
    if (!this.#options.probe) return body()
    const before = this.#rows
    try {
      return body()
    } finally {
      this.#inMemory += this.#rows - before
    }
  }

  /** The disk has not taken a write for so long that nobody should wait for it who can do without. */
  get isAway(): boolean {
    return this.#options.probe?.isLate === true
  }

  /** Resolves once the disk takes writes; undefined if it just did. For work that can wait before it commits. */
  ready(): Promise<void> | undefined {
    return this.#options.probe?.ready()
  }

  /** The same for those who can do without it once it is away. */
  readyOrAway(): Promise<void> | undefined {
    return this.#options.probe?.readyOrLate()
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
    await this.#checkpoints.stop()
    if (this.#walDescriptor !== undefined) closeSync(this.#walDescriptor)
    this.#walDescriptor = undefined
    this.#letGo()
    this.#options.probe?.close()
    this.#checkpoints.close(this.#readOnly)
    if (this.#indexDescriptor !== undefined) closeSync(this.#indexDescriptor)
  }

  /**
   * The file itself says that it is open, on the medium, so that one without anything beside it is not taken for one that was closed. On
   * a full disk it does not, and the next flush tries it again.
   */
  #mark(): void {
    // The mark says as well that there is a witness.
    if (this.#isMarked || this.#readOnly || this.#options.bulk || !this.#witness.isThere) return
    try {
      if (!isMarked(this.#handle)) this.transaction(() => setMark(this.#handle, true))
      this.flushNow()
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      return
    }
    this.foldLog()
    this.#isMarked = this.#checkpoints.isFoldedIn
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
      const log = this.#options.bulk ? undefined : knownLog(descriptor, this.#checkpoints.frames)
      await synced(fdatasync, descriptor)
      if (this.#cautious) {
        await this.#checkpoints.foldAndEmpty(() => this.#witness.note({ log: undefined }))
        // Frames that came back with a power loss would be older than the database.
        await synced(fsync, descriptor)
      } else if (log) this.#witness.noteLater({ log }, this.#options.probe !== undefined)
    } catch (error) {
      throw this.#notSynced(error)
    } finally {
      this.#flushing = undefined
    }
    this.#hasFlushed(covers)
    if (!this.#closed) this.#mark()
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
      rewriteWal(descriptor, this.#checkpoints.frames)
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
    this.#checkpoints.bound(bytes)
  }

  /** Has the log begin anew, in this thread: for a start, or where it has no more room. */
  foldLog(): void {
    this.#checkpoints.fold()
  }

  /** Bytes in pages of the file with nothing in them. */
  get emptyBytes(): number {
    const pages = this.#handle.prepare('PRAGMA freelist_count').get() as
      | { freelist_count?: number }
      | undefined
    return Number(pages?.freelist_count ?? 0) * PAGE_BYTES
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
    this.#checkpoints.committed()
  }
}
