import { FsError, isSystemError } from '../../base/errors.ts'

/** What of the tree is not in DEST as it should be. */
export interface Finding {
  readonly path: string
  /**
   * `missing`: the file is not there, or something else is. Another run tries again. `lacking`: it is there with its whole content,
   * but DEST cannot hold something else of it. `doubt`: the records of the store do not agree on where it is. `older`: it is there as the
   * tree has it, which may be older than what was acknowledged. `extra`: it is not in the tree.
   */
  readonly kind: 'missing' | 'lacking' | 'doubt' | 'older' | 'extra'
  readonly reason: string
}

/** The run cannot go on. What is written stays, and the next run goes on from there. */
export class RestoreStopped extends Error {
  readonly exitStatus: number

  constructor(message: string, exitStatus: number, options?: ErrorOptions) {
    super(message, options)
    this.name = 'RestoreStopped'
    this.exitStatus = exitStatus
  }
}

// What DEST answers when no other file would fare better.
const STOPS: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EMFILE', 'ENFILE', 'ENOMEM'])

/** Whether this error of DEST is one of all of it. */
export function stopsAll(error: unknown): boolean {
  const code = codeOf(error)
  return code !== undefined && STOPS.has(code)
}

export function codeOf(error: unknown): string | undefined {
  if (error instanceof FsError) return error.code
  return isSystemError(error) ? error.code : undefined
}

/** What the system calls of DEST say, in words that an operator reads. */
const WORDS: Readonly<Record<string, string>> = {
  ENOSPC: 'no room is left on DEST',
  EDQUOT: 'the quota of DEST is used up',
  EROFS: 'DEST cannot be written',
  EFBIG: 'it is too large for DEST',
  ENAMETOOLONG: 'its name is too long for DEST',
  EINVAL: 'DEST does not take it',
  EXDEV: 'another file system is mounted there',
  EPERM: 'DEST does not permit it',
  EOPNOTSUPP: 'DEST has nothing like it',
  ENOTSUP: 'DEST has nothing like it',
  ENOTTY: 'DEST has nothing like it',
  E2BIG: 'it does not fit in DEST',
  EMLINK: 'DEST takes no more of them',
  ERANGE: 'it does not fit in DEST',
}

/** An error of DEST for a line of the report. */
export function inWords(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  const words = WORDS[codeOf(error) ?? '']
  return words === undefined ? message : `${words} (${message})`
}
