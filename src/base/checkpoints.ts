import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import type { CheckpointOrder, CheckpointResult } from './checkpoint-thread.ts'
import { entryPoint } from './entry-point.ts'
import {
  type Added,
  closeFolding,
  LOG_STATE,
  prepareFold,
  readLogState,
  saltOfLog,
  settleFold,
} from './fold.ts'
import { isDiskFailure } from './sqlite-errors.ts'
import { FRAME_BYTES, WalDamaged } from './wal.ts'

// A WAL that grew past this many bytes is folded into the database by the checkpoint thread.
const CHECKPOINT_BYTES = 16 * 1024 * 1024

// What was committed while the thread worked is folded in by the main thread if it is no more than this, or the log has become
// so long; else the thread goes on with it.
const LITTLE_FRAMES = 1024
const LONG_FRAMES = 8192

// To ask SQLite for the length of the log at each commit would cost more than most of what is in one.
const COMMITS_PER_LOOK = 64

/** Whose log it is. */
interface Host {
  /** It is open, and no transaction is under way. */
  isIdle(): boolean
  /** The same, and the log does not have to be written anew first. */
  mayFold(): boolean
  /** The log is not what was written. */
  onDamage(error: WalDamaged): void
  onDiskFailure(error: unknown): void
}

/**
 * Folds the log of a database into its file, so that neither grows for ever: in a thread of its own, but for the last of it, which lets
 * the log begin anew. Before a page is written its checksums are beside the file (page-sums.ts).
 */
export class Checkpoints {
  readonly #path: string
  readonly #handle: DatabaseSync
  readonly #host: Host
  readonly #count: StatementSync
  #thread: Worker | undefined
  #reader: DatabaseSync | undefined
  #added: Added | undefined
  // What was added up last was not folded in, as far as is known.
  #isFirst = true
  #isRunning = false
  #commits = 0
  /** The log is folded in when it has grown past this. */
  #foldBytes = CHECKPOINT_BYTES
  /** It must not outgrow this where it can be helped. */
  #mostBytes = Number.POSITIVE_INFINITY

  constructor(path: string, handle: DatabaseSync, host: Host) {
    this.#path = path
    this.#handle = handle
    this.#host = host
    this.#count = handle.prepare(LOG_STATE)
  }

  /** Frames of the log. */
  get frames(): number {
    return Math.max(0, readLogState(this.#count).log)
  }

  /** The log finds no room on its disk beyond so many bytes: it is folded in before it gets there. */
  bound(bytes: number): void {
    this.#foldBytes = Math.min(CHECKPOINT_BYTES, bytes / 2)
    this.#mostBytes = (bytes * 3) / 4
  }

  /** Something was committed. */
  committed(): void {
    this.#commits += 1
    const isBounded = this.#mostBytes < CHECKPOINT_BYTES
    if ((this.#commits % COMMITS_PER_LOOK !== 0 && !isBounded) || this.#isRunning) return
    if (!this.#host.mayFold()) return
    const bytes = this.frames * FRAME_BYTES
    if (bytes >= this.#mostBytes) this.fold()
    else if (bytes >= this.#foldBytes) this.#start()
  }

  /** Has the log begin anew, in this thread: for a start, or where it has no more room. */
  fold(): void {
    // The thread's checksums and these would be mixed; behind it this is done again.
    if (this.#isRunning || !this.#host.mayFold()) return
    const isDone = this.isFoldedIn
    try {
      this.#added = prepareFold(this.#path, this.frames, this.#added, this.#isFirst)
      this.#isFirst = true
      this.#handle.exec('PRAGMA wal_checkpoint(PASSIVE)')
      this.#isFirst = false
      if (!isDone) settleFold(this.#path, this.#handle)
    } catch (error) {
      this.#notFolded(error)
    }
  }

  /**
   * Where a sync has failed: folds the log into the database and empties it, in one turn, so that what is acknowledged from
   * then on lies in another place of the disk than the one that failed. The first try may only tell SQLite's own descriptor of
   * the failure that is known here.
   * @param before in the same turn
   * @throws WalDamaged, the error of SQLite
   */
  async foldAndEmpty(before: () => void): Promise<void> {
    while (this.#isRunning) await new Promise((resolve) => this.#thread?.once('message', resolve))
    before()
    prepareFold(this.#path, this.frames, undefined, true)
    try {
      this.#handle.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      this.#handle.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    }
    settleFold(this.#path, this.#handle)
  }

  async stop(): Promise<void> {
    await this.#thread?.terminate()
  }

  /** Closes the database, with all of the log folded in unless it is only read. After `stop`. */
  close(readOnly: boolean): void {
    this.#reader?.close()
    if (readOnly) this.#handle.close()
    else closeFolding(this.#path, this.#handle, this.#added)
  }

  /** Has the thread fold in what is committed now, and no more: the pages of that are added up before. */
  #start(): void {
    // A log that is folded in begins anew under whoever reads it: no lock of a reader is in its way.
    if (this.isFoldedIn) return
    this.#isRunning = true
    try {
      // Nothing behind what somebody reads is folded in.
      this.#reader ??= new DatabaseSync(this.#path, { readOnly: true })
      this.#reader.exec('BEGIN; SELECT 1 FROM sqlite_schema')
    } catch (error) {
      // What is committed is committed; the next checkpoint does it.
      this.#letReaderGo()
      this.#notFolded(error)
      return
    }
    const order: CheckpointOrder = {
      frames: this.frames,
      salt: saltOfLog(this.#path),
      added: this.#added,
      isFirst: this.#isFirst,
    }
    if (!this.#thread) {
      const entry = entryPoint('base/checkpoint-thread')
      this.#thread = new Worker(entry, { workerData: this.#path })
      this.#thread.unref()
      this.#thread.on('message', (result: CheckpointResult) => this.#ended(result))
      this.#thread.on('error', () => {
        this.#thread = undefined
        this.#isFirst = true
        this.#letReaderGo()
      })
    }
    this.#thread.postMessage(order)
  }

  /** Everything in the log is in the file. */
  get isFoldedIn(): boolean {
    const { log, checkpointed } = readLogState(this.#count)
    return checkpointed >= log
  }

  #letReaderGo(): void {
    this.#isRunning = false
    if (this.#reader?.isTransaction) this.#reader.exec('COMMIT')
  }

  #ended({ added, failure }: CheckpointResult): void {
    this.#letReaderGo()
    this.#added = added ?? this.#added
    this.#isFirst = failure !== undefined
    if (!this.#host.isIdle()) return
    if (failure) {
      const { message, errcode, isDamage } = failure
      this.#notFolded(isDamage ? new WalDamaged(message) : Object.assign(new Error(message), { errcode }))
      return
    }
    if (!this.#host.mayFold()) return
    const { frames } = this
    // What was committed while the thread worked is little; folding it in here, where nothing is being written,
    // is what lets the next commit start the WAL over. Else a busy writer would let it grow for ever (P6).
    const isLittle = frames - (this.#added?.frames ?? 0) <= LITTLE_FRAMES || frames >= LONG_FRAMES
    if (isLittle || frames * FRAME_BYTES >= this.#mostBytes) this.fold()
    else this.#start()
  }

  #notFolded(error: unknown): void {
    this.#isFirst = true
    // What is not what was written must not get into the database.
    if (error instanceof WalDamaged) this.#host.onDamage(error)
    // A lock that was held, a full disk: the next checkpoint does it. A disk that fails is another matter.
    if (isDiskFailure(error)) this.#host.onDiskFailure(error)
  }
}
