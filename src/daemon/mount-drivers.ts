import { spawn } from 'node:child_process'
import type { MountConfig } from '../config/mount-config.ts'
import { MountError, mountKernel, openFuseDevice, unmountKernel } from '../fuse/kernel/mount.ts'
import { mountsOf } from '../fuse/kernel/mountinfo.ts'
import { probeMount } from '../fuse/kernel/probe.ts'
import { MountBusy, type MountDriver } from './mount-driver.ts'

/** How mount(8) and /proc/self/mountinfo name the type of our mounts. */
export const MOUNT_TYPE = 'fuse.ferryfs'

const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The driver of the transport that the configuration names. */
export function mountDriver(config: MountConfig): MountDriver {
  return config.transport === 'kernel' ? new KernelDriver(config) : new SelfMountingDriver(config)
}

/** Detaches a ferryfs mount whose daemon was killed; anything else is left alone. */
export async function detachStale(target: string): Promise<boolean> {
  if (mountsOf(target).at(-1)?.type !== MOUNT_TYPE) return false
  if ((await probeMount(target)) !== 'stale') return false
  await unmountKernel(target, { lazy: true })
  return true
}

abstract class CommonDriver implements MountDriver {
  protected readonly config: MountConfig
  /** `major:minor` of what this driver mounted, to tell it from what others mount on the same directory later. */
  protected device: string | undefined

  constructor(config: MountConfig) {
    this.config = config
  }

  abstract open(): number | undefined
  abstract mount(fd: number | undefined): Promise<void>
  abstract survivesKill(state: unknown): boolean
  protected abstract detach(lazy: boolean): Promise<void>

  async answers(timeoutMs: number): Promise<boolean> {
    const answered = (await probeMount(this.config.target, timeoutMs)) === 'answers'
    this.device = mountsOf(this.config.target).at(-1)?.device
    return answered
  }

  async unmount(lazy: boolean): Promise<void> {
    const { target } = this.config
    const top = mountsOf(target).at(-1)
    if (top?.type !== MOUNT_TYPE || (this.device !== undefined && top.device !== this.device)) return
    try {
      await this.detach(lazy)
    } catch (error) {
      if (error instanceof MountError && error.reason === 'not-mounted') return
      if (error instanceof MountError && error.reason === 'busy')
        throw new MountBusy(target, { cause: error })
      throw error
    }
  }
}

/** The kernel's protocol on a descriptor that the supervisor owns. */
class KernelDriver extends CommonDriver {
  open(): number {
    return openFuseDevice()
  }

  async mount(fd: number | undefined): Promise<void> {
    const { source, target } = this.config
    // Only now: until the new mount is there, an application would write into the directory underneath.
    await detachStale(target)
    await mountKernel({ source, target, ...(fd === undefined ? {} : { fd }) })
    this.device = mountsOf(target).at(-1)?.device
  }

  survivesKill(state: unknown): boolean {
    return typeof state === 'object' && state !== null && 'resend' in state && state.resend === true
  }

  protected override detach(lazy: boolean): Promise<void> {
    return unmountKernel(this.config.target, { lazy })
  }
}

/** A transport whose library opens the device and mounts by itself, in the worker; its connection dies with it. */
class SelfMountingDriver extends CommonDriver {
  open(): undefined {
    return undefined
  }

  async mount(): Promise<void> {
    this.device = undefined
    await detachStale(this.config.target)
  }

  survivesKill(): boolean {
    return false
  }

  protected override async detach(lazy: boolean): Promise<void> {
    const { target } = this.config
    if (process.geteuid?.() === 0) return unmountKernel(target, { lazy })
    const { status, words } = await run('fusermount', ['-u', ...(lazy ? ['-z'] : []), '--', target])
    if (status === 0) return
    throw new MountError(/busy/i.test(words) ? 'busy' : 'failed', `${target} cannot be unmounted: ${words}`)
  }
}

interface Outcome {
  readonly status: number | null
  /** What it said on standard error, in one line. */
  readonly words: string
}

/** Runs a program of the system. */
function run(command: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
    })
    let text = ''
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    child.once('error', (error) => resolve({ status: null, words: error.message }))
    child.once('close', (status) =>
      resolve({ status, words: text.trim().replace(/\s*\n\s*/g, ' ') || `${command} ended with ${status}` }),
    )
  })
}
