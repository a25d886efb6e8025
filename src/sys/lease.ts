import { FsError } from '../base/errors.ts'
import { check, declare } from './library.ts'

const fcntlCall = declare('int fcntl(int, int, int)')

// linux/fcntl.h, asm-generic/fcntl.h, asm-generic/signal.h
const F_SETSIG = 10
const F_SETLEASE = 1024
const F_RDLCK = 0
const F_UNLCK = 2
const SIGURG = 23

/** Whether somebody has a file open or mapped for writing; `unknown` where the file system cannot tell. */
export type Writers = 'none' | 'some' | 'unknown'

/**
 * Runs `body` in this tick with what is known of writers of the file behind a descriptor for reading. While it runs after `none`,
 * nobody can open the file for writing: who tries waits until it has ended (a read lease, fcntl(2)).
 */
export function underLease<T>(descriptor: number, body: (writers: Writers) => T): T {
  const writers = takeLease(descriptor)
  try {
    return body(writers)
  } finally {
    if (writers === 'none') fcntlCall(descriptor, F_SETLEASE, F_UNLCK)
  }
}

function takeLease(descriptor: number): Writers {
  try {
    // Whoever waits is told of by a signal; SIGIO would end this process.
    check(fcntlCall(descriptor, F_SETSIG, SIGURG), 'fcntl')
    check(fcntlCall(descriptor, F_SETLEASE, F_RDLCK), 'fcntl')
    return 'none'
  } catch (error) {
    if (!(error instanceof FsError)) throw error
    return error.code === 'EAGAIN' ? 'some' : 'unknown'
  }
}
