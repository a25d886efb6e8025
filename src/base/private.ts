import {
  chmodSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  type Stats,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { isSystemError } from './errors.ts'

/** Rights of group and others. */
export const OTHERS = 0o077

/** Something in a place that is to be this user's alone was put there by, or leads to, somebody else. */
export class NotPrivate extends Error {
  constructor(path: string, why: string) {
    super(`${path} ${why}`)
    this.name = 'NotPrivate'
  }
}

/**
 * A directory with all that is above it, as `mkdir -p` makes it.
 * (mkdirSync with `recursive` goes round for ever on a file system that says ENOENT to every mkdir, such as /proc.)
 * @returns the uppermost one that was made, if any
 * @throws the error of mkdir(2)
 */
export function makeDirectories(path: string, mode: number): string | undefined {
  try {
    mkdirSync(path, mode)
    return path
  } catch (error) {
    if (!isSystemError(error)) throw error
    if (error.code === 'EEXIST' && isDirectory(path)) return undefined
    if (error.code !== 'ENOENT' || dirname(path) === path || isDirectory(dirname(path))) throw error
  }
  const above = makeDirectories(dirname(path), mode)
  const made = makeDirectories(path, mode)
  return above ?? made
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

/**
 * A directory that nobody but this user gets into, made where needed.
 * @returns the uppermost directory that was made, if any
 * @throws NotPrivate if it is somebody else's; the error of mkdir(2)
 */
export function makePrivateDirectory(path: string): string | undefined {
  const made = makeDirectories(path, 0o700)
  const stat = lstatSync(path)
  requireOwn(path, stat)
  if ((stat.mode & OTHERS) !== 0) chmodSync(path, stat.mode & 0o700)
  return made
}

/**
 * A file that only this user can open, made where needed: before SQLite makes one with rights for everybody. One that is there
 * is not opened: to close it again would drop this process's locks on it (fcntl(2)).
 * @throws NotPrivate if something else is there, or somebody else's; the error of open(2)
 */
export function makePrivateFile(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat) {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600))
    return
  }
  requireOwn(path, stat)
  if ((stat.mode & OTHERS) !== 0) chmodSync(path, stat.mode & 0o700)
}

/** @throws NotPrivate unless it is a file or directory of this user, with one name. */
export function requireOwn(path: string, stat: Stats): void {
  const own = process.geteuid?.()
  if (stat.isSymbolicLink()) throw new NotPrivate(path, 'is a symbolic link')
  if (own !== undefined && stat.uid !== own) {
    throw new NotPrivate(path, `belongs to user ${stat.uid}, not to user ${own}`)
  }
  if (stat.isFile() && stat.nlink > 1) throw new NotPrivate(path, 'has another name elsewhere')
}
