import { lstatSync, readlinkSync, type Stats } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { UsageError } from '../base/errors.ts'

const STICKY = 0o1000
const WRITABLE_BY_OTHERS = 0o022

// As many as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS = 40

/**
 * The path without symlinks; what is missing is taken as it is. A symlink on the way is followed only where nobody but root and
 * the caller could have put it: else whoever owns a directory on the way decides where the caller, who may do more than he,
 * writes. The last name is followed by nobody's leave: it has to be the directory itself.
 * @param what the path stands for, for the message
 * @throws UsageError for a symlink that is not followed
 */
export function followedBySelf(what: string, path: string): string {
  const absolute = resolve(path)
  let left = namesOf(absolute)
  let at = '/'
  let links = 0
  // Whether others cannot change where the names so far lead.
  let isOurs = true
  for (let name = left.shift(); name !== undefined; name = left.shift()) {
    if (name === '..') {
      at = dirname(at)
      continue
    }
    const next = join(at, name)
    const found = lstatSync(next, { throwIfNoEntry: false })
    if (!found) return join(next, ...left)
    isOurs &&= isKept(lstatSync(at), found)
    if (!found.isSymbolicLink()) {
      at = next
      continue
    }
    if (left.length === 0) refuse(what, absolute, `it is a symlink to ${readlinkSync(next)}`)
    if (!isOurs) refuse(what, absolute, `${next} is a symlink that others can change`)
    links += 1
    if (links > MAX_LINKS) refuse(what, absolute, 'too many symlinks are on the way')
    const to = readlinkSync(next)
    if (to.startsWith('/')) at = '/'
    left = [...namesOf(to), ...left]
  }
  return at
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '' && name !== '.')

/** Whether a name in a directory stays what it is whatever others do. */
function isKept(directory: Stats, entry: Stats): boolean {
  if (!isSelf(directory)) return false
  if ((directory.mode & WRITABLE_BY_OTHERS) === 0) return true
  return (directory.mode & STICKY) !== 0 && isSelf(entry)
}

const isSelf = ({ uid }: Stats): boolean => uid === 0 || uid === process.geteuid?.()

function refuse(what: string, path: string, why: string): never {
  throw new UsageError(`${what} ${path}: ${why}; give the directory by a path without it`)
}
