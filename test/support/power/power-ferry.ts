import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
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

const reason = whyNoMount() ?? whyNoPower()
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

  constructor({ layout = 'one disk', faults = false }: Options = {}) {
    let disks: PowerDisks | undefined
    let boot: Boot | undefined
    this.ferry = new Ferry({
      faults,
      surroundings: (root) => {
        const [volume, state] = [
          join(root, 'disk-0'),
          join(root, layout === 'one disk' ? 'disk-0' : 'disk-1'),
        ]
        const made = new PowerDisks(join(root, 'images'), [...new Set([volume, state])])
        const own = new Boot(join(root, 'boot-id'))
        disks = made
        boot = own
        const ground = sharedGround(join(root, 'ground'))
        return {
          source: join(volume, 'source'),
          target: join(ground, 'target'),
          stateDir: join(state, 'state'),
          line: (command, args) => own.line(command, args),
          remove: () => {
            execFileSync('umount', ['-l', ground])
            made.remove()
          },
        }
      },
    })
    if (!disks || !boot) throw new Error('a ferry has not made its surroundings')
    this.disks = disks
    this.#boot = boot
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
