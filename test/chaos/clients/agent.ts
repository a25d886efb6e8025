import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { createInterface } from 'node:readline'
import { posix } from '../../support/posix/posix.ts'
import { type Action, type ActionName, type ActionOf, pattern, type Reply } from '../actions.ts'
import { statOf, walkTree } from './walk.ts'

// A client as a process of its own: it may hang in a system call on the mount without the harness hanging with it.
// Takes {id, action} as lines on standard input, answers each with a line on standard output. The argument is its root.
const root = Buffer.from(process.argv[2] ?? '/', 'latin1')
const slots = new Map<number, number>()

const XATTR = Buffer.from('user.chaos')

type Result = Omit<Reply, 'id'>

function at(path: string): Buffer {
  return path === '' ? root : Buffer.concat([root, Buffer.from('/'), Buffer.from(path, 'latin1')])
}

/** Runs the steps of an action one after the other; which one failed is part of the answer. */
class Steps {
  result: Result = {}

  run<T>(step: string, body: () => T): T {
    try {
      return body()
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
      this.result = { ...this.result, errno: code, step }
      throw this
    }
  }
}

function openFlags(action: ActionOf<'write'>): number {
  return (
    constants.O_RDWR |
    constants.O_CREAT |
    (action.exclusive ? constants.O_EXCL : 0) |
    (action.truncate ? constants.O_TRUNC : 0) |
    (action.append ? constants.O_APPEND : 0)
  )
}

function writeAll(steps: Steps, fd: number, bytes: Buffer, offset: number | null): void {
  for (let done = 0; done < bytes.length; ) {
    done += steps.run('write', () =>
      writeSync(fd, bytes, done, bytes.length - done, offset === null ? null : offset + done),
    )
    steps.result = { ...steps.result, written: done }
  }
}

function readAll(steps: Steps, fd: number, offset: number, length: number): void {
  const buffer = Buffer.alloc(length)
  let done = 0
  while (done < length) {
    const part = steps.run('read', () => readSync(fd, buffer, done, length - done, offset + done))
    if (part === 0) break
    done += part
  }
  steps.result = { ...steps.result, data: buffer.toString('base64', 0, done) }
}

function withFile(steps: Steps, path: string, flags: number, body: (fd: number) => void): void {
  const fd = steps.run('open', () => openSync(at(path), flags, 0o644))
  let closed = false
  try {
    body(fd)
    closed = true
    steps.run('close', () => closeSync(fd))
  } finally {
    if (!closed) closeQuietly(fd)
  }
}

function syncDirectory(steps: Steps, path: string): void {
  withFile(steps, path, constants.O_RDONLY | constants.O_DIRECTORY, (fd) =>
    steps.run('fsync', () => fsyncSync(fd)),
  )
}

/** After an error that is reported; the descriptor is gone whatever close says. */
function closeQuietly(fd: number): void {
  try {
    closeSync(fd)
  } catch {
    // The step before it has failed already.
  }
}

function slotOf(slot: number): number {
  const fd = slots.get(slot)
  if (fd === undefined) throw Object.assign(new Error('nothing is held'), { code: 'EBADF' })
  return fd
}

type Handlers = { readonly [K in ActionName]: (action: ActionOf<K>, steps: Steps) => void }

const handlers: Handlers = {
  write(action, steps) {
    withFile(steps, action.path, openFlags(action), (fd) => {
      writeAll(steps, fd, pattern(action.seed, action.length), action.append ? null : action.offset)
      if (action.fsync) steps.run('fsync', () => fsyncSync(fd))
    })
  },
  read({ path, direct, offset, length }, steps) {
    const flags = constants.O_RDONLY | (direct ? constants.O_DIRECT : 0)
    withFile(steps, path, flags, (fd) => readAll(steps, fd, offset, length))
  },
  truncate: ({ path, size }, steps) => steps.run('truncate', () => truncateSync(at(path), size)),
  rename: ({ from, to }, steps) => steps.run('rename', () => renameSync(at(from), at(to))),
  link: ({ from, to }, steps) => steps.run('link', () => linkSync(at(from), at(to))),
  symlink: ({ target, path }, steps) =>
    steps.run('symlink', () => symlinkSync(Buffer.from(target, 'latin1'), at(path))),
  unlink: ({ path }, steps) => steps.run('unlink', () => unlinkSync(at(path))),
  rmdir: ({ path }, steps) => steps.run('rmdir', () => rmdirSync(at(path))),
  mkdir: ({ path, mode }, steps) => steps.run('mkdir', () => void mkdirSync(at(path), mode)),
  chmod: ({ path, mode }, steps) => steps.run('chmod', () => chmodSync(at(path), mode)),
  utimes: ({ path, seconds }, steps) => steps.run('utimes', () => lutimesSync(at(path), seconds, seconds)),
  xattr({ path, value }, steps) {
    steps.run('setxattr', () => posix.setxattr(at(path), XATTR, Buffer.from(value), 0))
    const got = steps.run('getxattr', () => posix.getxattr(at(path), XATTR))
    steps.result = { data: got.toString('base64') }
  },
  list(action, steps) {
    steps.result = steps.run('list', () => ({ names: readdirSync(at(action.path), 'latin1') }))
  },
  stat({ path }, steps) {
    steps.result = steps.run('stat', () => ({ stat: statOf(lstatSync(at(path), { bigint: true })) }))
  },
  readlink({ path }, steps) {
    steps.result = steps.run('readlink', () => ({
      data: readlinkSync(at(path), 'buffer').toString('base64'),
    }))
  },
  syncDirectory: ({ path }, steps) => syncDirectory(steps, path),
  hold({ path, slot }, steps) {
    const before = slots.get(slot)
    if (before !== undefined) closeQuietly(before)
    slots.delete(slot)
    steps.run('open', () => slots.set(slot, openSync(at(path), constants.O_RDWR)))
  },
  readHeld({ slot, offset, length }, steps) {
    readAll(
      steps,
      steps.run('read', () => slotOf(slot)),
      offset,
      length,
    )
  },
  writeHeld({ slot, offset, length, seed, fsync }, steps) {
    const fd = steps.run('write', () => slotOf(slot))
    writeAll(steps, fd, pattern(seed, length), offset)
    if (fsync) steps.run('fsync', () => fsyncSync(fd))
  },
  release({ slot }, steps) {
    steps.run('close', () => {
      const fd = slotOf(slot)
      slots.delete(slot)
      closeSync(fd)
    })
  },
  record({ path, line, fsync }, steps) {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND
    withFile(steps, path, flags, (fd) => {
      writeAll(steps, fd, Buffer.from(line, 'latin1'), null)
      if (fsync) steps.run('fsync', () => fsyncSync(fd))
    })
  },
  publish({ path, temporary, text, fsync }, steps) {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC
    withFile(steps, temporary, flags, (fd) => {
      writeAll(steps, fd, Buffer.from(text, 'latin1'), 0)
      if (fsync) steps.run('fsync', () => fsyncSync(fd))
    })
    steps.run('rename', () => renameSync(at(temporary), at(path)))
    if (fsync) syncDirectory(steps, path.slice(0, path.lastIndexOf('/')))
  },
  walk({ path, content }, steps) {
    const flags = constants.O_DIRECT
    steps.result = steps.run('walk', () => ({ tree: walkTree(at(path), { content, flags }) }))
  },
}

function perform<K extends ActionName>(action: ActionOf<K>, steps: Steps): void {
  handlers[action.do](action, steps)
}

// Modes are what the model says, not what this process inherited.
process.umask(0)
for await (const line of createInterface({ input: process.stdin })) {
  // The other end is our own code.
  const { id, action } = JSON.parse(line) as { id: number; action: Action }
  const steps = new Steps()
  try {
    perform(action, steps)
  } catch (error) {
    if (error !== steps) throw error
  }
  process.stdout.write(`${JSON.stringify({ id, ...steps.result })}\n`)
}
