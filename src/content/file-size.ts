import { FsError } from '../base/errors.ts'

// Sizes and offsets are numbers that are exact up to here: 8 PiB.
const MAX_FILE_BYTES = 2 ** 53 - 4096

/** @throws FsError EFBIG for a size that a file cannot have */
export function requireSize(size: number): void {
  if (size > MAX_FILE_BYTES) throw new FsError('EFBIG', `a file of ${size} bytes; at most ${MAX_FILE_BYTES}`)
}
