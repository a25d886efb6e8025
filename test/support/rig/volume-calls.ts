import { constants } from 'node:os'
import koffi from 'koffi'

/** Calls by which names on a volume change. */
const NAMING = ['renameat2', 'unlinkat', 'mkdirat', 'linkat', 'symlinkat', 'mknodat']

export type NamingErrno = 'EROFS' | 'ENOSPC' | 'EIO'

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
    koffi.errno(constants.errno[failure.errno])
    return -1
  }
}
