import { readFileSync, statSync } from 'node:fs'
import { reasonOf, UsageError } from '../../base/errors.ts'
import { FileLock, LockHeld } from '../../base/file-lock.ts'

/**
 * Holds a store's directory for one process.
 * @throws UsageError if another process (or this one) holds it already
 */
export function lockDirectory(path: string): FileLock {
  try {
    return FileLock.acquire(path)
  } catch (error) {
    const message =
      error instanceof LockHeld
        ? `the embedded store is in use by ${holderOf(path)} (${path}): unmount there first, or give another --store`
        : `the embedded store cannot be locked: ${path}: ${reasonOf(error)}; it holds nothing and may be removed while no ferryfs runs`
    throw new UsageError(message, 4, { cause: error })
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
