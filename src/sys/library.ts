import koffi from 'koffi'
import { errnoName, FsError, volumeErrno } from '../base/errors.ts'
import { onOneLine } from '../base/text.ts'
import { libcFunction } from './disk.ts'
import { diskOf, guard } from './guarded.ts'

// node:fs has no *at calls, no nanosecond times, no xattrs, no fallocate, no renameat2 and no d_ino. koffi calls libc
// directly (about a microsecond each), so the overlay gives the legacy volume exactly the call that it was given.
const libc = koffi.load('libc.so.6')

let lastErrno = 0

/**
 * Declares a libc function that reports failure as -1 and errno. Where the descriptor among its arguments (the one at `at`) is of
 * a disk that may not answer, a thread of that disk makes the call: it then throws Unanswered.
 */
export function declare(signature: string, at = 0): (...args: unknown[]) => number {
  const on = declareOn(signature, signature.includes('openat('))
  return (...args) => on(args[at] as number, ...args)
}

/**
 * The same for a function that is told by a path what it is about: `on` is a descriptor of that disk. What it opens
 * (`givesDescriptor`) is of that disk, too.
 */
export function declareOn(
  signature: string,
  givesDescriptor = false,
): (on: number, ...args: unknown[]) => number {
  const call = libc.func(signature) as (...args: unknown[]) => number | bigint
  const called = libcFunction(signature)
  return (on, ...args) => {
    const disk = diskOf(on)
    if (disk) {
      const { result, errno } = disk.call(called, args, givesDescriptor)
      lastErrno = errno
      if (givesDescriptor && result >= 0) guard(result, disk)
      return result
    }
    const result = Number(call(...args))
    if (result === -1) lastErrno = koffi.errno()
    return result
  }
}

/** The same for one that never waits for a disk: it is called right here. Its error is `koffi.errno()`. */
export function declareHere(signature: string): (...args: unknown[]) => number {
  const call = libc.func(signature) as (...args: unknown[]) => number | bigint
  return (...args) => Number(call(...args))
}

/** The same on a thread of the pool, for calls that may take long. */
export function declareAsync(signature: string): (...args: unknown[]) => Promise<number> {
  const call = libc.func(signature)
  return (...args) =>
    new Promise((resolve, reject) =>
      call.async(...args, (error: unknown, result: number) => (error ? reject(error) : resolve(result))),
    )
}

/** @throws FsError with the current errno if `result` is -1, as an application is to see it */
export function check(result: number, syscall: string, what?: Buffer): number {
  if (result !== -1) return result
  const code = errnoName(lastErrno)
  throw new FsError(volumeErrno(code), `${syscall}${what ? ` ${printable(what)}` : ''}: ${code}`)
}

/** A name for a message: bytes that are not printable UTF-8 as \xNN. */
export function printable(name: Buffer): string {
  const text = name.toString('utf8')
  if (!text.includes('\ufffd') && onOneLine(text) === text) return text
  return Array.from(name, (byte) =>
    byte > 0x1f && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('')
}

const NUL = Buffer.from([0])

/** The bytes as a C string. A NUL inside cannot come from the kernel; from elsewhere it is refused. */
export function cstring(name: Buffer): Buffer {
  if (name.includes(0)) throw new FsError('EINVAL', 'a name contains a NUL byte')
  return Buffer.concat([name, NUL])
}
