import { closeSync, constants, openSync, readSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { isSystemError } from './errors.ts'

// "The Database Header" of SQLite's documentation: the user version, whose low byte is the program's format.
const USER_VERSION_OFFSET = 60
const FORMAT_BITS = 0xff
// No one flipped bit makes it of a file that is closed, or something else than an unknown format of it.
const MARK = 0x4f504e00

const hasMark = (version: number): boolean => (version & ~FORMAT_BITS) === MARK

/** The format of a database with this user version, whether the mark is on it or not. */
export const formatOf = (version: number): number => (hasMark(version) ? version & FORMAT_BITS : version)

/**
 * Whether the file says that it is open, or was when its process died. Without what its log has; so nobody may have it open: to close
 * another descriptor of it drops SQLite's locks.
 */
export function isMarkedFile(path: string): boolean {
  let descriptor: number
  try {
    descriptor = openSync(path, constants.O_RDONLY)
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return false
    throw error
  }
  try {
    const bytes = Buffer.alloc(4)
    const length = readSync(descriptor, bytes, 0, bytes.length, USER_VERSION_OFFSET)
    return length === bytes.length && hasMark(bytes.readInt32BE())
  } finally {
    closeSync(descriptor)
  }
}

/** The user version, with what the log has. */
export const userVersionOf = (handle: DatabaseSync): number =>
  Number(handle.prepare('PRAGMA user_version').get()?.user_version)

/** The same of the database as it was committed last. */
export const isMarked = (handle: DatabaseSync): boolean => hasMark(userVersionOf(handle))

/** Committed when it returns. @throws the error of SQLite */
export function setMark(handle: DatabaseSync, isOpen: boolean): void {
  const format = formatOf(userVersionOf(handle))
  handle.exec(`PRAGMA user_version=${isOpen ? MARK | format : format}`)
}
