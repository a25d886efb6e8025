import type { MountFlag } from '../config/mount-flags.ts'

/** The mount point has users: open files, working directories, mounts inside. */
export class MountBusy extends Error {
  constructor(target: string, options?: ErrorOptions) {
    super(`${target} is in use`, options)
    this.name = 'MountBusy'
  }
}

/** What the supervisor does to the mount point. One for each transport; tests have one without a kernel. */
export interface MountDriver {
  /** Opens the descriptor that workers inherit, not mounted yet; undefined where the worker mounts by itself. */
  open(): number | undefined
  /**
   * Mounts that descriptor on TARGET, in the place of what a killed daemon left there.
   * @param flags options of mount(8)
   */
  mount(fd: number | undefined, flags: readonly MountFlag[]): Promise<void>
  /**
   * Resolves once TARGET is unmounted, or was not mounted.
   * @param lazy detach now, also while it is in use
   * @throws MountBusy
   */
  unmount(lazy: boolean): Promise<void>
  /** Whether TARGET answers a stat(2) in time. */
  answers(timeoutMs: number): Promise<boolean>
  /**
   * Whether a new worker can go on where the last was killed: the kernel sends unanswered requests again (6.9 and later).
   * @param state what the transport negotiated
   */
  survivesKill(state: unknown): boolean
}
