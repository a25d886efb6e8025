import { requireInRange } from '../../base/attribute-ranges.ts'
import { FsError } from '../../base/errors.ts'
import type { AttributeAnswer, AttributeChanges, Entry, FileSystem, StatFs } from '../operations.ts'
import type { AnswerWriter } from './answer.ts'
import type { Body } from './body.ts'
import type { Agreement } from './init.ts'
import { IOCTL } from './ioctl-operation.ts'
import { decodeNothing, encodeNothing, type Operation, operation } from './operation.ts'
import { GETATTR_FH, InitFlag, Opcode, SETXATTR_ACL_KILL_SGID, SetattrValid } from './protocol.ts'
import type { Request } from './request.ts'

const NS_PER_SECOND = 1_000_000_000n

const decodeName = (body: Body) => ({ name: body.name() })
const decodeXattrName = (body: Body) => ({ name: body.string() })

const encodeEntry = (answer: AnswerWriter, entry: Entry): void => answer.entry(entry)
const encodeAttributes = (answer: AnswerWriter, attributes: AttributeAnswer): void =>
  answer.attributes(attributes)

function forgetEntry(fs: FileSystem, _request: Request, entry: Entry): void {
  // Node 0 says that there is no such name, for as long as the entry may be kept: nothing was looked up.
  if (entry.nodeId !== 0n) fs.forget(entry.nodeId, 1n)
}

interface SetattrParams {
  readonly changes: AttributeChanges
  readonly handle: bigint | undefined
}

/** `struct fuse_setattr_in`, 88 bytes */
function decodeSetattr(body: Body): SetattrParams {
  const valid = body.uint32()
  body.skip(4)
  const fh = body.uint64()
  const size = body.large()
  body.skip(8)
  const seconds = { atime: body.int64(), mtime: body.int64(), ctime: body.int64() }
  const rest = { atime: body.uint32(), mtime: body.uint32(), ctime: body.uint32() }
  const mode = body.uint32()
  body.skip(4)
  const uid = body.uint32()
  const gid = body.uint32()
  body.skip(4)
  const has = (bit: number): boolean => (valid & bit) !== 0
  const time = (which: 'atime' | 'mtime' | 'ctime'): bigint => {
    if (rest[which] >= NS_PER_SECOND) throw new FsError('EINVAL', `${rest[which]} nanoseconds`)
    return seconds[which] * NS_PER_SECOND + BigInt(rest[which])
  }
  const changes: AttributeChanges = {
    ...(has(SetattrValid.MODE) ? { mode: mode & 0o177777 } : {}),
    ...(has(SetattrValid.UID) ? { uid } : {}),
    ...(has(SetattrValid.GID) ? { gid } : {}),
    ...(has(SetattrValid.SIZE) ? { size } : {}),
    ...(has(SetattrValid.ATIME) ? { atime: has(SetattrValid.ATIME_NOW) ? 'now' : time('atime') } : {}),
    ...(has(SetattrValid.MTIME) ? { mtime: has(SetattrValid.MTIME_NOW) ? 'now' : time('mtime') } : {}),
    ...(has(SetattrValid.CTIME) ? { ctimeNs: time('ctime') } : {}),
    ...(has(SetattrValid.KILL_SUIDGID) ? { killSuidGid: true } : {}),
  }
  const { atime, mtime } = changes
  requireInRange({
    ...changes,
    ...(typeof atime === 'bigint' ? { atimeNs: atime } : {}),
    ...(typeof mtime === 'bigint' ? { mtimeNs: mtime } : {}),
  })
  return { changes, handle: has(SetattrValid.FH) ? fh : undefined }
}

/** `struct fuse_getattr_in`, and the head of `struct fuse_statx_in`: what else that asks for, every answer has. */
function decodeGetattr(body: Body): { handle: bigint | undefined } {
  const flags = body.uint32()
  body.skip(4)
  const handle = body.uint64()
  return { handle: (flags & GETATTR_FH) !== 0 ? handle : undefined }
}

interface RenameParams {
  readonly newParent: bigint
  readonly flags: number
  readonly name: Buffer
  readonly newName: Buffer
}

const rename = (name: string, decodeFlags: (body: Body) => number): Operation =>
  operation<RenameParams, void>({
    name,
    readOnly: false,
    decode: (body) => {
      const newParent = body.uint64()
      const flags = decodeFlags(body)
      const oldName = body.name()
      return { newParent, flags, name: oldName, newName: body.name() }
    },
    perform: (fs, request, params) =>
      fs.rename(request, request.node, params.name, params.newParent, params.newName, params.flags),
    encode: encodeNothing,
  })

interface SetxattrParams {
  readonly name: Buffer
  readonly value: Buffer
  readonly flags: number
  readonly killSgid: boolean
}

/** `struct fuse_setxattr_in`: 8 bytes, or 16 with FUSE_SETXATTR_EXT */
function decodeSetxattr(body: Body, agreement: Agreement): SetxattrParams {
  const size = body.uint32()
  const flags = body.uint32()
  let killSgid = false
  if ((agreement.flags & InitFlag.SETXATTR_EXT) !== 0n) {
    killSgid = (body.uint32() & SETXATTR_ACL_KILL_SGID) !== 0
    body.skip(4)
  }
  const name = body.string()
  return { name, value: body.copy(size), flags, killSgid }
}

/** `struct fuse_getxattr_in`, also of LISTXATTR */
function decodeXattrSize(body: Body): number {
  const size = body.uint32()
  body.skip(4)
  return size
}

/** The value where it fits, its size where the caller asked for that with 0. @throws FsError ERANGE */
function encodeXattr(answer: AnswerWriter, value: Buffer, size: number): void {
  if (size === 0) {
    answer.uint32(value.length)
    answer.uint32(0)
  } else if (value.length > size) {
    throw new FsError('ERANGE', `an answer of ${value.length} bytes for a buffer of ${size}`)
  } else {
    answer.data(value)
  }
}

const NUL = Buffer.from([0])

/** Operations on nodes and names. */
export const NODE_OPERATIONS: ReadonlyMap<number, Operation> = new Map([
  [Opcode.IOCTL, IOCTL],
  [
    Opcode.LOOKUP,
    operation<{ name: Buffer }, Entry>({
      name: 'LOOKUP',
      readOnly: true,
      decode: (body) => ({ name: body.nameOrDots() }),
      perform: (fs, request, { name }) => fs.lookup(request, request.node, name),
      encode: encodeEntry,
      undo: forgetEntry,
    }),
  ],
  [
    Opcode.GETATTR,
    operation<{ handle: bigint | undefined }, AttributeAnswer>({
      name: 'GETATTR',
      readOnly: true,
      decode: decodeGetattr,
      perform: (fs, request, { handle }) => fs.getattr(request, request.node, handle),
      encode: encodeAttributes,
    }),
  ],
  [
    Opcode.STATX,
    operation<{ handle: bigint | undefined }, AttributeAnswer>({
      name: 'STATX',
      readOnly: true,
      decode: decodeGetattr,
      perform: (fs, request, { handle }) => fs.getattr(request, request.node, handle),
      encode: (answer, attributes) => answer.statx(attributes),
    }),
  ],
  [
    Opcode.SETATTR,
    operation<SetattrParams, AttributeAnswer>({
      name: 'SETATTR',
      readOnly: false,
      decode: decodeSetattr,
      perform: (fs, request, { changes, handle }) => fs.setattr(request, request.node, changes, handle),
      encode: encodeAttributes,
    }),
  ],
  [
    Opcode.READLINK,
    operation<void, Buffer>({
      name: 'READLINK',
      readOnly: true,
      decode: decodeNothing,
      perform: (fs, request) => fs.readlink(request, request.node),
      encode: (answer, target) => answer.data(target),
    }),
  ],
  [
    Opcode.SYMLINK,
    operation<{ name: Buffer; target: Buffer }, Entry>({
      name: 'SYMLINK',
      readOnly: false,
      decode: (body) => {
        const name = body.name()
        return { name, target: body.string() }
      },
      perform: (fs, request, { name, target }) => fs.symlink(request, request.node, name, target),
      encode: encodeEntry,
      undo: forgetEntry,
    }),
  ],
  [
    Opcode.MKNOD,
    operation<{ mode: number; rdev: number; umask: number; name: Buffer }, Entry>({
      name: 'MKNOD',
      readOnly: false,
      decode: (body) => {
        const mode = body.uint32()
        const rdev = body.uint32()
        const umask = body.uint32()
        body.skip(4)
        return { mode, rdev, umask, name: body.name() }
      },
      perform: (fs, request, { name, mode, rdev, umask }) => {
        request.umask = umask
        return fs.mknod(request, request.node, name, mode, rdev)
      },
      encode: encodeEntry,
      undo: forgetEntry,
    }),
  ],
  [
    Opcode.MKDIR,
    operation<{ mode: number; umask: number; name: Buffer }, Entry>({
      name: 'MKDIR',
      readOnly: false,
      decode: (body) => {
        const mode = body.uint32()
        const umask = body.uint32()
        return { mode, umask, name: body.name() }
      },
      perform: (fs, request, { name, mode, umask }) => {
        request.umask = umask
        return fs.mkdir(request, request.node, name, mode)
      },
      encode: encodeEntry,
      undo: forgetEntry,
    }),
  ],
  [
    Opcode.UNLINK,
    operation<{ name: Buffer }, void>({
      name: 'UNLINK',
      readOnly: false,
      decode: decodeName,
      perform: (fs, request, { name }) => fs.unlink(request, request.node, name),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.RMDIR,
    operation<{ name: Buffer }, void>({
      name: 'RMDIR',
      readOnly: false,
      decode: decodeName,
      perform: (fs, request, { name }) => fs.rmdir(request, request.node, name),
      encode: encodeNothing,
    }),
  ],
  [Opcode.RENAME, rename('RENAME', () => 0)],
  [
    Opcode.RENAME2,
    rename('RENAME2', (body) => {
      const flags = body.uint32()
      body.skip(4)
      return flags
    }),
  ],
  [
    Opcode.LINK,
    operation<{ node: bigint; name: Buffer }, Entry>({
      name: 'LINK',
      readOnly: false,
      decode: (body) => {
        const node = body.uint64()
        return { node, name: body.name() }
      },
      perform: (fs, request, { node, name }) => fs.link(request, node, request.node, name),
      encode: encodeEntry,
      undo: forgetEntry,
    }),
  ],
  [
    Opcode.STATFS,
    operation<void, StatFs>({
      name: 'STATFS',
      readOnly: true,
      decode: decodeNothing,
      perform: (fs, request) => fs.statfs(request, request.node),
      encode: (answer, statfs) => answer.statfs(statfs),
    }),
  ],
  [
    Opcode.SETXATTR,
    operation<SetxattrParams, void>({
      name: 'SETXATTR',
      readOnly: false,
      decode: decodeSetxattr,
      perform: (fs, request, { name, value, flags, killSgid }) =>
        fs.setxattr(request, request.node, name, value, flags, { killSgid }),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.GETXATTR,
    operation<{ size: number; name: Buffer }, Buffer>({
      name: 'GETXATTR',
      readOnly: true,
      decode: (body) => {
        const size = decodeXattrSize(body)
        return { size, name: body.string() }
      },
      perform: (fs, request, { name }) => fs.getxattr(request, request.node, name),
      encode: (answer, value, { size }) => encodeXattr(answer, value, size),
    }),
  ],
  [
    Opcode.LISTXATTR,
    operation<{ size: number }, Buffer[]>({
      name: 'LISTXATTR',
      readOnly: true,
      decode: (body) => ({ size: decodeXattrSize(body) }),
      perform: (fs, request) => fs.listxattr(request, request.node),
      encode: (answer, names, { size }) =>
        encodeXattr(answer, Buffer.concat(names.flatMap((name) => [name, NUL])), size),
    }),
  ],
  [
    Opcode.REMOVEXATTR,
    operation<{ name: Buffer }, void>({
      name: 'REMOVEXATTR',
      readOnly: false,
      decode: decodeXattrName,
      perform: (fs, request, { name }) => fs.removexattr(request, request.node, name),
      encode: encodeNothing,
    }),
  ],
])
