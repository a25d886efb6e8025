import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe } from 'vitest'
import { whyNoMount } from '../fuse/mounted.ts'
import { Ferry } from '../mount/ferry.ts'
import { Boot } from './boot.ts'
import { ForgetfulDisk, whyNoForgetfulDisk } from './forgetful-disk.ts'
import { sharedGround } from './shared-ground.ts'

const reason = whyNoMount() ?? whyNoForgetfulDisk()
if (reason) console.log(`syncs that fail are not tried with a mount here: ${reason}`)

/** `describe`, left out with a printed reason where the daemon cannot be given a disk that forgets. */
export const describeForgetful = describe.skipIf(reason !== undefined)

/** A mount whose daemon has a disk that forgets, for the files whose paths end in one of `tracked`. */
export class ForgetfulFerry {
  readonly ferry: Ferry
  readonly disk: ForgetfulDisk
  readonly #boot: Boot

  constructor(tracked: readonly string[]) {
    let boot: Boot | undefined
    let disk: ForgetfulDisk | undefined
    this.ferry = new Ferry({
      surroundings: (root) => {
        const own = new Boot(join(root, 'boot-id'))
        boot = own
        const ground = sharedGround(join(root, 'ground'))
        const forgetful = new ForgetfulDisk(join(root, 'disk'), tracked)
        disk = forgetful
        const environment = Object.entries(forgetful.environment).map(([name, value]) => `${name}=${value}`)
        return {
          source: join(root, 'source'),
          target: join(ground, 'target'),
          stateDir: join(root, 'state'),
          line: (command, args) => own.line('env', [...environment, command, ...args]),
          remove: () => {
            execFileSync('umount', ['-l', ground])
          },
        }
      },
    })
    if (!boot || !disk) throw new Error('a ferry has not made its surroundings')
    this.#boot = boot
    this.disk = disk
  }

  /** The power goes: supervisor and worker are gone, and the files that are looked after hold what the disk has of them. */
  async cut(): Promise<void> {
    await this.ferry.killBoth()
    this.disk.cut()
    this.#boot.next()
  }
}
