import { FsError } from '../../../src/base/errors.ts'
import { Refused } from '../../../src/daemon/engine.ts'
import { pass, wait } from '../machine/time.ts'
import type { Daemon } from '../product/daemon.ts'
import { Kernel } from '../product/kernel.ts'
import type { FileType, History, Node } from './history.ts'
import { NAMES, type Step } from './script.ts'

const KEEP_SIZE_AND_PUNCH = 3
const LONG_RUN = { onProgress: () => undefined, signal: new AbortController().signal }
const SETTLE_MS = 120_000

/** Bytes that say which step of which script wrote them, never zeros. */
export function bytesOf(step: number, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at < size; at += 1) bytes[at] = 1 + ((step * 37 + at * 7 + (at >> 8) * 13) % 255)
  return bytes
}

interface Context {
  readonly daemon: Daemon
  readonly kernel: Kernel
  readonly history: History
  readonly number: number
}

/**
 * The step with names that are there, or that are free where it makes one: what a script says of names is only which of
 * those to take. So a script that was made shorter still does something.
 */
export function resolve(step: Step, history: History): Step {
  if (!('path' in step)) return step
  const choose = (text: string, from: readonly string[]): string => {
    const sum = [...text].reduce((total, letter) => (total * 31 + letter.charCodeAt(0)) % 65_521, 7)
    return from.includes(text) ? text : (from[sum % Math.max(1, from.length)] ?? text)
  }
  const there = [...history.now.keys()].sort()
  const ofType = (type: FileType): string[] => there.filter((path) => history.node(path)?.type === type)
  const free = NAMES.filter((path) => !history.node(path))
  switch (step.step) {
    case 'create':
    case 'mkdir':
    case 'symlink':
      return { ...step, path: choose(step.path, free) }
    case 'fsyncdir':
    case 'rmdir':
      return { ...step, path: choose(step.path, ofType('directory')) }
    case 'unlink':
      return { ...step, path: choose(step.path, [...ofType('file'), ...ofType('symlink')]) }
    case 'link':
      return { ...step, path: choose(step.path, ofType('file')), to: choose(step.to, free) }
    case 'rename':
    case 'chmod':
      return { ...step, path: choose(step.path, there) }
    default:
      return { ...step, path: choose(step.path, ofType('file')) }
  }
}

/** Carries a step out against the product and the history. A step that a local file system would refuse is left out. */
export async function runStep(
  daemon: Daemon,
  history: History,
  number: number,
  step: Step,
): Promise<boolean> {
  history.begin(number)
  const context: Context = { daemon, kernel: new Kernel(daemon), history, number }
  switch (step.step) {
    case 'create':
    case 'mkdir':
    case 'symlink':
      return make(context, step.step, step.path)
    case 'write':
      return write(context, step.path, step.at, step.size)
    case 'append': {
      const node = fileAt(context, step.path)
      return node ? write(context, step.path, history.contentOf(node).length, step.size) : false
    }
    case 'truncate':
    case 'punch':
      return cut(context, step)
    case 'fsync':
    case 'fdatasync':
    case 'fsyncdir':
      return sync(context, step.step, step.path)
    case 'unlink':
    case 'rmdir':
      return remove(context, step.step, step.path)
    case 'rename':
    case 'link':
      return move(context, step.step, step.path, step.to)
    case 'chmod':
    case 'setxattr':
      return describe(context, step)
    case 'read':
      if (!fileAt(context, step.path)) return false
      await context.kernel.read(step.path, 0, 1 << 22)
      return true
    default:
      return operate(context, step)
  }
}

const fileAt = ({ history }: Context, path: string): Node | undefined => {
  const node = history.node(path)
  return node?.type === 'file' ? node : undefined
}

const above = (path: string): string => path.slice(0, path.lastIndexOf('/'))

function hasDirectory({ history }: Context, path: string): boolean {
  const directory = above(path)
  return directory === '' || history.node(directory)?.type === 'directory'
}

const isEmpty = ({ history }: Context, path: string): boolean =>
  ![...history.now.keys()].some((name) => name.startsWith(`${path}/`))

async function make(context: Context, what: 'create' | 'mkdir' | 'symlink', path: string): Promise<boolean> {
  const { history, kernel } = context
  if (history.node(path) || !hasDirectory(context, path)) return false
  if (what === 'create') {
    history.make(path, 'file', 0o644)
    await kernel.create(path, 0o644)
  } else if (what === 'mkdir') {
    history.make(path, 'directory', 0o755)
    await kernel.mkdir(path, 0o755)
  } else {
    const target = `to ${context.number}`
    history.make(path, 'symlink', 0o777, { target })
    await kernel.symlink(path, target)
  }
  return true
}

async function write(context: Context, path: string, at: number, size: number): Promise<boolean> {
  const { history, kernel, number } = context
  const node = fileAt(context, path)
  if (!node) return false
  const data = bytesOf(number, size)
  const before = history.contentOf(node)
  const after = Buffer.alloc(Math.max(before.length, at + size))
  before.copy(after)
  data.copy(after, at)
  history.setContent(node, after, at + size)
  await kernel.write(path, at, data)
  return true
}

async function cut(context: Context, step: Extract<Step, { step: 'truncate' | 'punch' }>): Promise<boolean> {
  const { history, kernel } = context
  const node = fileAt(context, step.path)
  if (!node) return false
  const before = history.contentOf(node)
  if (step.step === 'truncate') {
    const after = Buffer.alloc(step.size)
    before.copy(after)
    history.setContent(node, after)
    await kernel.setattr(step.path, { size: step.size })
    return true
  }
  const after = Buffer.from(before)
  after.fill(0, step.at, Math.min(step.at + step.size, after.length))
  history.setContent(node, after)
  await kernel.fallocate(step.path, KEEP_SIZE_AND_PUNCH, step.at, step.size)
  return true
}

async function sync(
  context: Context,
  what: 'fsync' | 'fdatasync' | 'fsyncdir',
  path: string,
): Promise<boolean> {
  const { history, kernel } = context
  const node = history.node(path)
  if (node?.type !== (what === 'fsyncdir' ? 'directory' : 'file')) return false
  if (what === 'fsyncdir') await kernel.fsyncDirectory(path)
  else await kernel.fsync(path, what === 'fdatasync')
  history.sync(node, what === 'fdatasync')
  return true
}

async function remove(context: Context, what: 'unlink' | 'rmdir', path: string): Promise<boolean> {
  const { history, kernel } = context
  const node = history.node(path)
  if (!node || (node.type === 'directory') !== (what === 'rmdir') || !isEmpty(context, path)) return false
  history.remove(path)
  if (what === 'rmdir') await kernel.rmdir(path)
  else await kernel.unlink(path)
  return true
}

async function move(context: Context, what: 'rename' | 'link', path: string, to: string): Promise<boolean> {
  const { history, kernel } = context
  const node = history.node(path)
  const target = history.node(to)
  if (!node || node === target || !hasDirectory(context, to) || to.startsWith(`${path}/`)) return false
  if (what === 'link') {
    if (target || node.type === 'directory') return false
    history.link(path, to)
    await kernel.link(path, to)
    return true
  }
  if (path.startsWith(`${to}/`)) return false
  if (target && (target.type === 'directory') !== (node.type === 'directory')) return false
  if (target && !isEmpty(context, to)) return false
  history.rename(path, to)
  await kernel.rename(path, to, target !== undefined)
  return true
}

async function describe(
  { history, kernel }: Context,
  step: Extract<Step, { step: 'chmod' | 'setxattr' }>,
): Promise<boolean> {
  const node = history.node(step.path)
  if (!node || node.type === 'symlink') return false
  if (step.step === 'chmod') {
    history.setAttributes(node, { mode: step.mode })
    await kernel.setattr(step.path, { mode: step.mode })
  } else {
    history.setAttributes(node, { xattr: ['user.a', step.value] })
    await kernel.setxattr(step.path, 'user.a', step.value)
  }
  return true
}

async function operate({ daemon, kernel, history }: Context, step: Step): Promise<boolean> {
  switch (step.step) {
    case 'syncfs':
      await kernel.syncfs()
      history.syncAll()
      return true
    case 'migrate':
      await unlessRefused(daemon.engine.migrate({}, LONG_RUN), 'migrate')
      await noteStored(daemon, history)
      return true
    case 'settle':
      await wait(daemon.engine.settle(SETTLE_MS), 'settle')
      await noteStored(daemon, history)
      return true
    case 'verify':
      await wait(daemon.engine.verify(LONG_RUN), 'verify')
      return true
    case 'sweep':
      await wait(daemon.engine.sweep({ dryRun: false, all: false }, LONG_RUN), 'sweep')
      return true
    case 'stray':
      await wait(daemon.leaveStrays(), 'objects that nobody knows')
      return true
    case 'mode':
      await unlessRefused(daemon.engine.setMode(step.mode), `mode ${step.mode}`)
      return true
    case 'pass':
      await pass(step.ms)
      return true
    default:
      throw new Error(`step ${step.step}`)
  }
}

async function noteStored(daemon: Daemon, history: History): Promise<void> {
  const { files, outbox, mode } = await daemon.engine.status()
  if (mode === 'observe' || outbox.length > 0 || files.pending > 0 || files.failed > 0) return
  if (files.total >= history.fileCount) history.allStored()
}

async function unlessRefused(work: Promise<unknown>, what: string): Promise<void> {
  try {
    await wait(work, what)
  } catch (error) {
    if (!(error instanceof Refused) && !(error instanceof FsError)) throw error
  }
}
