import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'

const BOOT_ID = '/proc/sys/kernel/random/boot_id'
// Mounts of others go on reaching the command and its own ones others, but for the one over the boot id.
const INSIDE = `mount --make-rprivate /proc; mount --bind "$0" ${BOOT_ID}; exec "$@"`

/** What the machine says which boot it is in, for the commands that are started by it. */
export class Boot {
  readonly #file: string
  #isAnother = false

  /** `file` is made when the machine first starts anew. */
  constructor(file: string) {
    this.#file = file
  }

  /** The machine has started anew. */
  next(): void {
    writeFileSync(this.#file, `${randomUUID()}\n`)
    this.#isAnother = true
  }

  /**
   * A command that, with all that it starts, sees this boot. What it mounts is seen by everybody only below a mount that is
   * shared.
   */
  line(command: string, args: readonly string[]): [command: string, args: string[]] {
    if (!this.#isAnother) return [command, [...args]]
    const own = ['--mount', '--propagation', 'unchanged', 'sh', '-euc', INSIDE, this.#file]
    return ['unshare', [...own, command, ...args]]
  }
}
