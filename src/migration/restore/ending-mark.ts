import { FsError } from '../../base/errors.ts'
import { RESTORE_XATTR } from '../../base/own-names.ts'
import { byDescriptor } from '../../sys/index.ts'

const NAME = Buffer.from(RESTORE_XATTR)

/**
 * A mark on DEST itself that a restore has put into it what it was asked for, and is about to end: to remove the working directory
 * moves DEST's times, so what comes after has to be known without that. An extended attribute moves none, and this one nobody but root
 * can set: whoever prepares a DEST cannot make it look like one that a restore has filled. It says nothing of what that restore was
 * asked for but the namespace: whoever finds it compares everything. Where DEST or the caller cannot have it, it is done without,
 * and a crash behind the working directory's end leaves DEST with times of that moment.
 */
export function markEnding(descriptor: number, namespace: string): void {
  try {
    byDescriptor.setXattr(descriptor, NAME, Buffer.from(namespace))
  } catch (error) {
    if (!(error instanceof FsError)) throw error
  }
}

/** The namespace of the restore that is about to end in DEST; `undefined` if none is. */
export function endingOf(descriptor: number): string | undefined {
  try {
    return byDescriptor.getXattr(descriptor, NAME).toString()
  } catch (error) {
    if (error instanceof FsError) return undefined
    throw error
  }
}

/** @throws FsError where it stays */
export function unmarkEnding(descriptor: number): void {
  if (endingOf(descriptor) !== undefined) byDescriptor.removeXattr(descriptor, NAME)
}
