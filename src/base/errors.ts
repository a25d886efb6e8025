import { constants } from 'node:os'

/** Symbolic name of a Linux errno, as in errno(3). */
export type ErrnoName = Extract<keyof typeof constants.errno, string>

/** Symbolic name of an errno value, or `EIO` for a number this libc does not name. */
export function errnoName(value: number): ErrnoName {
  return NAMES.get(value) ?? 'EIO'
}

// Of two names for one number (EAGAIN, EWOULDBLOCK) the first in the list stays.
const NAMES: ReadonlyMap<number, ErrnoName> = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, value]) => [value, name as ErrnoName]),
)

// What a call on a mount answers whose server has gone. Passed on, it would tell an application that ferryfs has gone.
const SERVER_GONE: ReadonlySet<string> = new Set(['ENOTCONN', 'ECONNABORTED', 'ESHUTDOWN'])

/** The errno that an application is to see where a call on a volume failed with this one. */
export function volumeErrno(code: ErrnoName): ErrnoName {
  return SERVER_GONE.has(code) ? 'EIO' : code
}

/** What a file system call answers when it fails: an errno for the application, words for the operator. */
export class FsError extends Error {
  readonly code: ErrnoName
  readonly errno: number

  constructor(code: ErrnoName, message?: string, options?: ErrorOptions) {
    super(message ?? code, options)
    this.name = 'FsError'
    this.code = code
    this.errno = constants.errno[code]
  }
}

/**
 * Bad input from an operator: a command line, a configuration, a state directory that is somebody else's.
 * The message is one line and says what to do; the command ends with `exitStatus`.
 */
export class UsageError extends Error {
  readonly exitStatus: number

  constructor(message: string, exitStatus = 2, options?: ErrorOptions) {
    super(message, options)
    this.name = 'UsageError'
    this.exitStatus = exitStatus
  }
}

/** An error of a system call, as Node throws it. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'errno' in error && 'code' in error
}

/** The errno an application gets for any error: an FsError's own, a Node system error's, else EIO. */
export function toErrno(error: unknown): number {
  if (error instanceof FsError) return error.errno
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    const value = (constants.errno as Record<string, number>)[error.code]
    if (value !== undefined) return constants.errno[volumeErrno(errnoName(value))]
  }
  return constants.errno.EIO
}

/** A short text for a log line or a list of failures. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (!(error.cause instanceof Error)) return error.message
  const cause = reasonOf(error.cause)
  return error.message.includes(cause) ? error.message : `${error.message} (${cause})`
}

/** A disk does not answer. Whoever can wait asks again when it does: `back` resolves then, and never rejects. */
export class Unanswered extends FsError {
  /** The call is under way all the same, and may take effect later. */
  readonly begun: boolean
  readonly back: Promise<void>
  /** Of what asked nothing has taken effect. */
  readonly untouched: boolean

  constructor(disk: string, begun: boolean, back: Promise<void>, untouched = false) {
    super('EIO', `${disk} does not answer`)
    this.begun = begun
    this.back = back
    this.untouched = untouched
  }
}
