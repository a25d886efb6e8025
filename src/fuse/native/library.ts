import { createRequire } from 'node:module'
import { reasonOf } from '../../base/errors.ts'
import { MountError } from '../kernel/mount.ts'

/** Sends the answer of one request: 0, a count or a negated errno first. */
type Signal = (result: number, ...values: unknown[]) => void

type Callback = (result: number, ...values: unknown[]) => void
type Handler = (native: Buffer, opcode: number, ...args: unknown[]) => void

/** `struct statvfs`, 32 bits each. */
export interface NativeStatFs {
  readonly bsize: number
  readonly frsize: number
  readonly blocks: number
  readonly bfree: number
  readonly bavail: number
  readonly files: number
  readonly ffree: number
  readonly favail: number
  readonly namemax: number
}

/** What a listing says of each name, as `struct stat`. */
export interface ListedStat {
  readonly mode: number
  readonly ino: number
}

/** The handlers that fuse-native calls, as its README has them; paths begin with "/". */
export interface NativeHandlers {
  /** Only says that there is one: `_op_fgetattr` is replaced. */
  fgetattr(path: string, handle: number, callback: Callback): void
  statfs(path: string, callback: (result: number, space?: NativeStatFs) => void): void
  readdir(path: string, callback: (result: number, names?: string[], stats?: ListedStat[]) => void): void
  readlink(path: string, callback: (result: number, target?: string) => void): void
  mknod(path: string, mode: number, device: number, callback: Callback): void
  mkdir(path: string, mode: number, callback: Callback): void
  unlink(path: string, callback: Callback): void
  rmdir(path: string, callback: Callback): void
  symlink(target: string, path: string, callback: Callback): void
  rename(from: string, to: string, callback: Callback): void
  link(from: string, to: string, callback: Callback): void
  chmod(path: string, mode: number, callback: Callback): void
  chown(path: string, uid: number, gid: number, callback: Callback): void
  truncate(path: string, size: number, callback: Callback): void
  ftruncate(path: string, handle: number, size: number, callback: Callback): void
  utimens(path: string, atimeMs: number, mtimeMs: number, callback: Callback): void
  open(path: string, flags: number, callback: (result: number, handle?: number) => void): void
  read(path: string, handle: number, buffer: Buffer, length: number, offset: number, callback: Callback): void
  write(
    path: string,
    handle: number,
    buffer: Buffer,
    length: number,
    offset: number,
    callback: Callback,
  ): void
  flush(path: string, handle: number, callback: Callback): void
  release(path: string, handle: number, callback: Callback): void
  fsync(path: string, dataOnly: number, handle: number, callback: Callback): void
  fsyncdir(path: string, dataOnly: number, handle: number, callback: Callback): void
  setxattr(
    path: string,
    name: string,
    value: Buffer,
    position: number,
    flags: number,
    callback: Callback,
  ): void
  getxattr(path: string, name: string, position: number, callback: Callback): void
  listxattr(path: string, callback: Callback): void
  removexattr(path: string, name: string, callback: Callback): void
}

interface NativeOptions {
  /** `false`: an operation takes as long as it takes. The library's own 15 s would fail it while its handler runs on. */
  readonly timeout: false
  readonly allowOther: boolean
  readonly defaultPermissions: boolean
  readonly fsname: string
  readonly subtype: string
}

/**
 * A mount of fuse-native 2.2.6, with those of its inner parts that have to be replaced: attributes go without a link
 * count of 0 and, for an open file, without its handle; extended attributes that do not fit the caller's buffer are said
 * to have been written behind its end; the time of the last change is given as that of the last access.
 */
export interface NativeFuse {
  open(callback: (error: Error | null) => void): void
  readonly _handlers: (Handler | undefined)[]
  _op_getattr: (signal: Signal, path: string) => void
  _op_fgetattr: (signal: Signal, path: string, handle: number) => void
  _op_getxattr: (signal: Signal, path: string, name: string, value: Buffer, position: number) => void
  _op_listxattr: (signal: Signal, path: string, list: Buffer) => void
}

export type NativeFuseClass = new (
  target: string,
  handlers: NativeHandlers,
  options: NativeOptions,
) => NativeFuse

const NAME = 'fuse-native'
/** Its inner parts are relied on, so no other version will do; there has been none since 2020. */
const VERSION = '2.2.6'
const ADVICE = 'install libfuse2 and fuse (apt-get install libfuse2 fuse) and the npm package fuse-native'

/**
 * Loads fuse-native, which loads libfuse.so.2.
 * @throws MountError `failed` with what is missing and what to install
 */
export function loadFuseNative(): NativeFuseClass {
  const require = createRequire(import.meta.url)
  let loaded: unknown
  let description: unknown
  try {
    loaded = require(NAME)
    description = require(`${NAME}/package.json`)
  } catch (error) {
    const [words = ''] = reasonOf(error).split('\n')
    throw new MountError('failed', `the transport fuse-native cannot be loaded: ${words}; ${ADVICE}`, {
      cause: error,
    })
  }
  const version =
    typeof description === 'object' && description !== null && 'version' in description
      ? description.version
      : undefined
  if (typeof loaded !== 'function' || version !== VERSION) {
    throw new MountError('failed', `the transport fuse-native needs ${NAME} ${VERSION}, not ${version}`)
  }
  return loaded as NativeFuseClass
}
