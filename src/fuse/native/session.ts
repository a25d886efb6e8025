import { closeSync, fstatSync, openSync, readdirSync } from 'node:fs'
import { constants } from 'node:os'
import { FsError, isSystemError, reasonOf, toErrno } from '../../base/errors.ts'
import { within } from '../../base/turns.ts'
import type { Log } from '../../observe/log.ts'
import { MountError } from '../kernel/mount.ts'
import { mountsOf } from '../kernel/mountinfo.ts'
import type { FileSystem } from '../operations.ts'
import type { Transport, TransportEnd } from '../transport.ts'
import { Bridge } from './bridge.ts'
import { statWords } from './convert.ts'
import { handlersOf, type Serve } from './handlers.ts'
import { loadFuseNative, type NativeFuse, type NativeFuseClass } from './library.ts'
import { unmountFuse } from './unmount.ts'

const { EIO, ENOSYS, ENOTCONN, EOPNOTSUPP, ERANGE } = constants.errno

/** Of /dev/fuse: major 10 (misc), minor 229 (FUSE_MINOR in linux/miscdevice.h), as st_rdev. */
const FUSE_DEVICE = (10 << 8) | 229
/** libfuse tells nobody that it has closed the device; this often it is looked at. */
const LOOK_EVERY_MS = 250
/** fuse-native copies the mount point, and all options, into 1024 bytes each and cuts what is longer. */
const MAX_BYTES = 1023

/** Index of its handler of utimens, and where `atime` and `mtime` lie in what it knows of a request (fuse-native.c). */
const OP_UTIMENS = 12
const ATIME_AT = 104
const MTIME_AT = 112

export interface NativeSessionOptions {
  /** Real path of an existing directory. */
  readonly target: string
  /** What `mount` and `df` show as the device. */
  readonly source: string
  /** Behind `fuse.` in the file system's type; `ferryfs` unless given. */
  readonly subtype?: string
  /** Further options of mount(8), for example `ro` or `noatime`. */
  readonly flags?: readonly string[]
  readonly fileSystem: FileSystem
  readonly log: Log
}

/** Those of mount(8) that libfuse 2 and fusermount know. */
const KNOWN_FLAGS: ReadonlySet<string> = new Set(['ro', 'nosuid', 'nodev', 'noexec', 'noatime'])

/**
 * Options that fuse-native has no word for go behind the comma of one that it hands through: writes of 128 KiB instead of
 * 4 KiB, our own inode numbers, a mount point with something in it (as mount(8) has it), and no attribute kept by the
 * kernel, because to libfuse two hard links are two files and only one would learn of a change.
 */
const SMUGGLED = 'big_writes,use_ino,nonempty,attr_timeout=0'

function fsnameOf(source: string, flags: readonly string[]): string {
  const smuggled = [SMUGGLED, ...flags].join(',')
  const escaped = source.replace(/[\\,]/g, '\\$&')
  const short = Buffer.byteLength(escaped) + smuggled.length + 100 > MAX_BYTES ? 'ferryfs' : escaped
  return `${short},${smuggled}`
}

/** libfuse, and fusermount too, opens the device with the user's own rights. @throws MountError */
function checkDevice(): void {
  try {
    closeSync(openSync('/dev/fuse', 'r+'))
  } catch (error) {
    throw new MountError(
      'not-permitted',
      `/dev/fuse cannot be opened: ${reasonOf(error)}; load the module (modprobe fuse) and let every user open it ` +
        '(chmod 666 /dev/fuse), a container needs --device /dev/fuse',
      { cause: error },
    )
  }
}

/** Descriptors of this process that are /dev/fuse. */
function fuseDescriptors(): Set<number> {
  return new Set(readdirSync('/proc/self/fd').map(Number).filter(isFuse))
}

function isFuse(fd: number): boolean {
  try {
    return fstatSync(fd).rdev === FUSE_DEVICE
  } catch {
    return false
  }
}

/**
 * Serves a file system by fuse-native, that is libfuse 2, which mounts by itself: as root directly, else through
 * fusermount. What it cannot do is listed in docs/transports.md. The mount ends with this process (P7 does not hold).
 *
 * libfuse runs a thread for each request, up to ten idle ones stay; each waits until the event loop has answered.
 */
export class NativeSession implements Transport {
  readonly ready: Promise<void>
  readonly done: Promise<TransportEnd>
  readonly #options: NativeSessionOptions
  readonly #bridge: Bridge
  readonly #markReady: () => void
  readonly #markDone: (end: TransportEnd) => void
  #inFlight = 0
  #drained: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #ended = false
  /** What libfuse knows of the request whose handler is called in this very moment. */
  #request: Buffer | undefined

  constructor(options: NativeSessionOptions) {
    this.#options = options
    this.#bridge = new Bridge(options.fileSystem, options.log)
    const ready = Promise.withResolvers<void>()
    const done = Promise.withResolvers<TransportEnd>()
    this.ready = ready.promise
    this.done = done.promise
    this.#markReady = ready.resolve
    this.#markDone = done.resolve
  }

  start(): void {
    this.#mount().then(
      () => this.#markReady(),
      (error: unknown) => {
        const { target } = this.#options
        this.#end({
          reason: 'failed',
          error: error instanceof MountError ? error : mountFailure(target, error),
        })
      },
    )
  }

  async #mount(): Promise<void> {
    const { target } = this.#options
    if (Buffer.byteLength(target) > MAX_BYTES) {
      throw new MountError(
        'failed',
        `${target} is too long for fuse-native: ${MAX_BYTES} bytes; use --transport kernel`,
      )
    }
    checkDevice()
    const before = fuseDescriptors()
    const fuse = this.#fuse(loadFuseNative())
    await new Promise<void>((resolve, reject) => {
      fuse.open((error) => (error ? reject(error) : resolve()))
    })
    const descriptor = [...fuseDescriptors()].find((fd) => !before.has(fd))
    this.#timer = setInterval(() => {
      if (descriptor === undefined || !isFuse(descriptor)) this.#end({ reason: 'unmounted' })
    }, LOOK_EVERY_MS)
    this.#timer.unref()
  }

  #fuse(Fuse: NativeFuseClass): NativeFuse {
    const { target, source, subtype = 'ferryfs', flags = [] } = this.#options
    const handlers = handlersOf(this.#bridge, this.#serve, (atime) => this.#times(atime))
    const fuse = new Fuse(target, handlers, {
      timeout: false,
      // Only root may give other users access without being asked in /etc/fuse.conf, and what they make would be ours.
      allowOther: process.geteuid?.() === 0,
      defaultPermissions: true,
      fsname: fsnameOf(
        source,
        flags.filter((flag) => KNOWN_FLAGS.has(flag)),
      ),
      subtype,
    })
    fuse._op_getattr = (signal, path) =>
      this.#serve(
        'getattr',
        async () => statWords(await this.#bridge.getattr(path)),
        (words) => signal(0, words),
        signal,
      )
    fuse._op_fgetattr = (signal, _path, handle) =>
      this.#serve(
        'fgetattr',
        async () => statWords(await this.#bridge.fgetattr(handle)),
        (words) => signal(0, words),
        signal,
      )
    fuse._op_getxattr = (signal, path, name, buffer) =>
      this.#serve(
        'getxattr',
        async () => put(await this.#bridge.getxattr(path, name), buffer),
        (result) => signal(result, buffer.buffer),
        (result) => signal(result, buffer.buffer),
      )
    fuse._op_listxattr = (signal, path, buffer) =>
      this.#serve(
        'listxattr',
        async () => put(terminated(await this.#bridge.listxattr(path)), buffer),
        (result) => signal(result, buffer.buffer),
        (result) => signal(result, buffer.buffer),
      )
    const utimens = fuse._handlers[OP_UTIMENS]
    fuse._handlers[OP_UTIMENS] = (native, opcode, ...args) => {
      this.#request = native
      utimens?.(native, opcode, ...args)
    }
    return fuse
  }

  /**
   * fuse-native hands the time of the last access twice, but its own record of the request, a Buffer, has both.
   * @throws FsError EOPNOTSUPP if the record is not laid out as expected: a wrong time must not be set
   */
  #times(atimeMs: number): { readonly atime: bigint; readonly mtime: bigint } {
    const atime = this.#request?.readBigInt64LE(ATIME_AT)
    const mtime = this.#request?.readBigInt64LE(MTIME_AT)
    if (atime === undefined || mtime === undefined || BigInt.asUintN(64, atime) !== BigInt(atimeMs)) {
      throw new FsError('EOPNOTSUPP', 'fuse-native does not say which time of last change is to be set')
    }
    return { atime, mtime }
  }

  /** Takes the mount away if it is still there; callers that use it get errors from then on. */
  async stop(): Promise<void> {
    if (this.#ended) return
    this.#end({ reason: 'stopped' })
    const { target, subtype = 'ferryfs', log } = this.#options
    if (mountsOf(target).at(-1)?.type === `fuse.${subtype}`) {
      await unmountFuse(target, { lazy: true }).catch((error: unknown) =>
        log.error({ err: error }, 'the mount cannot be taken away; it ends with this process'),
      )
    }
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve
      })
    }
    await this.#bridge.close()
  }

  #end(end: TransportEnd): void {
    this.#ended = true
    clearInterval(this.#timer)
    this.#markDone(end)
  }

  readonly #serve: Serve = (operation, body, done, failed) => {
    if (this.#ended) {
      failed(-ENOTCONN)
      return
    }
    this.#inFlight += 1
    // Never both: a request that is answered twice is the end of libfuse's thread.
    within(operation, body)
      .then(done, (error: unknown) => failed(-this.#errnoOf(operation, error)))
      .finally(() => {
        this.#inFlight -= 1
        if (this.#inFlight === 0) this.#drained?.()
      })
  }

  #errnoOf(operation: string, error: unknown): number {
    if (!(error instanceof FsError || isSystemError(error))) {
      this.#options.log.error(
        { operation, err: error },
        'the file system failed in a way that it should not; the caller gets EIO',
      )
      return EIO
    }
    // ENOSYS is a word of the protocol: the kernel would never ask again, for any file.
    const own = toErrno(error)
    return own === ENOSYS ? EOPNOTSUPP : own
  }
}

const terminated = (names: readonly Buffer[]): Buffer =>
  Buffer.concat(names.flatMap((name) => [name, Buffer.of(0)]))

/** The value into a buffer of the caller's size, as getxattr(2): without one only its length is asked for. */
function put(value: Buffer, buffer: Buffer): number {
  if (buffer.length === 0) return value.length
  return value.length > buffer.length ? -ERANGE : value.copy(buffer)
}

function mountFailure(target: string, error: unknown): MountError {
  return new MountError(
    'failed',
    `mounting on ${target} by fuse-native failed: libfuse has said why (standard error, or the daemon's log); ` +
      '"ferryfs doctor" says what this machine lacks',
    { cause: error },
  )
}
