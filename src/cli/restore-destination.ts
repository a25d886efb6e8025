import { UsageError } from '../base/errors.ts'
import { realPathOfNew } from '../daemon/locate.ts'
import { refuseNoStorage } from '../daemon/not-storage.ts'
import { leadsInto } from '../fuse/kernel/mountinfo.ts'
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
    if (leadsInto(destination, path) || leadsInto(path, destination)) {
      throw new UsageError(
        `DEST ${destination} and ${what} ${path} lie one in the other; give a directory elsewhere`,
      )
    }
  }
  return destination
}
