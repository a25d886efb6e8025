import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe } from 'vitest'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { gone } from '../daemon/place.ts'
import { whyNoMount } from '../fuse/mounted.ts'
import { Ferry } from '../mount/ferry.ts'
import { Boot } from './boot.ts'
import { PowerDisks } from './power-disks.ts'
import { sharedGround } from './shared-ground.ts'
import { stop } from './stop.ts'
import { whyNoPower } from './why-no-power.ts'

const reason = whyNoMount() ?? (await whyNoPower())
if (reason) console.log(`power cuts on real disks are not tried here: ${reason}`)

/** `describe`, left out with a printed reason where no disk can lose power. */
export const describePower = describe.skipIf(reason !== undefined)

/** How the legacy volume and the state directory lie: on one file system, or on one each. */
export type DiskLayout = 'one disk' | 'two disks'

interface Options {
  readonly layout?: DiskLayout
  readonly faults?: boolean
}

/** A test's directories on disks that can lose power. */
export class PowerFerry {
  readonly ferry: Ferry
  readonly disks: PowerDisks
  readonly #boot: Boot

  private constructor(ferry: Ferry, disks: PowerDisks, boot: Boot) {
    this.ferry = ferry
    this.disks = disks
    this.#boot = boot
  }

  static async make({ layout = 'one disk', faults = false }: Options = {}): Promise<PowerFerry> {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-power-')))
    chmodSync(root, 0o755)
    const volume = join(root, 'disk-0')
    const state = layout === 'one disk' ? volume : join(root, 'disk-1')
    const disks = await PowerDisks.make(join(root, 'images'), [...new Set([volume, state])])
    const boot = new Boot(join(root, 'boot-id'))
    const ground = sharedGround(join(root, 'ground'))
    const surroundings = {
      source: join(volume, 'source'),
      target: join(ground, 'target'),
      stateDir: join(state, 'state'),
      line: (command: string, args: readonly string[]) => boot.line(command, args),
      remove: async () => {
        await promisify(execFile)('umount', ['-l', ground])
        await disks.remove()
        rmSync(root, { recursive: true, force: true })
      },
    }
    return new PowerFerry(new Ferry({ faults, surroundings: () => surroundings }), disks, boot)
  }

  /** The power goes and comes back: nothing runs, and the disks have what had reached them. Nothing is mounted after it. */
  async cut(): Promise<void> {
    const { ferry, disks } = this
    const { pid, supervisorPid } = await ferry.status()
    await stop([supervisorPid, pid])
    const comeBack = await disks.cut()
    for (const victim of [supervisorPid, pid]) process.kill(victim, 'SIGKILL')
    await gone(supervisorPid)
    await gone(pid)
    await this.#startAnew(comeBack)
  }

  /** As `cut`, where a fault point has killed supervisor and worker already. */
  async cutOfTheDead(): Promise<void> {
    await this.#startAnew(await this.disks.cut())
  }

  async #startAnew(comeBack: () => Promise<void>): Promise<void> {
    const { target } = this.ferry
    while (mountsOf(target).length > 0) await unmountKernel(target, { lazy: true })
    await comeBack()
    this.#boot.next()
    await this.ferry.call.reset().catch(() => undefined)
  }
}
