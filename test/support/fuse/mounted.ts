import { execFile } from 'node:child_process'
import { accessSync, closeSync, mkdtempSync, rmSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe } from 'vitest'
import {
  KernelSession,
  mountKernel,
  mountsOf,
  type SessionOptions,
  unmountKernel,
} from '../../../src/fuse/index.ts'
import type { FileSystem } from '../../../src/fuse/operations.ts'
import { keepingLog } from './keeping-log.ts'

/** Why nothing can be mounted here; `undefined` where it can. */
export function whyNoMount(): string | undefined {
  if (process.geteuid?.() !== 0) return 'mounting needs root'
  try {
    accessSync('/dev/fuse')
  } catch {
    return 'there is no /dev/fuse'
  }
  return undefined
}

const reason = whyNoMount()
if (reason) console.log(`real FUSE mounts are not tried here: ${reason}`)

/** `describe`, left out with a printed reason where nothing can be mounted. */
export const describeMounted = describe.skipIf(reason !== undefined)

/** Whether this kernel is at least the given one. */
export function kernelIsAtLeast(major: number, minor: number): boolean {
  const [ours = 0, theirs = 0] = release().split('.').map(Number)
  return ours > major || (ours === major && theirs >= minor)
}

export interface Mounted {
  readonly target: string
  readonly mount: Awaited<ReturnType<typeof mountKernel>>
  readonly session: KernelSession
  readonly log: ReturnType<typeof keepingLog>
  /** Unmounts, waits for the end of the session and removes the directory. */
  close(): Promise<void>
}

/** Mounts a file system on a directory of its own and serves it from this process. */
export async function mounted(
  fileSystem: FileSystem,
  options: Partial<SessionOptions> = {},
): Promise<Mounted> {
  const directory = mkdtempSync(join(tmpdir(), 'ferryfs-fuse-'))
  const mount = await mountKernel({ target: directory, source: 'test', fsname: 'ferryfs-test' })
  const log = keepingLog()
  const session = new KernelSession({ fd: mount.fd, fileSystem, log, ...options })
  session.start()
  await session.ready
  return {
    target: mount.target,
    mount,
    session,
    log,
    close: async () => {
      if (mountsOf(mount.target).length > 0) await unmountKernel(mount.target, { lazy: true })
      await session.done
      closeSync(mount.fd)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

const exec = promisify(execFile)

/** Runs a program in a child process, never in this one, which serves the mount. Rejects unless it ends with 0. */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await exec(command, args, {
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
  })
  return stdout
}

/** A script for sh, with arguments. */
export const shell = (script: string, ...args: string[]): Promise<string> =>
  run('sh', '-euc', script, 'sh', ...args)

/** A program for python3, with arguments. */
export const python = (program: string, ...args: string[]): Promise<string> =>
  run('python3', '-c', program, ...args)
