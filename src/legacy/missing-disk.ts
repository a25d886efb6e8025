import { FsError } from '../base/errors.ts'

const MISSING = 'a file system that was mounted there is missing'
export const NOT_MOUNTED = `${MISSING}: mount it again; if it is gone for good, rename what is there on SOURCE, look for it through the mount, and rename it back`
/** The error of what lies on a file system that was mounted below SOURCE, and is missing: nobody knows what is there. */
export const isMissingDisk = (error: unknown): error is FsError =>
  error instanceof FsError && error.message === NOT_MOUNTED
/** A failure that was noted because of that, perhaps by an earlier ferryfs, which went on in other words. */
export const tellsMissingDisk = (failure: string | undefined): boolean =>
  failure?.startsWith(MISSING) === true
