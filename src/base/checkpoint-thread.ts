import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { type Added, LogBegunAnew, prepareFoldOf, settleFold } from './fold.ts'
import { WalDamaged } from './wal.ts'

/** Fold so many frames of the log in; nothing behind them can be, as the one who asks reads the database as it was then. */
export interface CheckpointOrder {
  readonly frames: number
  /** Of that log, as `saltOfLog` has it. */
  readonly salt: string | undefined
  readonly added: Added | undefined
  /** As `prepareFold` has it. */
  readonly isFirst: boolean
}

export interface CheckpointFailure {
  readonly message: string
  readonly errcode: number
  /** The log is not what was written. */
  readonly isDamage: boolean
}

export interface CheckpointResult {
  readonly added?: Added | undefined
  readonly failure?: CheckpointFailure
}

// sqlite3.h
const SQLITE_IOERR = 10

const path = String(workerData)

parentPort?.on('message', (order: CheckpointOrder) => {
  parentPort?.postMessage(fold(order))
})

function fold({ frames, salt, added: before, isFirst }: CheckpointOrder): CheckpointResult {
  let database: DatabaseSync | undefined
  try {
    const added = prepareFoldOf(salt, path, frames, before, isFirst)
    database = new DatabaseSync(path, { timeout: 1000 })
    database.prepare('PRAGMA wal_checkpoint(PASSIVE)').get()
    settleFold(path, database)
    return { added }
  } catch (error) {
    // There is nothing to fold in.
    if (error instanceof LogBegunAnew) return { added: undefined }
    return { failure: failureOf(error) }
  } finally {
    database?.close()
  }
}

function failureOf(error: unknown): CheckpointFailure {
  const { message, errcode, code } = error as { message?: string; errcode?: number; code?: string }
  return {
    message: String(message),
    errcode: code === 'EIO' ? SQLITE_IOERR : Number(errcode),
    isDamage: error instanceof WalDamaged,
  }
}
