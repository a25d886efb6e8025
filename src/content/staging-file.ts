import { fdatasync } from 'node:fs'
import { SharedJob } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { synced } from '../base/synced.ts'

/** A staging file in use. A new object for each file that is made. */
export interface StagingFile {
  /** What it occupies. */
  bytes: number
  /** Its length. */
  length: number
  /** Its name is on the medium. */
  named: boolean
  /** A sync failed, and what it was for has not been written anew since: no sync of this file says anything. */
  doubtful: boolean
  /** Of one who waits for `sync`, and so is open until that ends. */
  descriptor: number
  /** Made by the first who waits: there may be a great many files. */
  sync: SharedJob | undefined
  /** Chunks that this process wrote, or has compared with what is known of them. */
  sound: Set<number> | undefined
}

/** One that was just made. */
export function newFile(): StagingFile {
  return {
    bytes: 0,
    length: 0,
    named: false,
    doubtful: false,
    descriptor: -1,
    sound: undefined,
    sync: undefined,
  }
}

/** One sync of a file at a time: the kernel tells of a failure once, and of two at once one would pass for well done. */
export function syncOf(file: StagingFile, inPool: (sync: () => Promise<void>) => Promise<void>): SharedJob {
  return new SharedJob(async () => {
    if (file.doubtful) throw new FsError('EIO', 'a staging file is to be written anew after a failed sync')
    try {
      await inPool(() => synced(fdatasync, file.descriptor))
    } catch (error) {
      file.doubtful = true
      const code = error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? 'ENOSPC' : 'EIO'
      throw new FsError(code, 'a staging file could not be synced to its disk', { cause: error })
    }
  })
}
