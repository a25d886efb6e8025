import { MOST_BYTES } from '../../base/attribute-ranges.ts'
import { FsError } from '../../base/errors.ts'
import type { Answer, Entry, FileSystem, OpenAnswer } from '../operations.ts'
import type { AnswerWriter } from './answer.ts'
import { type Body, ProtocolError } from './body.ts'
import { DirectoryPacker } from './directory.ts'
import type { Agreement } from './init.ts'
import { decodeNothing, encodeNothing, type Operation, operation } from './operation.ts'
import { FSYNC_FDATASYNC, Opcode, WRITE_CACHE, WRITE_KILL_SUIDGID } from './protocol.ts'
import type { Request } from './request.ts'

const NOTHING = Buffer.alloc(0)

/** 32 pages, what kernels read at once that know no FUSE_MAX_PAGES, on pages of up to 64 KiB. */
const OLDEST_MAX_READ = 32 * 64 * 1024
/** An answer to READDIR may be shorter than asked for. */
const LARGEST_READDIR = 128 * 1024

/** What fits the 32-bit answer of COPY_FILE_RANGE, whole pages. */
const COPY_LIMIT_32 = 0xffff_f000

/** An offset or length at which something is to be changed. @throws FsError EFBIG beyond 2^53 */
function position(body: Body): number {
  const value = body.large()
  if (value > MOST_BYTES) throw new FsError('EFBIG', `position ${value} is beyond 2^53 bytes`)
  return value
}

function range(offset: number, length: number): void {
  if (offset + length > MOST_BYTES) throw new FsError('EFBIG', 'a range ends beyond 2^53 bytes')
}

/** `struct fuse_open_in` */
const decodeOpen = (body: Body) => ({ flags: body.uint32() })

/** `struct fuse_release_in`, `struct fuse_flush_in`: the handle comes first, the rest is not needed. */
const decodeHandle = (body: Body) => {
  const handle = body.uint64()
  body.skip(16)
  return { handle }
}

/** `struct fuse_fsync_in` */
const decodeFsync = (body: Body) => {
  const handle = body.uint64()
  return { handle, dataOnly: (body.uint32() & FSYNC_FDATASYNC) !== 0 }
}

/** `struct fuse_read_in` */
const decodeRead = (body: Body, agreement: Agreement) => {
  const handle = body.uint64()
  const offset = body.large()
  const size = body.uint32()
  body.skip(12)
  const flags = body.uint32()
  body.skip(4)
  // Never shortened: to the kernel a short answer is the end of the file.
  if (size > Math.max(agreement.maxWrite, OLDEST_MAX_READ))
    throw new ProtocolError('EIO', `a READ of ${size} bytes was not agreed on`)
  return { handle, offset, size, flags }
}

/** `struct fuse_read_in` of READDIR and READDIRPLUS */
const decodeReaddir = (body: Body) => {
  const handle = body.uint64()
  const cookie = body.uint64()
  const size = Math.min(body.uint32(), LARGEST_READDIR)
  body.skip(20)
  return { handle, cookie, size }
}

/** `struct fuse_write_in` and the data */
const decodeWrite = (body: Body) => {
  const handle = body.uint64()
  const offset = position(body)
  const size = body.uint32()
  const writeFlags = body.uint32()
  body.skip(8)
  const flags = body.uint32()
  body.skip(4)
  range(offset, size)
  const killSuidGid = (writeFlags & WRITE_KILL_SUIDGID) !== 0
  const isWriteBack = (writeFlags & WRITE_CACHE) !== 0
  return { handle, offset, data: body.data(size), options: { killSuidGid, flags, isWriteBack } }
}

/** `struct fuse_copy_file_range_in` */
const decodeCopy = (limit: number) => (body: Body) => {
  const handle = body.uint64()
  const offset = position(body)
  const node = body.uint64()
  const toHandle = body.uint64()
  const toOffset = position(body)
  const length = Math.min(body.large(), limit)
  if (body.uint64() !== 0n) throw new FsError('EINVAL', 'copy_file_range with unknown flags')
  return {
    source: { handle, offset },
    destination: { node, handle: toHandle, offset: toOffset },
    length: Math.min(length, MOST_BYTES - toOffset),
  }
}

type CopyParams = ReturnType<ReturnType<typeof decodeCopy>>

const copyFileRange = (
  name: string,
  limit: number,
  encode: (answer: AnswerWriter, copied: number) => void,
): Operation =>
  operation<CopyParams, number>({
    name,
    readOnly: false,
    decode: decodeCopy(limit),
    perform: (fs, request, { source, destination, length }) =>
      fs.copyFileRange(request, { node: request.node, ...source }, destination, length),
    encode,
  })

/** The data, or nothing behind the end; never more than was asked for. */
const encodeRead = (answer: AnswerWriter, data: Buffer, { size }: { readonly size: number }): void =>
  answer.data(data.length > size ? data.subarray(0, size) : data)

const readdir = (name: string, plus: boolean): Operation =>
  operation<ReturnType<typeof decodeReaddir>, DirectoryPacker>({
    name,
    readOnly: true,
    decode: decodeReaddir,
    perform: (fs, request, { handle, cookie, size }) => {
      const packer = new DirectoryPacker(size, plus)
      const done = fs.readdir(request, request.node, handle, cookie, packer)
      return done instanceof Promise ? done.then(() => packer) : packer
    },
    encode: (answer, packer) => answer.data(packer.bytes),
    undo: (fs, _request, packer) => {
      for (const node of packer.lookedUp()) fs.forget(node, 1n)
    },
  })

interface Created {
  readonly entry: Entry
  readonly open: OpenAnswer
}

interface CreateParams {
  readonly flags: number
  readonly mode: number
  readonly umask: number
  readonly name: Buffer
}

/** What makes a file and opens it. `decodeName`: of `struct fuse_create_in` the name that follows. */
const creating = (
  name: string,
  decodeName: (body: Body) => Buffer,
  perform: (fs: FileSystem, request: Request, params: CreateParams) => Answer<Created>,
): Operation =>
  operation<CreateParams, Created>({
    name,
    readOnly: false,
    decode: (body) => {
      const flags = body.uint32()
      const mode = body.uint32()
      const umask = body.uint32()
      body.skip(4)
      return { flags, mode, umask, name: decodeName(body) }
    },
    perform: (fs, request, params) => {
      request.umask = params.umask
      return perform(fs, request, params)
    },
    encode: (answer, { entry, open }) => {
      answer.entry(entry)
      answer.open(open)
    },
    undo: (fs, request, { entry, open }) => {
      const released = fs.release(request, entry.nodeId, open.handle)
      fs.forget(entry.nodeId, 1n)
      return released
    },
  })

const create = creating(
  'CREATE',
  (body) => body.name(),
  (fs, request, { name, mode, flags }) => fs.create(request, request.node, name, mode, flags),
)

/** The kernel says "/" for the name of a file that gets none. */
const tmpfile = creating(
  'TMPFILE',
  (body) => body.string(),
  (fs, request, { mode, flags }) => {
    if (!fs.tmpfile) throw new FsError('EOPNOTSUPP')
    return fs.tmpfile(request, request.node, mode, flags)
  },
)

/** Operations on open files and directories. */
export const FILE_OPERATIONS: ReadonlyMap<number, Operation> = new Map([
  [
    Opcode.OPEN,
    operation<{ flags: number }, OpenAnswer>({
      name: 'OPEN',
      readOnly: true,
      decode: decodeOpen,
      perform: (fs, request, { flags }) => fs.open(request, request.node, flags),
      encode: (answer, open) => answer.open(open),
      undo: (fs, request, open) => fs.release(request, request.node, open.handle),
    }),
  ],
  [Opcode.CREATE, create],
  [Opcode.TMPFILE, tmpfile],
  [
    Opcode.READ,
    operation<ReturnType<typeof decodeRead>, Buffer>({
      name: 'READ',
      readOnly: true,
      decode: decodeRead,
      perform: (fs, request, { handle, offset, size, flags }) =>
        offset > MOST_BYTES ? NOTHING : fs.read(request, request.node, handle, offset, size, flags),
      encode: encodeRead,
    }),
  ],
  [
    Opcode.WRITE,
    operation<ReturnType<typeof decodeWrite>, number>({
      name: 'WRITE',
      readOnly: false,
      decode: decodeWrite,
      perform: (fs, request, { handle, offset, data, options }) =>
        fs.write(request, request.node, handle, offset, data, options),
      encode: (answer, written) => {
        answer.uint32(written)
        answer.uint32(0)
      },
    }),
  ],
  [
    Opcode.FLUSH,
    operation<{ handle: bigint }, void>({
      name: 'FLUSH',
      readOnly: false,
      decode: decodeHandle,
      perform: (fs, request, { handle }) => fs.flush(request, request.node, handle),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.RELEASE,
    operation<{ handle: bigint }, void>({
      name: 'RELEASE',
      readOnly: false,
      decode: decodeHandle,
      perform: (fs, request, { handle }) => fs.release(request, request.node, handle),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.FSYNC,
    operation<ReturnType<typeof decodeFsync>, void>({
      name: 'FSYNC',
      readOnly: false,
      decode: decodeFsync,
      perform: (fs, request, { handle, dataOnly }) => fs.fsync(request, request.node, handle, dataOnly),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.OPENDIR,
    operation<{ flags: number }, OpenAnswer>({
      name: 'OPENDIR',
      readOnly: true,
      decode: decodeOpen,
      perform: (fs, request, { flags }) => fs.opendir(request, request.node, flags),
      encode: (answer, open) => answer.open(open),
      undo: (fs, request, open) => fs.releasedir(request, request.node, open.handle),
    }),
  ],
  [Opcode.READDIR, readdir('READDIR', false)],
  [Opcode.READDIRPLUS, readdir('READDIRPLUS', true)],
  [
    Opcode.RELEASEDIR,
    operation<{ handle: bigint }, void>({
      name: 'RELEASEDIR',
      readOnly: false,
      decode: decodeHandle,
      perform: (fs, request, { handle }) => fs.releasedir(request, request.node, handle),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.FSYNCDIR,
    operation<ReturnType<typeof decodeFsync>, void>({
      name: 'FSYNCDIR',
      readOnly: false,
      decode: decodeFsync,
      perform: (fs, request, { handle, dataOnly }) => fs.fsyncdir(request, request.node, handle, dataOnly),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.FALLOCATE,
    operation<{ handle: bigint; offset: number; length: number; mode: number }, void>({
      name: 'FALLOCATE',
      readOnly: false,
      decode: (body) => {
        const handle = body.uint64()
        const offset = position(body)
        const length = position(body)
        range(offset, length)
        return { handle, offset, length, mode: body.uint32() }
      },
      perform: (fs, request, { handle, mode, offset, length }) =>
        fs.fallocate(request, request.node, handle, mode, offset, length),
      encode: encodeNothing,
    }),
  ],
  [
    Opcode.LSEEK,
    operation<{ handle: bigint; offset: number; whence: number }, number>({
      name: 'LSEEK',
      readOnly: true,
      decode: (body) => {
        const handle = body.uint64()
        const offset = body.large()
        // A negative offset comes as a huge one; lseek(2) has ENXIO for both.
        if (offset > MOST_BYTES) throw new FsError('ENXIO', 'an offset is beyond the end')
        return { handle, offset, whence: body.uint32() }
      },
      perform: (fs, request, { handle, offset, whence }) =>
        fs.lseek(request, request.node, handle, offset, whence),
      encode: (answer, offset) => answer.large(offset),
    }),
  ],
  [
    Opcode.COPY_FILE_RANGE,
    copyFileRange('COPY_FILE_RANGE', COPY_LIMIT_32, (answer, copied) => {
      answer.uint32(copied)
      answer.uint32(0)
    }),
  ],
  [
    Opcode.COPY_FILE_RANGE_64,
    copyFileRange('COPY_FILE_RANGE_64', MOST_BYTES, (answer, copied) => answer.large(copied)),
  ],
  [
    Opcode.SYNCFS,
    operation<void, void>({
      name: 'SYNCFS',
      readOnly: false,
      decode: decodeNothing,
      perform: (fs, request) => fs.syncfs(request),
      encode: encodeNothing,
    }),
  ],
])
