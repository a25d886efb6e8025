import { constants } from 'node:fs'
import { isDirectory, isRegular } from '../../base/attributes.ts'
import { faultPoint } from '../../base/faults.ts'
import { guardIn, GUARDS, isGuarded } from '../../base/inode-flags.ts'
import { closeDescriptor, flagsOf, openInside, setFlagsOf, type Stat } from '../../sys/index.ts'
import { inWords } from './findings.ts'
import type { TreeFile } from './tree.ts'

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants

/**
 * Sets the flags of chattr(1) that guard a file, on an open one. What DEST cannot hold, in words.
 *
 * It comes last: from then on nobody removes the file, gives it another name or, in a directory, a name to anything in it. The next
 * run onto the same DEST takes the flags off before it looks (`loosen`).
 */
export function guard(descriptor: number, { attributes }: Pick<TreeFile, 'attributes'>): string[] {
  if (!isGuarded(attributes)) return []
  const wanted = (attributes.flags ?? 0) & GUARDS
  const what = `flags: ${guardIn(attributes)}`
  try {
    setFlagsOf(descriptor, (flagsOf(descriptor) & ~GUARDS) | wanted)
    if ((flagsOf(descriptor) & GUARDS) !== wanted) return [`${what} is not kept by DEST`]
    faultPoint('migration.restore.guarded')
    return []
  } catch (error) {
    return [`${what} is not set: ${inWords(error)}`]
  }
}

/** Takes off what guards a name that an earlier run has written, so that it can be compared, replaced and given other names. */
export function loosen(directory: number, name: Buffer, existing: Stat | undefined): void {
  if (existing && isGuarded(existing) && canHaveFlags(existing))
    byName(directory, name, (descriptor) => setFlagsOf(descriptor, flagsOf(descriptor) & ~GUARDS))
}

/** `guard` for a file by its name. */
export function guardName(directory: number, name: Buffer, file: Pick<TreeFile, 'attributes'>): string[] {
  if (!isGuarded(file.attributes)) return []
  // A device would be opened for what it does.
  if (!canHaveFlags(file.attributes))
    return [`flags: ${guardIn(file.attributes)} is set on files and directories only`]
  try {
    return byName(directory, name, (descriptor) => guard(descriptor, file))
  } catch (error) {
    return [`flags: ${guardIn(file.attributes)} is not set: ${inWords(error)}`]
  }
}

const canHaveFlags = ({ mode }: { readonly mode: number }): boolean => isRegular(mode) || isDirectory(mode)

function byName<T>(directory: number, name: Buffer, body: (descriptor: number) => T): T {
  const descriptor = openInside(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    return body(descriptor)
  } finally {
    closeDescriptor(descriptor)
  }
}
