import { isSystemError } from './errors.ts'

// sqlite3.h; the low byte of an extended error code.
const SQLITE_IOERR = 10
const SQLITE_FULL = 13

function isOf(error: unknown, code: number): boolean {
  return error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === code
}

/** SQLite has met an error of a system call. */
export const isIoError = (error: unknown): boolean => isOf(error, SQLITE_IOERR)

export const isDiskFull = (error: unknown): boolean => isOf(error, SQLITE_FULL)

/** The same, or a call of this program's own that ended with EIO. */
export const isDiskFailure = (error: unknown): boolean =>
  isIoError(error) || (isSystemError(error) && error.code === 'EIO')
