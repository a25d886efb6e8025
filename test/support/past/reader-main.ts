import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { flagsOf } from '../../../src/sys/index.ts'
import { posix } from '../posix/posix.ts'
import { runsOf } from './cells.ts'
import { clockNs, type Question, type Seen, VERSION_XATTR } from './questions.ts'

// A reader as a process of its own: it asks the mount one question after the other, as fast as the mount answers.
// Takes a list of questions as a message, answers with the list of what it saw. The argument is the mount.
const root = process.argv[2] ?? '/'
const held = new Map<number, number>()
const buffer = Buffer.alloc(4 << 20)

type Answer = Omit<Seen, 'from' | 'to'>

const at = (path: string): string => `${root}/${path}`

/** As programs read: to the end. One call may give less than there is. */
function content(fd: number): Buffer {
  for (let length = 0; ; ) {
    const read = readSync(fd, buffer, length, buffer.length - length, length)
    if (read === 0) return buffer.subarray(0, length)
    length += read
  }
}

/** The bytes are looked at later: only what the mount takes counts. */
function bytesOf(question: Reading): Buffer {
  if (question.ask === 'readHeld') return content(held.get(question.slot) ?? -1)
  if (question.ask === 'hold') {
    const before = held.get(question.slot)
    if (before !== undefined) closeSync(before)
    held.delete(question.slot)
    const fd = openSync(at(question.path), constants.O_RDONLY)
    held.set(question.slot, fd)
    return content(fd)
  }
  return withFile(question.path, content)
}

function withFile<T>(path: string, body: (fd: number) => T): T {
  const fd = openSync(at(path), constants.O_RDONLY)
  try {
    return body(fd)
  } finally {
    closeSync(fd)
  }
}

function answer(question: Exclude<Question, Reading>): Answer {
  switch (question.ask) {
    case 'stat': {
      const stat = statSync(at(question.path))
      return { size: stat.size, mode: stat.mode & 0o7777, isDirectory: stat.isDirectory() }
    }
    case 'xattr':
      return { value: posix.getxattr(at(question.path), VERSION_XATTR).readUInt32LE(0) }
    case 'flags':
      return withFile(question.path, (fd) => ({
        value: flagsOf(fd),
        isDirectory: fstatSync(fd).isDirectory(),
      }))
    case 'list':
      return { names: readdirSync(at(question.path)) }
  }
}

/** libuv has no name for some. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { errno = 0, code } = error as NodeJS.ErrnoException
  return errno === -osConstants.errno.ESTALE ? 'ESTALE' : (code ?? String(error))
}

type Reading = Extract<Question, { ask: 'read' | 'hold' | 'readHeld' }>

const isReading = (question: Question): question is Reading =>
  ['read', 'hold', 'readHeld'].includes(question.ask)

function look(question: Question): Seen {
  const from = clockNs()
  try {
    if (!isReading(question)) return { ...answer(question), from, to: clockNs() }
    const bytes = bytesOf(question)
    const to = clockNs()
    return { runs: runsOf(bytes), size: bytes.length, from, to }
  } catch (error) {
    return { errno: nameOf(error), from, to: clockNs() }
  }
}

process.on('message', (questions: Question[]) => {
  process.send?.(questions.map(look))
})
