import { DatabaseSync } from 'node:sqlite'
import { makePrivateFile } from './private.ts'

/** Another process holds the lock. */
export class LockHeld extends Error {
  constructor(path: string, options?: ErrorOptions) {
    super(`${path} is held by another process`, options)
    this.name = 'LockHeld'
  }
}

const SQLITE_BUSY = 5

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === SQLITE_BUSY
}

/**
 * A lock between processes that vanishes with its holder, `kill -9` included. Node has no flock(2); an exclusive
 * SQLite transaction that stays open is a record lock of fcntl(2), which the kernel drops at exit.
 */
export class FileLock {
  readonly #database: DatabaseSync

  private constructor(database: DatabaseSync) {
    this.#database = database
  }

  /**
   * @param waitMs blocks the thread for up to this long while another process holds it
   * @throws LockHeld, or SQLite's error where the file cannot be created or is something else
   */
  static acquire(path: string, waitMs = 0): FileLock {
    // SQLite would make one that others can open, and hold.
    makePrivateFile(path)
    const database = new DatabaseSync(path, { timeout: waitMs })
    try {
      // Nothing is ever written; a journal in a file would need room on a disk that may be full.
      database.exec('PRAGMA journal_mode=MEMORY')
      database.exec('BEGIN EXCLUSIVE')
      return new FileLock(database)
    } catch (error) {
      database.close()
      if (isBusy(error)) throw new LockHeld(path, { cause: error })
      throw error
    }
  }

  release(): void {
    if (this.#database.isOpen) this.#database.close()
  }
}
