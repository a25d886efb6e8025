import { spawn } from 'node:child_process'
import { close, constants, openSync } from 'node:fs'
import { realpath, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { reasonOf } from '../../base/errors.ts'
import { mountsOf } from './mountinfo.ts'

/** Why a mount or an unmount did not take place. */
type MountFailure =
  /** No /dev/fuse. */
  | 'no-device'
  | 'not-permitted'
  | 'not-a-directory'
  /** Already mounted there; or, of an unmount, in use. */
  | 'busy'
  | 'not-mounted'
  | 'failed'

/** A mount or an unmount that did not take place; nothing is left behind. The message says what to do. */
export class MountError extends Error {
  readonly reason: MountFailure

  constructor(reason: MountFailure, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MountError'
    this.reason = reason
  }
}

interface MountOptions {
  /** An existing directory. */
  readonly target: string
  /** What `mount` and `df` show as the device. */
  readonly source: string
  /** Behind `fuse.` in the file system's type; `ferryfs` unless given. */
  readonly fsname?: string
  /** From `openFuseDevice`, where it had to be there before the mount; opened here unless given. */
  readonly fd?: number
  /** Further options of mount(8), for example `ro` or `noatime`. */
  readonly options?: readonly string[]
  /** How far the kernel reads ahead; its own default is 128 KiB, which sets the size of a sequential READ. */
  readonly readAheadKiB?: number
}

interface KernelMount {
  /** Of /dev/fuse, connected to this mount. While one process keeps it open, or a copy, the connection lives. */
  readonly fd: number
  /** The target without symlinks, as /proc/self/mountinfo has it. */
  readonly target: string
}

const DEVICE = '/dev/fuse'
const DEFAULT_FSNAME = 'ferryfs'
const DEFAULT_READ_AHEAD_KIB = 1024
/** The target may lie on, or be, a mount that hangs. */
const LOOK_DEADLINE_MS = 5000

function withDeadline<T>(work: Promise<T>, what: string): Promise<T> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<T>()
  const timer = setTimeout(
    () => reject(new MountError('failed', `${what} did not answer within ${LOOK_DEADLINE_MS / 1000} s`)),
    LOOK_DEADLINE_MS,
  )
  work.then(settle, reject).finally(() => clearTimeout(timer))
  return promise
}

const codeOf = (error: unknown): unknown =>
  error instanceof Error && 'code' in error ? error.code : undefined

/** The target as the kernel will name it. @throws MountError */
async function lookAtTarget(target: string, type: string): Promise<string> {
  const path = resolve(target)
  // The parent first: asking a dead mount for itself fails, and asking a hung one does not end.
  const parent = await withDeadline(realpath(dirname(path)), dirname(path)).catch((error: unknown) => {
    if (error instanceof MountError) throw error
    throw new MountError('not-a-directory', `${target}: ${reasonOf(error)}; create the directory first`, {
      cause: error,
    })
  })
  const likely = join(parent, basename(path))
  const top = mountsOf(likely).at(-1)
  if (top?.type === type) {
    throw new MountError(
      'busy',
      `${likely} is already a mount of ${type} (${top.source}); unmount it first: ferryfs unmount ${likely}`,
    )
  }
  try {
    const found = await withDeadline(realpath(path), path)
    if (!(await withDeadline(stat(found), found)).isDirectory()) {
      throw new MountError('not-a-directory', `${target} is not a directory; name one to mount on`)
    }
    return found
  } catch (error) {
    if (error instanceof MountError) throw error
    if (codeOf(error) === 'ENOTCONN') {
      throw new MountError(
        'busy',
        `${target} is a mount whose server is dead; detach it first: umount -l ${target}`,
        { cause: error },
      )
    }
    throw new MountError('not-a-directory', `${target}: ${reasonOf(error)}; create the directory first`, {
      cause: error,
    })
  }
}

/**
 * A descriptor of /dev/fuse that is not connected yet. Inherited by a worker before the mount takes place, it spares the
 * applications the time in which the mount is there and nobody serves it.
 * @throws MountError
 */
export function openFuseDevice(): number {
  if (process.geteuid?.() !== 0) {
    throw new MountError(
      'not-permitted',
      'mounting by the kernel transport needs root; run it as root, or use --transport fuse-native',
    )
  }
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK)
  } catch (error) {
    const code = codeOf(error)
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
      throw new MountError(
        'no-device',
        `${DEVICE} is not there: load the module (modprobe fuse), or give the container the device (--device ${DEVICE})`,
        { cause: error },
      )
    }
    throw new MountError(
      'not-permitted',
      `${DEVICE}: ${reasonOf(error)}; a container needs --device ${DEVICE} and --cap-add SYS_ADMIN`,
      { cause: error },
    )
  }
}

interface CommandResult {
  readonly status: number | null
  readonly stderr: string
}

/** Runs mount(8) or umount(8), with `fd` as its descriptor 3 if given. @throws MountError if it cannot be started */
function run(command: string, args: readonly string[], fd?: number): Promise<CommandResult> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<CommandResult>()
  const child = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe', ...(fd === undefined ? [] : [fd])],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  child.on('error', (error) => {
    reject(
      new MountError('failed', `${command} cannot be run: ${error.message}; install util-linux`, {
        cause: error,
      }),
    )
  })
  child.on('close', (status) => settle({ status, stderr: stderr.trim() }))
  return promise
}

/** Closes on the thread pool: the last close of a connection waits for callers to be told. */
function closeLater(fd: number): Promise<void> {
  return new Promise((settle) => {
    close(fd, () => settle())
  })
}

async function setReadAhead(target: string, kib: number): Promise<void> {
  const device = mountsOf(target).at(-1)?.device
  if (device === undefined) return
  // A kernel without this file, or a container that may not write it, reads ahead less; all else is the same.
  await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, String(kib)).catch(() => {})
}

/**
 * Mounts a FUSE file system that nobody serves yet: calls on it wait until a KernelSession reads from the descriptor.
 * Access is checked by the kernel (default_permissions) and open to all users (allow_other). If it fails, a descriptor that
 * was given stays open.
 * @throws MountError
 */
export async function mountKernel(options: MountOptions): Promise<KernelMount> {
  const fsname = options.fsname ?? DEFAULT_FSNAME
  const target = await lookAtTarget(options.target, `fuse.${fsname}`)
  const fd = options.fd ?? openFuseDevice()
  const all = [
    'fd=3',
    'rootmode=40000',
    'user_id=0',
    'group_id=0',
    'default_permissions',
    'allow_other',
    `subtype=${fsname}`,
    ...(options.options ?? []),
  ]
  try {
    // -i: no helper named mount.fuse, which would look for a program to serve.
    const { status, stderr } = await run(
      'mount',
      ['-i', '-t', 'fuse', '-o', all.join(','), '--', options.source, target],
      fd,
    )
    if (status !== 0) {
      const reason = /busy/.test(stderr)
        ? 'busy'
        : /permission|not permitted|superuser/i.test(stderr)
          ? 'not-permitted'
          : 'failed'
      const hint =
        reason === 'not-permitted'
          ? '; a container needs --cap-add SYS_ADMIN and, with AppArmor, --security-opt apparmor=unconfined'
          : ''
      throw new MountError(reason, `mounting on ${target} failed: ${stderr || `status ${status}`}${hint}`)
    }
    await setReadAhead(target, options.readAheadKiB ?? DEFAULT_READ_AHEAD_KIB)
  } catch (error) {
    if (options.fd === undefined) await closeLater(fd)
    throw error
  }
  return { fd, target }
}

/**
 * Unmounts what is uppermost at `target`, as `mountKernel` returned it. `lazy` detaches it now and ends it when its last
 * user has; otherwise one that is in use stays. Whoever serves the mount must go on serving meanwhile.
 * @throws MountError
 */
export async function unmountKernel(
  target: string,
  { lazy = false }: { readonly lazy?: boolean } = {},
): Promise<void> {
  // -c: the path is taken as it is; resolving it would ask the mount, which may not answer any more.
  const { status, stderr } = await run('umount', ['-i', '-c', ...(lazy ? ['-l'] : []), '--', target])
  if (status === 0) return
  if (/busy/.test(stderr)) {
    throw new MountError(
      'busy',
      `${target} is in use; end what uses it (fuser -vm ${target}), or detach it lazily`,
    )
  }
  if (/not mounted|no mount point/.test(stderr) || mountsOf(target).length === 0) {
    throw new MountError('not-mounted', `nothing is mounted on ${target}`)
  }
  throw new MountError('failed', `unmounting ${target} failed: ${stderr || `status ${status}`}`)
}
