import { FsError, reasonOf } from '../../base/errors.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../errors.ts'
import { NotFlushed } from './group-commit.ts'

// Primary result codes of SQLite.
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_NOTADB = 26

/** What a failure of the disk or of SQLite means to the user of the store; `what` names the request and the key. */
export function toStoreError(error: unknown, what: string): StoreError {
  if (error instanceof StoreError) return error
  if (error instanceof NotFlushed) {
    return new StoreUnavailable(`${what}: ${error.message}; check the disk`, {
      cause: error.cause,
      outcomeUnknown: true,
    })
  }
  if (error instanceof Error && 'errcode' in error && typeof error.errcode === 'number') {
    const code = error.errcode & 0xff
    if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) {
      return new StoreCorrupt(`${what}: the index is damaged there; restore the store from a backup`, {
        cause: error,
      })
    }
    if (code === SQLITE_FULL) {
      const cause = new FsError('ENOSPC', 'ENOSPC: no space left for the index', { cause: error })
      return new StoreUnavailable(`${what}: the disk is full; free space`, { cause })
    }
  }
  if (error instanceof Error && 'code' in error && error.code === 'ERR_OUT_OF_RANGE') {
    // No number of ours is beyond 2^53.
    return new StoreCorrupt(`${what}: its record in the index is damaged; store the object again`, {
      cause: error,
    })
  }
  const full = error instanceof Error && 'code' in error && error.code === 'ENOSPC'
  return new StoreUnavailable(`${what}: ${full ? 'the disk is full; free space' : reasonOf(error)}`, {
    cause: error,
  })
}
