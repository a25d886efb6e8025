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
import { type Action, pattern, type Reply } from '../actions.ts'
import { statOf, walkTree } from './walk.ts'

// A client as a process of its own: it may hang in a system call on the mount without the harness hanging with it.
// Takes {id, action} as lines on standard input, answers each with a line on standard output. The argument is its root.
const root = Buffer.from(process.argv[2] ?? '/', 'latin1')
const slots = new Map<number, number>()

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

function openFlags(action: Action & { do: 'write' }): number {
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

function perform(action: Action, steps: Steps): void {
  const call = (body: () => void): void => steps.run(action.do, body)
  switch (action.do) {
    case 'write':
      return withFile(steps, action.path, openFlags(action), (fd) => {
        writeAll(steps, fd, pattern(action.seed, action.length), action.append ? null : action.offset)
        if (action.fsync) steps.run('fsync', () => fsyncSync(fd))
      })
    case 'read':
      return withFile(
        steps,
        action.path,
        constants.O_RDONLY | (action.direct ? constants.O_DIRECT : 0),
        (fd) => readAll(steps, fd, action.offset, action.length),
      )
    case 'truncate':
      return call(() => truncateSync(at(action.path), action.size))
    case 'rename':
      return call(() => renameSync(at(action.from), at(action.to)))
    case 'link':
      return call(() => linkSync(at(action.from), at(action.to)))
    case 'symlink':
      return call(() => symlinkSync(Buffer.from(action.target, 'latin1'), at(action.path)))
    case 'unlink':
      return call(() => unlinkSync(at(action.path)))
    case 'rmdir':
      return call(() => rmdirSync(at(action.path)))
    case 'mkdir':
      return call(() => mkdirSync(at(action.path), action.mode))
    case 'chmod':
      return call(() => chmodSync(at(action.path), action.mode))
    case 'utimes':
      return call(() => lutimesSync(at(action.path), action.seconds, action.seconds))
    case 'list':
      return call(() => {
        steps.result = { names: readdirSync(at(action.path), 'latin1') }
      })
    case 'stat':
      return call(() => {
        steps.result = { stat: statOf(lstatSync(at(action.path), { bigint: true })) }
      })
    case 'readlink':
      return call(() => {
        steps.result = { data: readlinkSync(at(action.path), 'buffer').toString('base64') }
      })
    case 'syncDirectory':
      return withFile(steps, action.path, constants.O_RDONLY | constants.O_DIRECTORY, (fd) =>
        steps.run('fsync', () => fsyncSync(fd)),
      )
    case 'hold': {
      const before = slots.get(action.slot)
      if (before !== undefined) closeQuietly(before)
      slots.delete(action.slot)
      return call(() => {
        slots.set(action.slot, openSync(at(action.path), constants.O_RDWR))
      })
    }
    case 'readHeld':
      return readAll(
        steps,
        steps.run('read', () => slotOf(action.slot)),
        action.offset,
        action.length,
      )
    case 'writeHeld':
      return writeAll(
        steps,
        steps.run('write', () => slotOf(action.slot)),
        pattern(action.seed, action.length),
        action.offset,
      )
    case 'release':
      return call(() => {
        const fd = slotOf(action.slot)
        slots.delete(action.slot)
        closeSync(fd)
      })
    case 'record':
      return withFile(steps, action.path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, (fd) =>
        writeAll(steps, fd, Buffer.from(action.line, 'latin1'), null),
      )
    case 'publish':
      withFile(steps, action.temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, (fd) =>
        writeAll(steps, fd, Buffer.from(action.text, 'latin1'), 0),
      )
      return steps.run('rename', () => renameSync(at(action.temporary), at(action.path)))
    case 'walk':
      return call(() => {
        const flags = constants.O_DIRECT
        steps.result = { tree: walkTree(at(action.path), { content: action.content, flags }) }
      })
  }
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
