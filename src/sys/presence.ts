import { closeSync, constants, openSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { O_PATH } from './files.ts'
import { check, declare } from './library.ts'

const fcntlCall = declare('int fcntl(int, int, void *)')

// fcntl.h and struct flock (the 64-bit layout is one on every architecture): i16 type, i16 whence, i64 start, i64 length,
// i32 pid.
const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
const F_RDLCK = 0
const F_WRLCK = 1
const F_UNLCK = 2
const FLOCK_BYTES = 32
const START_OFFSET = 8
const LENGTH_OFFSET = 16

function describe(type: number, at: number): Buffer {
  const description = Buffer.alloc(FLOCK_BYTES)
  description.writeInt16LE(type, 0)
  description.writeBigInt64LE(BigInt(at), START_OFFSET)
  description.writeBigInt64LE(1n, LENGTH_OFFSET)
  return description
}

/**
 * Leaves a mark on an open file or directory that others can see while this descriptor, or a copy of it in another process,
 * is open: a shared lock on one byte far behind every end, in the way of nobody. (An exclusive lock would need a descriptor
 * for writing, which a directory has none of; flock(2) is what scripts use on directories.)
 * @throws FsError where the file system has no locks
 */
export function leavePresence(descriptor: number, at: number): void {
  check(fcntlCall(descriptor, F_OFD_SETLK, describe(F_RDLCK, at)), 'fcntl')
}

/** Whether somebody else has left this mark on the file. @throws FsError where the file system has no locks */
export function othersPresent(descriptor: number, at: number): boolean {
  const description = describe(F_WRLCK, at)
  check(fcntlCall(descriptor, F_OFD_GETLK, description), 'fcntl')
  return description.readInt16LE(0) !== F_UNLCK
}

/** A process, and the (real) user who runs it, also where it is a set-user-id program. */
export interface Holder {
  readonly pid: number
  readonly uid: number
}

/**
 * The processes that have left this mark on the open file, as far as they can be seen from here: not those of other PID
 * namespaces, and without root only one's own. Looks at every descriptor of the machine, so only for who is to be told.
 */
export function presentAt(descriptor: number, at: number): Holder[] {
  return holdersOf(descriptor, ` ${at} ${at}$`)
}

/** The processes that hold any lock on a file, as far as they can be seen from here. @throws the error of open(2) */
export function lockHolders(path: string): Holder[] {
  // A descriptor of this kind can be closed without dropping locks that this process has on the file.
  const descriptor = openSync(path, O_PATH | constants.O_NOFOLLOW)
  try {
    return holdersOf(descriptor, ' ')
  } finally {
    closeSync(descriptor)
  }
}

function holdersOf(descriptor: number, rest: string): Holder[] {
  const file = lockedFile(descriptor)
  if (file === undefined) return []
  const line = new RegExp(`^lock:.* ${file}${rest}`, 'm')
  const holders: Holder[] = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const uid = holdsLock(pid, line) ? realUser(pid) : undefined
    if (uid !== undefined) holders.push({ pid, uid })
  }
  return holders
}

/** A file that somebody else has open. */
export interface Opened extends Holder {
  readonly path: string
}

/** Processes of other users that have something in a directory open, as far as they can be seen from here. */
export function openedByOthers(directory: string): Opened[] {
  const own = process.geteuid?.()
  const opened: Opened[] = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    const uid = Number.isInteger(pid) && pid !== process.pid ? realUser(pid) : undefined
    if (uid === undefined || uid === own) continue
    const path = pathsOf(pid).find((each) => each.startsWith(`${directory}/`))
    if (path !== undefined) opened.push({ pid, uid, path })
  }
  return opened
}

/** What a process has open or mapped. */
function pathsOf(pid: number): string[] {
  return ['fd', 'map_files'].flatMap((kind) => {
    try {
      return readdirSync(`/proc/${pid}/${kind}`).flatMap((name) => linkOf(`/proc/${pid}/${kind}/${name}`))
    } catch {
      return []
    }
  })
}

function linkOf(path: string): string[] {
  try {
    return [readlinkSync(path)]
  } catch {
    // Closed meanwhile.
    return []
  }
}

function holdsLock(pid: number, line: RegExp): boolean {
  try {
    return readdirSync(`/proc/${pid}/fdinfo`).some((fd) =>
      line.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')),
    )
  } catch {
    // It has ended, or is nobody's business of ours.
    return false
  }
}

/** The file as the kernel names it where it lists locks, `fe:00:5678`; the device is not always the one of stat(2). */
function lockedFile(descriptor: number): string | undefined {
  const own = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1')
  const mount = /^mnt_id:\s*(\d+)$/m.exec(own)?.[1]
  const device = readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .find((entry) => entry.startsWith(`${mount} `))
    ?.split(' ')[2]
  if (device === undefined) return undefined
  const hex = device.split(':').map((part) => Number(part).toString(16).padStart(2, '0'))
  const inode =
    /^ino:\s*(\d+)$/m.exec(own)?.[1] ?? statSync(`/proc/self/fd/${descriptor}`, { bigint: true }).ino
  return `${hex.join(':')}:${inode}`
}

function realUser(pid: number): number | undefined {
  try {
    const uid = /^Uid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
    return uid === undefined ? undefined : Number(uid)
  } catch {
    return undefined
  }
}

/** An open directory to leave presence on. @throws the error of open(2) */
export const DIRECTORY_TO_READ = constants.O_RDONLY | constants.O_DIRECTORY
