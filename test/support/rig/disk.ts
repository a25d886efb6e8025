import fs, {
  closeSync,
  ftruncateSync,
  openSync,
  readlinkSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { FsError } from '../../../src/base/errors.ts'

type Done = (error: Error | null, count?: number) => void
type Transfer = (
  fd: number,
  buffer: Buffer,
  offset: number,
  length: number,
  position: number,
  done: Done,
) => void
type Sync = (fd: number, done: Done) => void
type Open = (path: string, flags: string, done: Done) => void
type Cut = (fd: number, length: number, done: Done) => void
type Unlink = (path: string, done: Done) => void

/** What a disk says to one request. `short`: so many bytes fit, then it is full. */
type Verdict = 'ok' | { readonly short: number } | { readonly errno: 'ENOSPC' | 'EIO' | 'EROFS' }

/** Decides when a request to a local file is carried out, and how it ends. */
export interface Disk {
  /** Calls `perform` when it is this request's turn. */
  turn(what: string, perform: () => void): void
  verdict(what: 'read' | 'write' | 'sync', path: string, length: number): Verdict
}

const disks = new Map<string, Disk>()
const original = {
  open: fs.open,
  close: fs.close,
  ftruncate: fs.ftruncate,
  unlink: fs.unlink,
  read: fs.read,
  write: fs.write,
  fdatasync: fs.fdatasync,
  fsync: fs.fsync,
}

const originalSync = { fdatasyncSync: fs.fdatasyncSync, fsyncSync: fs.fsyncSync }

const DESCRIPTORS = '/proc/self/fd/'

function diskOf(fd: number | string): { disk: Disk; path: string } | undefined {
  return disks.size === 0 ? undefined : diskAt(readlinkSync(`${DESCRIPTORS}${fd}`))
}

function diskAt(path: string): { disk: Disk; path: string } | undefined {
  for (const [root, disk] of disks) if (path.startsWith(`${root}/`)) return { disk, path }
  return undefined
}

const failure = (verdict: Verdict): Error | undefined =>
  typeof verdict === 'object' && 'errno' in verdict
    ? new FsError(verdict.errno, 'the disk of the test')
    : undefined

function attempt(done: Done, body: () => number): void {
  let count: number
  try {
    count = body()
  } catch (error) {
    done(error instanceof Error ? error : new Error(String(error)))
    return
  }
  done(null, count)
}

let underWay = 0

/** Requests to real disks: how long one takes is nothing that a passing of virtual time may decide on. */
export const requestsUnderWay = (): number => underWay

const counted = (done: Done): Done => {
  underWay += 1
  return (error, count) => {
    underWay -= 1
    done(error, count)
  }
}

const transfer =
  (what: 'read' | 'write', real: Transfer): Transfer =>
  (fd, buffer, offset, length, position, done) => {
    const found = diskOf(fd)
    // Written behind a flush that nobody waits for: begun before the steps of a schedule are counted, it is none of them.
    if (!found && what === 'write' && readlinkSync(`${DESCRIPTORS}${fd}`).endsWith('-witness')) {
      attempt(done, () => writeSync(fd, buffer, offset, length, position))
      return
    }
    if (!found) {
      real(fd, buffer, offset, length, position, counted(done))
      return
    }
    const { disk, path } = found
    disk.turn(`${what} ${path} ${position}+${length}`, () => {
      const verdict = disk.verdict(what, path, length)
      const error = failure(verdict)
      if (error) {
        done(error)
        return
      }
      const fits =
        typeof verdict === 'object' && 'short' in verdict ? Math.min(length, verdict.short) : length
      attempt(done, () =>
        what === 'read'
          ? readSync(fd, buffer, offset, fits, position)
          : writeSync(fd, buffer, offset, fits, position),
      )
    })
  }

type SyncObserver = (path: string) => (() => void) | undefined
const observers = new Map<string, SyncObserver>()

/** Calls `begun` as a sync of a file below the directory begins, and what it returns once it succeeded. */
export function observeSyncs(root: string, begun: SyncObserver | undefined): void {
  if (begun) observers.set(root, begun)
  else observers.delete(root)
}

function observed(fd: number): () => void {
  if (observers.size === 0) return () => undefined
  const path = readlinkSync(`${DESCRIPTORS}${fd}`)
  for (const [root, begun] of observers) {
    if (path.startsWith(`${root}/`)) return begun(path) ?? (() => undefined)
  }
  return () => undefined
}

const syncNow =
  (real: (fd: number) => void) =>
  (fd: number): void => {
    const succeeded = observed(fd)
    real(fd)
    succeeded()
  }

const sync =
  (real: Sync, now: (fd: number) => void): Sync =>
  (fd, done) => {
    const found = diskOf(fd)
    if (!found) {
      const succeeded = observed(fd)
      const finish = counted(done)
      real(fd, (error) => {
        if (!error) succeeded()
        finish(error)
      })
      return
    }
    const { disk, path } = found
    disk.turn(`sync ${path}`, () => {
      const error = failure(disk.verdict('sync', path, 0))
      if (error) {
        done(error)
        return
      }
      attempt(done, () => {
        syncNow(now)(fd)
        return 0
      })
    })
  }

/** At its turn, and with no other outcome than that of the call. */
function inTurn(
  found: { disk: Disk; path: string } | undefined,
  what: string,
  done: Done,
  real: (done: Done) => void,
  now: () => void,
): void {
  if (!found) {
    real(counted(done))
    return
  }
  found.disk.turn(`${what} ${found.path}`, () =>
    attempt(done, () => {
      now()
      return 0
    }),
  )
}

// Some file systems write out then what was written.
const close =
  (real: Sync): Sync =>
  (fd, done) =>
    inTurn(
      diskOf(fd),
      'close',
      done,
      (counted) => real(fd, counted),
      () => closeSync(fd),
    )

const cut =
  (real: Cut): Cut =>
  (fd, length, done) =>
    inTurn(
      diskOf(fd),
      'cut',
      done,
      (counted) => real(fd, length, counted),
      () => ftruncateSync(fd, length),
    )

const unlink =
  (real: Unlink): Unlink =>
  (path, done) =>
    inTurn(
      diskAt(path),
      'unlink',
      done,
      (counted) => real(path, counted),
      () => unlinkSync(path),
    )

// A file that another process is asked to hold. The descriptor named is closed only when that has been answered.
const reopen =
  (real: Open): Open =>
  (path, flags, done) => {
    const found = path.startsWith(DESCRIPTORS) ? diskOf(path.slice(DESCRIPTORS.length)) : undefined
    if (!found) {
      real(path, flags, done)
      return
    }
    found.disk.turn(`open ${found.path}`, () => attempt(done, () => openSync(path, flags)))
  }

Object.assign(fs, {
  open: reopen(original.open as unknown as Open),
  close: close(original.close as unknown as Sync),
  ftruncate: cut(original.ftruncate as unknown as Cut),
  unlink: unlink(original.unlink as unknown as Unlink),
  read: transfer('read', original.read as unknown as Transfer),
  write: transfer('write', original.write as unknown as Transfer),
  fdatasync: sync(original.fdatasync as unknown as Sync, originalSync.fdatasyncSync),
  fsync: sync(original.fsync as unknown as Sync, originalSync.fsyncSync),
  fdatasyncSync: syncNow(originalSync.fdatasyncSync),
  fsyncSync: syncNow(originalSync.fsyncSync),
})
syncBuiltinESMExports()

/** Requests to files below the directory go through `disk`; `undefined` ends that. */
export function useDisk(root: string, disk: Disk | undefined): void {
  if (disk) disks.set(root, disk)
  else disks.delete(root)
}

/** A disk that carries out what it is asked for at once, and is full for writes that `isFull` says so of. */
export function fullDisk(fits: (path: string, length: number) => number): Disk {
  return {
    turn: (_, perform) => setImmediate(perform),
    verdict: (what, path, length) => {
      if (what !== 'write') return 'ok'
      const room = fits(path, length)
      return room >= length ? 'ok' : room > 0 ? { short: room } : { errno: 'ENOSPC' }
    },
  }
}
