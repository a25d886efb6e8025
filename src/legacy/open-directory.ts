import { constants } from 'node:fs'
import { FsError } from '../base/errors.ts'
import { closeDescriptor, directoryBatches, openAt, type RawDirent } from '../sys/index.ts'

/** A directory that was removed while it is listed has been emptied before: there is no more in it. */
export function nextOf(batches: Iterator<RawDirent[]>): IteratorResult<RawDirent[]> {
  try {
    return batches.next()
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENOENT') return { done: true, value: undefined }
    throw error
  }
}

/** Only the owner of a file, or root, may read it without a trace. */
export function openQuietly(directory: number, name: Buffer, flags: number, quiet: boolean): number {
  if (!quiet) return openAt(directory, name, flags)
  try {
    return openAt(directory, name, flags | constants.O_NOATIME)
  } catch (error) {
    if (!(error instanceof FsError && error.code === 'EPERM')) throw error
    return openAt(directory, name, flags)
  }
}

/** Takes the descriptor. */
export function isEmptyDirectory(descriptor: number): boolean {
  try {
    for (const batch of directoryBatches(descriptor)) if (batch.length > 0) return false
    return true
  } finally {
    closeDescriptor(descriptor)
  }
}
