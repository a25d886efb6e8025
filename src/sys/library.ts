import koffi from 'koffi'
import { errnoName, FsError, volumeErrno } from '../base/errors.ts'

// node:fs has no *at calls, no nanosecond times, no xattrs, no fallocate, no renameat2 and no d_ino. koffi calls libc
// directly (about a microsecond each), so the overlay gives the legacy volume exactly the call that it was given.
const libc = koffi.load('libc.so.6')

/** Declares a libc function that reports failure as -1 and errno. */
export function declare(signature: string): (...args: unknown[]) => number {
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
  const code = errnoName(koffi.errno())
  throw new FsError(volumeErrno(code), `${syscall}${what ? ` ${printable(what)}` : ''}: ${code}`)
}

/** A name for a message: bytes that are not printable UTF-8 as \xNN. */
export function printable(name: Buffer): string {
  const text = name.toString('utf8')
  if (!text.includes('\ufffd') && !/\p{Cc}/u.test(text)) return text
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
