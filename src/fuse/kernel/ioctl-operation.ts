import { FsError } from '../../base/errors.ts'
import { FS_IOC_GETFLAGS, FS_IOC_SETFLAGS } from '../../sys/index.ts'
import type { FileSystem } from '../operations.ts'
import { type Operation, operation } from './operation.ts'
import type { Request } from './request.ts'

// The others are those of 32-bit callers, where a long has 4 bytes. The kernel's own way (fuse_fileattr_get) takes the first.
const GET_FLAGS: ReadonlySet<number> = new Set([FS_IOC_GETFLAGS, 0x8004_6601])
const SET_FLAGS: ReadonlySet<number> = new Set([FS_IOC_SETFLAGS, 0x4004_6602])

/**
 * FS_IOC_FSGETXATTR. Before the kernel sets flags it asks by this one what they are (vfs_fileattr_set() in fs/file_attr.c), so that it knows
 * who may.
 */
const GET_XFLAGS = 0x801c_581f
const FSXATTR_BYTES = 28
/** By FS_*_FL: FS_XFLAG_*. */
const XFLAGS: ReadonlyMap<number, number> = new Map([
  [0x8, 0x20],
  [0x10, 0x8],
  [0x20, 0x10],
  [0x40, 0x80],
  [0x80, 0x40],
])

function xflagsOf(flags: number): number {
  let xflags = 0
  for (const [flag, xflag] of XFLAGS) if ((flags & flag) !== 0) xflags |= xflag
  return xflags
}

interface IoctlParams {
  readonly command: number
  /** Bytes that the caller has room for. */
  readonly room: number
  readonly flags: number
}

/**
 * FUSE_IOCTL: the flags of a file (ioctl_iflags(2)), which are one int whatever the command says; any other is refused with ENOTTY. The
 * kernel has checked from 5.13 on who may change them (fileattr_set_prepare() in fs/ioctl.c).
 */
export const IOCTL: Operation = operation<IoctlParams, number | undefined>({
  name: 'IOCTL',
  readOnly: false,
  decode: (body) => {
    // struct fuse_ioctl_in
    body.skip(12)
    const command = body.uint32()
    body.skip(8)
    const given = body.uint32()
    const room = body.uint32()
    const flags = SET_FLAGS.has(command) && given >= 4 ? body.uint32() : 0
    return { command, room, flags }
  },
  perform: (fs, request, params) => changeOrGet(fs, request, params),
  encode: (answer, flags, { command, room }) => {
    // struct fuse_ioctl_out: the result is 0, and no further memory of the caller is asked for.
    answer.zeros(16)
    if (flags === undefined || room < 4) return
    answer.uint32(command === GET_XFLAGS ? xflagsOf(flags) : flags)
    answer.zeros(Math.min(room, command === GET_XFLAGS ? FSXATTR_BYTES : 8) - 4)
  },
})

function changeOrGet(fs: FileSystem, request: Request, { command, flags }: IoctlParams) {
  if ((GET_FLAGS.has(command) || command === GET_XFLAGS) && fs.getFlags)
    return fs.getFlags(request, request.node)
  if (!SET_FLAGS.has(command) || !fs.setFlags) throw new FsError('ENOTTY', `ioctl ${command.toString(16)}`)
  const changed = fs.setFlags(request, request.node, flags)
  return changed instanceof Promise ? changed.then(() => undefined) : undefined
}
