import type { MountConfig } from '../config/mount-config.ts'
import { flagsOfMount, type MountFlag } from '../config/mount-flags.ts'
import { MountError, mountKernel, openFuseDevice, unmountKernel } from '../fuse/kernel/mount.ts'
import { mountsOf } from '../fuse/kernel/mountinfo.ts'
import { probeMount } from '../fuse/kernel/probe.ts'
import { unmountFuse } from '../fuse/native/unmount.ts'
import { MountBusy, type MountDriver } from './mount-driver.ts'

/** How mount(8) and /proc/self/mountinfo name the type of our mounts. */
export const MOUNT_TYPE = 'fuse.ferryfs'

/** The driver of the transport that the configuration names. */
export function mountDriver(config: MountConfig): MountDriver {
  return config.transport === 'kernel' ? new KernelDriver(config) : new SelfMountingDriver(config)
}

/** Detaches a ferryfs mount whose daemon was killed; anything else is left alone. */
export async function detachStale(target: string): Promise<boolean> {
  if (mountsOf(target).at(-1)?.type !== MOUNT_TYPE) return false
  if ((await probeMount(target)) !== 'stale') return false
  await unmountFuse(target, { lazy: true })
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
  abstract mount(fd: number | undefined, flags: readonly MountFlag[]): Promise<void>
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
  /** What somebody made of it by a remount stays when it has to be mounted anew. */
  #remounted: readonly MountFlag[] = []

  open(): number {
    return openFuseDevice()
  }

  async mount(fd: number | undefined, flags: readonly MountFlag[]): Promise<void> {
    const { source, target } = this.config
    const options = this.#remounted.length > 0 ? this.#remounted : flags
    // Only now: until the new mount is there, an application would write into the directory underneath.
    await detachStale(target)
    await mountKernel({ source, target, options, ...(fd === undefined ? {} : { fd }) })
    this.device = mountsOf(target).at(-1)?.device
  }

  survivesKill(state: unknown): boolean {
    return typeof state === 'object' && state !== null && 'resend' in state && state.resend === true
  }

  protected override detach(lazy: boolean): Promise<void> {
    const top = mountsOf(this.config.target).at(-1)
    if (top) this.#remounted = flagsOfMount(top)
    return unmountKernel(this.config.target, { lazy })
  }
}

/** A transport whose library opens the device and mounts by itself, in the worker; its connection dies with it. */
class SelfMountingDriver extends CommonDriver {
  open(): undefined {
    return undefined
  }

  async mount(): Promise<void> {
    await detachStale(this.config.target)
  }

  survivesKill(): boolean {
    return false
  }

  /** A worker that was told to make room for another has taken its mount away, and the next has made its own. */
  override answers(timeoutMs: number): Promise<boolean> {
    return super.answers(timeoutMs).finally(() => {
      this.device = undefined
    })
  }

  protected override detach(lazy: boolean): Promise<void> {
    return unmountFuse(this.config.target, { lazy })
  }
}
