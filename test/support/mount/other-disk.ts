import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Ferry } from './ferry.ts'

/** Of what kind the disk is: one of its own, or a directory beside SOURCE, on the same disk. */
export type Kind = 'another disk' | "SOURCE's own disk"
export const KINDS: readonly Kind[] = ['another disk', "SOURCE's own disk"]

/** A disk of which a file or all is bind-mounted on a place in SOURCE, and can be missing there. */
export class OtherDisk {
  readonly path: string
  readonly #ferry: Ferry
  readonly #what: string
  readonly #place: string

  /** @param name of what is mounted, on the disk; `.` for all of it */
  constructor(ferry: Ferry, name: string, place: string, kind: Kind = 'another disk') {
    this.#ferry = ferry
    this.path = join(ferry.root, 'disk')
    this.#what = join(this.path, name)
    this.#place = place
    mkdirSync(this.path)
    if (kind === 'another disk') execFileSync('mount', ['-t', 'tmpfs', 'none', this.path])
  }

  attach(): void {
    execFileSync('mount', ['--bind', this.#what, this.#place])
  }

  detach(): void {
    execFileSync('umount', [this.#place])
  }

  /** All of SOURCE is migrated with it, and mounted in the mode without it. */
  async missingIn(mode: string): Promise<void> {
    await this.#ferry.mount('--mode', 'mirror')
    await this.#ferry.done('migrate', this.#ferry.target, '--wait')
    await this.#ferry.settled()
    await this.#ferry.unmount()
    this.detach()
    await this.#ferry.mount('--mode', mode)
  }

  /** With the mount of the test and all that it has made. */
  async clear(): Promise<void> {
    await this.#ferry.unmount().catch(() => undefined)
    for (const at of [this.#place, this.path]) spawnSync('umount', ['-q', '-l', at])
    await this.#ferry.clear()
  }
}
