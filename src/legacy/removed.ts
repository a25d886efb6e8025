import { readlinkSync } from 'node:fs'
import { isSystemError } from '../base/errors.ts'
import { statAt, statDescriptor } from '../sys/index.ts'

const AT_FDCWD = -100
/** Of a SOURCE that is not there any more, though it is open: it looks as if it were empty. */
export const REMOVED =
  'SOURCE was removed, or made anew, while it was served: what was only there is gone; unmount, and "ferryfs restore --state-dir" writes out what the store has'

const REMOVED_SUFFIX = Buffer.from(' (deleted)')

/** By its links, or, where a file system (overlayfs) goes on to show those, by what the kernel adds to the path of what is removed. */
export function isWithoutName(directory: number): boolean {
  const { nlink, ino } = statDescriptor(directory)
  if (nlink === 0) return true
  const path = pathOf(directory)
  if (path === undefined || !mayBePathOfRemoved(path)) return false
  try {
    // One can have that in its name.
    return statAt(AT_FDCWD, path).ino !== ino
  } catch {
    return true
  }
}

/** As the kernel has it: no disk is asked. Undefined for one that is longer than the kernel tells. */
export function pathOf(descriptor: number): Buffer | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`, 'buffer')
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENAMETOOLONG') return undefined
    throw error
  }
}

/** False only where the kernel says that it is there. */
export const mayBePathOfRemoved = (path: Buffer | undefined): boolean =>
  path === undefined || path.subarray(-REMOVED_SUFFIX.length).equals(REMOVED_SUFFIX)
