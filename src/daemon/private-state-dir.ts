import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  type Stats,
} from 'node:fs'
import { join } from 'node:path'
import { DATABASE_SUFFIXES } from '../base/database-suffixes.ts'
import { reasonOf, UsageError } from '../base/errors.ts'
import { kindOf } from '../base/plain-file.ts'
import { NotPrivate, OTHERS, requireOwn } from '../base/private.ts'
import { openedByOthers } from '../sys/presence.ts'

// Rights to write.
const WRITERS = 0o022
// Rights to get at what is in a directory.
const VISITORS = 0o011

const NEW = '.anew'

/**
 * Whether a state directory could be made this user's alone, with nothing changed.
 * @throws UsageError if it, or something in it, belongs to somebody else or leads elsewhere
 */
export function checkPrivate(stateDir: string): void {
  if (!lstatSync(stateDir, { throwIfNoEntry: false })) return
  own(stateDir, () => {
    requireOwn(stateDir, lstatSync(stateDir))
    for (const path of entriesOf(stateDir)) requireOwn(path, lstatSync(path))
  })
}

/**
 * What lies in the place of another kind is found before anybody opens it: an open of a fifo would never end. A file that is not there is
 * what its reader makes of that, so to take the thing away is always a way on.
 * @param only of these names
 * @throws UsageError
 */
export function checkKinds(stateDir: string, only?: readonly string[]): void {
  for (const [names, isRight, wanted] of KINDS) {
    for (const name of only ? names.filter((each) => only.includes(each)) : names) {
      const path = join(stateDir, name)
      const stat = lstatSync(path, { throwIfNoEntry: false })
      if (!stat || isRight(stat)) continue
      throw new UsageError(
        `the state directory ${stateDir} cannot be used: ${path} is ${kindOf(stat)}, and ferryfs has ${wanted} there; ` +
          'take that away, and put back what was there if you have it',
      )
    }
  }
}

const KINDS: ReadonlyArray<
  readonly [names: readonly string[], isRight: (stat: Stats) => boolean, wanted: string]
> = [
  [['locks', 'staging', 'cache', 'store', 'lost'], (stat) => stat.isDirectory(), 'a directory'],
  [
    [
      ...DATABASE_SUFFIXES.map((suffix) => `catalog.db${suffix}`),
      ...[
        'mount.json',
        'daemon.log',
        'daemon.log.1',
        'reserve',
        'locks/supervisor.lock',
        'locks/worker.lock',
      ],
    ],
    (stat) => stat.isFile(),
    'a file',
  ],
  [['control.sock'], (stat) => !stat.isDirectory(), 'a socket'],
]

/** Whether a name in a state directory is for something else than an embedded store. */
export function isForState(name: string): boolean {
  return name !== 'store' && KINDS.some(([names]) => names.includes(name))
}

/**
 * Makes a state directory and all that is in it this user's alone, whatever rights it had: 0700, its files 0600. What others
 * could open until now they may have open still, or hold a lock on: a file right in it is made anew, so that they are left with
 * the old one; deeper in it, whoever has something open is named, and has to end first. The rights of the directory itself go
 * last: whoever is killed on the way finds what is left to do.
 * @throws UsageError as `checkPrivate`, or if others have a file open
 */
export function makePrivate(stateDir: string): void {
  own(stateDir, () => {
    const { mode } = lstatSync(stateDir)
    requireOwn(stateDir, lstatSync(stateDir))
    // From now on nobody puts anything in the way.
    if ((mode & WRITERS) !== 0) chmodSync(stateDir, mode & 0o755)
    const wasOpen = (mode & VISITORS) !== 0
    for (const path of entriesOf(stateDir)) {
      const stat = lstatSync(path)
      requireOwn(path, stat)
      if ((stat.mode & OTHERS) === 0) continue
      if (stat.isDirectory()) closeDirectory(path, wasOpen)
      else if (stat.isFile() && wasOpen) makeAnew(path, stat)
      else chmodSync(path, stat.mode & 0o700)
    }
    if ((mode & OTHERS) !== 0) chmodSync(stateDir, 0o700)
  })
}

function entriesOf(directory: string): string[] {
  // A volume of its own has one of these, of root whoever uses it.
  return readdirSync(directory)
    .filter((name) => name !== 'lost+found')
    .map((name) => join(directory, name))
}

/** A directory in it that others could look into. */
function closeDirectory(path: string, wasOpen: boolean): void {
  const below = readdirSync(path, { recursive: true, encoding: 'utf8' }).map((name) => join(path, name))
  for (const each of below) requireOwn(each, lstatSync(each))
  const [opened] = wasOpen ? openedByOthers(path) : []
  if (opened) {
    throw new NotPrivate(
      opened.path,
      `is held open by process ${opened.pid} of user ${opened.uid}: end that first`,
    )
  }
  for (const each of below) chmodSync(each, lstatSync(each).mode & 0o700)
  chmodSync(path, 0o700)
}

/** The same content under the same name in another file, which nobody has open. */
function makeAnew(path: string, stat: Stats): void {
  // What SQLite shares between processes is made again from nothing.
  if (path.endsWith('-shm')) {
    rmSync(path)
    return
  }
  const copy = `${path}${NEW}`
  rmSync(copy, { force: true })
  const made = openSync(copy, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    copyFileSync(path, copy, constants.COPYFILE_FICLONE)
    chmodSync(copy, stat.mode & 0o700)
    fsyncSync(made)
    renameSync(copy, path)
  } catch (error) {
    rmSync(copy, { force: true })
    throw error
  } finally {
    closeSync(made)
  }
}

function own(stateDir: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    const advice =
      error instanceof NotPrivate
        ? 'give another --state-dir, or take that away'
        : 'give another --state-dir, or what is missing'
    throw new UsageError(
      `the state directory ${stateDir} is not private and cannot be made so: ${reasonOf(error)}; ${advice}`,
      2,
      { cause: error },
    )
  }
}
