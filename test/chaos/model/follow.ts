import { type Action, type ActionOf, pattern, type Reply } from '../actions.ts'
import { changed, doubted, misread, overwritten, resized, sizeBounds } from './content.ts'
import { type FileNode, Refusal, type Tree } from './tree.ts'

/** What a tree becomes by an action, or why the answer cannot be that of this tree. */
type Outcome = { readonly trees: readonly Tree[] } | { readonly wrong: string }

/** Whether an errno may come of a fault in force and not of the tree: the action may then have taken effect or not. */
export type Excuse = (action: Action, errno: string) => boolean

/**
 * Compares an answer with one tree that may be the truth. Several trees come out where an excused failure leaves open
 * what it did.
 */
export function follow(tree: Tree, action: Action, reply: Reply, excuse: Excuse): Outcome {
  switch (action.do) {
    case 'write':
      return followWrite(tree, action, reply, excuse)
    case 'writeHeld': {
      const id = tree.held(action.slot)
      if (id === undefined) return notHeld(tree, reply)
      const bytes = pattern(action.seed, action.length)
      return written(tree, id, { offset: action.offset, bytes }, action, reply, excuse)
    }
    case 'read':
    case 'readHeld':
      return followRead(tree, action, reply, excuse)
    case 'hold': {
      // The slot is emptied first, whether the open then fails or not.
      const emptied = tree.copy()
      emptied.release(action.slot)
      return followSimple(emptied, action, reply, excuse)
    }
    default:
      return followSimple(tree, action, reply, excuse)
  }
}

function wrong(text: string): Outcome {
  return { wrong: text }
}

function notHeld(tree: Tree, reply: Reply): Outcome {
  return reply.errno === 'EBADF' ? { trees: [tree] } : wrong('expected EBADF: nothing is open')
}

/** What the tree itself refuses; undefined where it would not. */
function attempt(body: () => void): string | undefined {
  try {
    body()
    return undefined
  } catch (error) {
    if (error instanceof Refusal) return error.errno
    throw error
  }
}

function failedOtherwise(expected: string | undefined, reply: Reply): Outcome {
  return wrong(
    reply.errno === undefined
      ? `it succeeded, expected ${expected}`
      : `${reply.errno} in ${reply.step}, expected ${expected ?? 'success'}`,
  )
}

function followSimple(tree: Tree, action: Action, reply: Reply, excuse: Excuse): Outcome {
  const after = tree.copy()
  let observed: string | undefined
  const refusal = attempt(() => {
    observed = effect(after, action, reply)
  })
  if (reply.errno === undefined) {
    if (refusal !== undefined) return failedOtherwise(refusal, reply)
    return observed === undefined ? { trees: [after] } : wrong(observed)
  }
  if (reply.errno === refusal) return { trees: [tree] }
  if (!excuse(action, reply.errno)) return failedOtherwise(refusal, reply)
  return { trees: refusal === undefined ? [tree, after] : [tree] }
}

/** Does to the tree what the action does; says what is wrong with what was observed. @throws Refusal */
function effect(tree: Tree, action: Action, reply: Reply): string | undefined {
  switch (action.do) {
    case 'truncate': {
      const id = tree.find(action.path)
      tree.set(
        id,
        changed(tree.file(id), (data) => resized(data, action.size)),
      )
      return undefined
    }
    case 'rename':
      rename(tree, action.from, action.to)
      return undefined
    case 'link':
      link(tree, action.from, action.to)
      return undefined
    case 'symlink':
      vacant(tree, action.path)
      tree.add(action.path, { type: 'symlink', target: action.target })
      return undefined
    case 'mkdir':
      vacant(tree, action.path)
      tree.add(action.path, { type: 'dir', entries: new Map(), mode: action.mode, mtime: undefined })
      return undefined
    case 'unlink': {
      const { parent, name } = tree.place(action.path)
      if (tree.node(tree.find(action.path)).type === 'dir') throw new Refusal('EISDIR')
      tree.leave(parent, name)
      return undefined
    }
    case 'rmdir': {
      const { parent, name } = tree.place(action.path)
      const node = tree.node(tree.find(action.path))
      if (node.type !== 'dir') throw new Refusal('ENOTDIR')
      if (node.entries.size > 0) throw new Refusal('ENOTEMPTY')
      tree.leave(parent, name)
      return undefined
    }
    case 'chmod':
    case 'utimes': {
      const id = tree.find(action.path)
      const node = tree.node(id)
      if (node.type === 'symlink') return undefined
      tree.set(
        id,
        action.do === 'chmod' ? { ...node, mode: action.mode } : { ...node, mtime: action.seconds },
      )
      return undefined
    }
    case 'xattr': {
      tree.find(action.path)
      const got = Buffer.from(reply.data ?? '', 'base64').toString()
      return reply.errno !== undefined || got === action.value
        ? undefined
        : `attribute ${got}, expected ${action.value}`
    }
    case 'hold': {
      const id = tree.find(action.path)
      tree.file(id)
      tree.hold(action.slot, id)
      return undefined
    }
    case 'release':
      if (tree.held(action.slot) === undefined) throw new Refusal('EBADF')
      tree.release(action.slot)
      return undefined
    case 'syncDirectory':
      if (tree.node(tree.find(action.path)).type !== 'dir') throw new Refusal('ENOTDIR')
      return undefined
    case 'list':
    case 'stat':
    case 'readlink':
      return observe(tree, action, reply)
    default:
      throw new Error(`${action.do} is not part of the exact model`)
  }
}

function vacant(tree: Tree, path: string): void {
  if (tree.place(path).id !== undefined) throw new Refusal('EEXIST')
}

/** In the order in which Linux looks (namei.c): names, then ancestors, then types. */
function rename(tree: Tree, from: string, to: string): void {
  const source = tree.place(from)
  const target = tree.place(to)
  if (source.id === undefined) throw new Refusal('ENOENT')
  if (tree.isWithin(target.parent, source.id)) throw new Refusal('EINVAL')
  if (target.id !== undefined && tree.isWithin(source.parent, target.id)) throw new Refusal('ENOTEMPTY')
  if (source.id === target.id) return
  const moved = tree.node(source.id)
  if (target.id !== undefined) {
    const replaced = tree.node(target.id)
    if (moved.type === 'dir' && replaced.type !== 'dir') throw new Refusal('ENOTDIR')
    if (moved.type !== 'dir' && replaced.type === 'dir') throw new Refusal('EISDIR')
    if (replaced.type === 'dir' && replaced.entries.size > 0) throw new Refusal('ENOTEMPTY')
    tree.leave(target.parent, target.name)
  }
  tree.enter(target.parent, target.name, source.id)
  const directory = tree.node(source.parent)
  if (directory.type !== 'dir') throw new Error('a parent is no directory')
  const entries = new Map(directory.entries)
  entries.delete(source.name)
  tree.set(source.parent, { ...directory, entries, mtime: undefined })
}

function link(tree: Tree, from: string, to: string): void {
  const id = tree.find(from)
  vacant(tree, to)
  const node = tree.node(id)
  if (node.type === 'dir') throw new Refusal('EPERM')
  if (node.type === 'symlink') throw new Error('the model does not link symlinks')
  tree.set(id, { ...node, links: node.links + 1 })
  const { parent, name } = tree.place(to)
  tree.enter(parent, name, id)
}

function observe(
  tree: Tree,
  action: ActionOf<'list'> | ActionOf<'stat'> | ActionOf<'readlink'>,
  reply: Reply,
): string | undefined {
  const node = tree.node(tree.find(action.path))
  if (action.do === 'list') {
    if (node.type !== 'dir') throw new Refusal('ENOTDIR')
    const expected = [...node.entries.keys()].sort()
    const got = [...(reply.names ?? [])].sort()
    if (reply.errno !== undefined || expected.join('\0') === got.join('\0')) return undefined
    return `it lists ${JSON.stringify(got)}, expected ${JSON.stringify(expected)}`
  }
  if (action.do === 'readlink') {
    if (node.type !== 'symlink') throw new Refusal('EINVAL')
    const got = Buffer.from(reply.data ?? '', 'base64').toString('latin1')
    return reply.errno !== undefined || got === node.target
      ? undefined
      : `target ${got}, expected ${node.target}`
  }
  const { stat } = reply
  if (!stat) return undefined
  if (stat.type !== node.type) return `a ${stat.type}, expected a ${node.type}`
  if (node.type === 'symlink') return undefined
  if (stat.mode !== node.mode) return `mode ${stat.mode.toString(8)}, expected ${node.mode.toString(8)}`
  if (node.mtime !== undefined && stat.mtime !== node.mtime)
    return `mtime ${stat.mtime}, expected ${node.mtime}`
  if (node.type === 'dir') return undefined
  if (stat.links !== node.links) return `${stat.links} links, expected ${node.links}`
  const [least, most] = sizeBounds(node)
  return stat.size < least || stat.size > most
    ? `size ${stat.size}, expected ${least === most ? least : `${least} to ${most}`}`
    : undefined
}

function followRead(
  tree: Tree,
  action: ActionOf<'read'> | ActionOf<'readHeld'>,
  reply: Reply,
  excuse: Excuse,
): Outcome {
  let id = 0
  if (action.do === 'readHeld') {
    const held = tree.held(action.slot)
    if (held === undefined) return notHeld(tree, reply)
    id = held
  } else {
    const refusal = attempt(() => {
      id = tree.follow(action.path)
      tree.file(id)
    })
    if (refusal !== undefined) {
      // No file system opens a directory for direct I/O; some say so first.
      if (refusal === 'EISDIR' && action.direct && reply.errno === 'EINVAL') return { trees: [tree] }
      if (reply.errno === refusal || (reply.errno !== undefined && excuse(action, reply.errno)))
        return { trees: [tree] }
      return failedOtherwise(refusal, reply)
    }
  }
  if (reply.errno !== undefined) {
    return excuse(action, reply.errno) ? { trees: [tree] } : failedOtherwise(undefined, reply)
  }
  const file = tree.file(id)
  const got = Buffer.from(reply.data ?? '', 'base64')
  const problem = misread(file, action.offset, action.length, got)
  if (problem !== undefined) return wrong(problem)
  if (file.others.length === 0 || action.offset > 0 || got.length === action.length) return { trees: [tree] }
  const after = tree.copy()
  after.set(id, { ...file, data: got, others: [], unsynced: [...file.unsynced, file.data, ...file.others] })
  return { trees: [after] }
}

function followWrite(tree: Tree, action: ActionOf<'write'>, reply: Reply, excuse: Excuse): Outcome {
  const opened = tree.copy()
  let id = 0
  const refusal = attempt(() => {
    id = open(opened, action)
  })
  if (reply.step === 'open' || refusal !== undefined) {
    if (reply.errno === undefined) return failedOtherwise(refusal, reply)
    if (reply.errno === refusal && reply.step === 'open') return { trees: [tree] }
    if (!excuse(action, reply.errno)) return failedOtherwise(refusal, reply)
    return { trees: refusal === undefined ? [tree, opened] : [tree] }
  }
  const bytes = pattern(action.seed, action.length)
  const offset = action.append ? opened.file(id).data.length : action.offset
  return written(opened, id, { offset, bytes }, action, reply, excuse)
}

/** open(2) with O_CREAT. @throws Refusal */
function open(tree: Tree, action: ActionOf<'write'>): number {
  const { id } = tree.place(action.path)
  if (id === undefined) {
    const file: FileNode = {
      type: 'file',
      data: Buffer.alloc(0),
      others: [],
      unsynced: [],
      mode: 0o644,
      mtime: undefined,
      links: 1,
    }
    return tree.add(action.path, file)
  }
  if (action.exclusive) throw new Refusal('EEXIST')
  const file = tree.file(id)
  if (action.truncate)
    tree.set(
      id,
      changed(file, () => Buffer.alloc(0)),
    )
  return id
}

function written(
  tree: Tree,
  id: number,
  what: { readonly offset: number; readonly bytes: Buffer },
  action: Action,
  reply: Reply,
  excuse: Excuse,
): Outcome {
  const { offset, bytes } = what
  const after = tree.copy()
  const before = tree.file(id)
  const whole = (data: Buffer): Buffer => overwritten(data, offset, bytes)
  if (reply.errno === undefined) {
    if (bytes.length > 0) after.set(id, changed(before, whole))
    return { trees: [after] }
  }
  if (!excuse(action, reply.errno)) return failedOtherwise(undefined, reply)
  const certain = bytes.subarray(0, reply.written ?? 0)
  const begun = certain.length > 0 ? changed(before, (data) => overwritten(data, offset, certain)) : before
  // A close or fsync that fails does not say which of the bytes before it are there.
  after.set(id, doubted(reply.step === 'write' ? begun : before, whole))
  return { trees: [after] }
}
