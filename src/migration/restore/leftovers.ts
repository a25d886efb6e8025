import { constants } from 'node:fs'
import { FsError } from '../../base/errors.ts'
import { AT_REMOVEDIR, closeDescriptor, directoryBatches, openAt, unlinkAt } from '../../sys/index.ts'
import { codeOf } from './findings.ts'
import type { WorkDirectory } from './work-directory.ts'

const DOT = Buffer.from('.')

/** The names in a directory of DEST, a few at a time. */
export function* namesIn(directory: number): Generator<Buffer> {
  // By another descriptor: this one has a position of its own.
  const listed = openAt(directory, DOT, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    for (const batch of directoryBatches(listed)) for (const { name } of batch) yield name
  } finally {
    closeDescriptor(listed)
  }
}

/** Makes way for a file. What is in a directory may be anybody's, so one that is not empty stays. @throws FsError */
export function removeDirectory(parent: number, name: Buffer): void {
  try {
    unlinkAt(parent, name, AT_REMOVEDIR)
  } catch (error) {
    const code = codeOf(error)
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
    throw new FsError(
      'ENOTEMPTY',
      'in DEST it is a directory that is not empty, and in the tree none; remove it in DEST, and run the same command again',
    )
  }
}

export function hasExactly(directory: number, wanted: Buffer): boolean {
  for (const name of namesIn(directory)) if (name.equals(wanted)) return true
  return false
}

/**
 * Removes what earlier runs did not come to finish in a directory, and finds what is there and not in the tree. How many names of
 * the tree are there. Nobody is asked where the number of names is the one expected.
 */
export async function leftovers(
  directory: number,
  expected: number,
  about: {
    readonly work: WorkDirectory
    readonly isOwn: (name: Buffer) => boolean
    readonly isInTree: (name: Buffer) => Promise<boolean>
    readonly onExtra: (name: Buffer) => void
  },
): Promise<number> {
  let count = 0
  let hasTemporary = false
  for (const name of namesIn(directory)) {
    if (about.isOwn(name)) continue
    count += 1
    hasTemporary ||= about.work.isTemporary(name)
  }
  if (count === expected && !hasTemporary) return count
  let there = 0
  for (const name of namesIn(directory)) {
    if (about.isOwn(name)) continue
    if (about.work.isTemporary(name)) unlinkAt(directory, name)
    else if (await about.isInTree(name)) there += 1
    else about.onExtra(name)
  }
  return there
}
