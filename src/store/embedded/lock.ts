import { readFileSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { UsageError } from '../../base/errors.ts'

const SQLITE_BUSY = 5

/**
 * Holds a directory for one process. The lock is SQLite's on an empty file: Node has no flock, and the kernel drops a
 * POSIX lock with its process, at once and however that ended.
 */
export class DirectoryLock {
  // Kept referenced: the lock lives as long as the handle.
  readonly #handle: DatabaseSync

  private constructor(handle: DatabaseSync) {
    this.#handle = handle
  }

  /** @throws UsageError if another process (or this one) holds it already */
  static acquire(path: string): DirectoryLock {
    let handle: DatabaseSync | undefined
    try {
      handle = new DatabaseSync(path, { timeout: 0 })
      handle.exec('BEGIN EXCLUSIVE')
      return new DirectoryLock(handle)
    } catch (error) {
      handle?.close()
      if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) {
        throw new UsageError(
          `the embedded store is in use by ${holderOf(path)} (${path}): unmount there first, or give another --store`,
          4,
          { cause: error },
        )
      }
      const why = error instanceof Error ? error.message : String(error)
      throw new UsageError(
        `the embedded store cannot be locked: ${path}: ${why}; it holds nothing and may be removed while no ferryfs runs`,
        4,
        { cause: error },
      )
    }
  }

  release(): void {
    this.#handle.close()
  }
}

function holderOf(path: string): string {
  const inode = statSync(path).ino
  for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
    // "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"; a holder in another PID namespace shows as 0 or less.
    const [, , , , pid, file] = line.split(/\s+/)
    if (file?.endsWith(`:${inode}`) && Number(pid) > 0) return `process ${pid}`
  }
  return 'another process'
}
