import { FsError, volumeErrno } from '../../../src/base/errors.ts'

/** Calls by which names on a volume change. */
const NAMING = ['renameat2', 'unlinkat', 'mkdirat', 'linkat', 'symlinkat', 'mknodat']

export type NamingErrno = 'EROFS' | 'ENOSPC' | 'EIO'

/** Of the call that was refused last, until its result is looked at. */
let refused: NamingErrno | undefined
let failure: { readonly errno: NamingErrno; after: number } | undefined

/** From the call after the next `after` on, names on the volume cannot be changed. */
export function refuseNames(errno: NamingErrno, after: number): void {
  failure = { errno, after }
}

export function allowNames(): void {
  failure = undefined
}

/** In the place of `declare` of src/sys: the same call, which may be refused. */
export function refusable(
  signature: string,
  call: (...args: unknown[]) => number,
): (...args: unknown[]) => number {
  const name = /(\w+)\(/.exec(signature)?.[1] ?? ''
  if (!NAMING.includes(name)) return call
  return (...args) => {
    if (failure === undefined || failure.after-- > 0) return call(...args)
    refused = failure.errno
    return -1
  }
}

/** In the place of `check` of src/sys, which knows nothing of calls that were never made. */
export function checking(
  check: (result: number, syscall: string, what?: Buffer) => number,
): (result: number, syscall: string, what?: Buffer) => number {
  return (result, syscall, what) => {
    const code = refused
    refused = undefined
    if (result === -1 && code !== undefined) throw new FsError(volumeErrno(code), `${syscall}: ${code}`)
    return check(result, syscall, what)
  }
}
