import { UsageError } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'
import { realPathOfNew } from '../daemon/locate.ts'
import { refuseNoStorage } from '../daemon/not-storage.ts'
import { locationOf } from '../fuse/kernel/mountinfo.ts'
import { followedBySelf } from './followed-links.ts'

/** A directory that has nothing to do with DEST. */
export interface Elsewhere {
  /** Completes "DEST … and … lie one in the other". */
  readonly what: string
  readonly path: string
}

/**
 * The real path of DEST, which may not be there yet.
 * @throws UsageError where a tree must not be written: into itself, into what it is read from, where no files are, or where a symlink
 * leads that others could have put there
 */
export async function destinationOf(dest: string, elsewhere: readonly Elsewhere[]): Promise<string> {
  // First in a process of its own: a path on a mount that hangs must not take this one with it.
  const realPath = await realPathOfNew(dest)
  const destination = followedBySelf('DEST', dest)
  if (destination !== realPath)
    throw new UsageError(
      `DEST ${dest} leads to ${destination} now and to ${realPath} a moment ago; try again`,
    )
  refuseNoStorage('DEST', destination)
  for (const { what, path } of elsewhere) {
    if (overlaps(destination, path)) {
      throw new UsageError(
        `DEST ${destination} and ${what} ${path} lie one in the other; give a directory elsewhere`,
      )
    }
  }
  return destination
}

/** Whether one of two directories lies in the other, also by another way that a bind mount makes. */
function overlaps(one: string, other: string): boolean {
  if (isWithin(one, other) || isWithin(other, one)) return true
  const [here, there] = [locationOf(one), locationOf(other)]
  if (!here || !there || here.device !== there.device) return false
  return isWithin(here.inside, there.inside) || isWithin(there.inside, here.inside)
}
