import { constants, lstatSync, type Stats, unlink, unlinkSync } from 'node:fs'
import { isSystemError } from './errors.ts'

/** For an open that reads: nobody waits for the other end of a fifo that lies in a file's place. */
export const O_READ = constants.O_RDONLY | constants.O_NONBLOCK

/** What lies there instead of a file, in words. */
export function kindOf(stat: Stats): string {
  if (stat.isFile()) return 'a file'
  if (stat.isDirectory()) return 'a directory'
  if (stat.isSymbolicLink()) return 'a symbolic link'
  if (stat.isFIFO()) return 'a fifo'
  return stat.isSocket() ? 'a socket' : 'a device'
}

/** A regular file lies there. */
export function isPlainFile(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isFile() ?? false
  } catch {
    return false
  }
}

/** Removes a file, or what is in its place. A directory nobody of ours has made, and it stays. @throws the error of unlink(2) */
export function removePlace(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isGoneOrForeign(error)) throw error
  }
}

/** The same on a thread: a large file takes its time. */
export function removePlaceByThread(path: string): Promise<void> {
  return new Promise((resolve, reject) =>
    unlink(path, (error) => (error && !isGoneOrForeign(error) ? reject(error) : resolve())),
  )
}

const isGoneOrForeign = (error: unknown): boolean =>
  isSystemError(error) && (error.code === 'ENOENT' || error.code === 'EISDIR')
