import { constants } from 'node:fs'
import koffi from 'koffi'
import { FsError } from '../base/errors.ts'
import { closeDescriptor, O_CLOEXEC, O_PATH, readlinkAt } from './files.ts'
import { check, cstring, declare, declareOn } from './library.ts'
import { statDescriptor } from './stat.ts'

// open_tree(2) and mount_setattr(2) have the same numbers on all architectures (asm-generic/unistd.h); glibc has them since 2.36.
const SYS_OPEN_TREE = 428
const SYS_MOUNT_SETATTR = 442
// linux/mount.h, linux/fcntl.h
const OPEN_TREE_CLONE = 1
const AT_EMPTY_PATH = 0x1000
const MOUNT_ATTR_RDONLY = 0x1n
const MOUNT_ATTR_NOATIME = 0x10n
const MOUNT_ATTR_ATIME = 0x70n
// struct file_handle: bytes, type, and at most so much more.
// As short as all are that are known of, and so that it is handed to a disk's thread and back.
const MAX_HANDLE_BYTES = 56
const HANDLE_HEAD = 8
const DOT = Buffer.from('.')
// readlinkat(2): of the link that the descriptor is.
const ITSELF = Buffer.alloc(0)

const syscall = koffi.load('libc.so.6').func('long syscall(long, ...)')
const nameToHandle = declare('int name_to_handle_at(int, const char *, void *, void *, int)')
const openByHandle = declareOn('int open_by_handle_at(int, const void *, int)', true)
const openatCall = declareOn('int openat(int, const char *, int, int)', true)

/**
 * Reads symlinks without a trace. There is no O_NOATIME for them, so they are reached by their file handles through a clone of
 * their mount that nobody else sees and that moves no access time.
 */
export class QuietLinks {
  readonly #mount: number
  /** In the clone; open_by_handle_at(2) takes none with O_PATH, as open_tree(2) makes it. */
  readonly #root: number
  readonly #device: bigint

  /** `root`: of the disk that is cloned. @throws FsError */
  private constructor(root: number, mount: number) {
    this.#mount = mount
    this.#device = statDescriptor(root).dev
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | O_CLOEXEC
    this.#root = check(openatCall(root, mount, cstring(DOT), flags, 0), 'openat')
  }

  /** `undefined` where this process may not, or the kernel (before 5.12) or the file system cannot. */
  static of(root: number): QuietLinks | undefined {
    const flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | O_CLOEXEC
    const mount = Number(syscall(SYS_OPEN_TREE, 'int', root, 'str', '', 'unsigned int', flags))
    if (mount < 0) return undefined
    const attributes = Buffer.alloc(32)
    attributes.writeBigUInt64LE(MOUNT_ATTR_NOATIME | MOUNT_ATTR_RDONLY, 0)
    attributes.writeBigUInt64LE(MOUNT_ATTR_ATIME, 8)
    const set = syscall(
      SYS_MOUNT_SETATTR,
      'int',
      mount,
      'str',
      '',
      'unsigned int',
      AT_EMPTY_PATH,
      'void *',
      attributes,
      'size_t',
      attributes.length,
    )
    try {
      if (Number(set) === 0) return new QuietLinks(root, mount)
    } catch (error) {
      if (!(error instanceof FsError)) throw error
    }
    closeDescriptor(mount)
    return undefined
  }

  /** Target of a symlink, or `undefined` where it can only be read with a trace. @throws FsError */
  read(directory: number, name: Buffer): Buffer | undefined {
    const link = this.#open(directory, name)
    if (link === undefined) return undefined
    try {
      return readlinkAt(link, ITSELF, name)
    } finally {
      closeDescriptor(link)
    }
  }

  close(): void {
    closeDescriptor(this.#root)
    closeDescriptor(this.#mount)
  }

  /** Through the clone; not what another file system has below it, whose handles mean other files here. */
  #open(directory: number, name: Buffer): number | undefined {
    if (statDescriptor(directory).dev !== this.#device) return undefined
    const handle = Buffer.alloc(HANDLE_HEAD + MAX_HANDLE_BYTES)
    handle.writeUInt32LE(MAX_HANDLE_BYTES, 0)
    if (nameToHandle(directory, cstring(name), handle, Buffer.alloc(8), 0) !== 0) return undefined
    const link = openByHandle(directory, this.#root, handle, O_PATH | constants.O_NOFOLLOW)
    return link < 0 ? undefined : link
  }
}
