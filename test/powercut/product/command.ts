import { spawnSync } from 'node:child_process'
import { constants, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readMark } from '../../../src/legacy/index.ts'
import { closeDescriptor, openAt } from '../../../src/sys/index.ts'
import { builtCli } from '../../support/mount/built.ts'
import type { Script } from '../app/script.ts'
import type { Machine } from '../machine/machine.ts'

const AT_FDCWD = -100
// A command that has not ended by then hangs.
const COMMAND_MS = 180_000

interface Ended {
  readonly status: number | null
  readonly output: string
}

/** The product as it is shipped, with its own processes and a real mount, on a machine that was laid out at `root`. */
export class Command {
  readonly target: string
  readonly #root: string
  readonly #environment: NodeJS.ProcessEnv
  #supervisor: number | undefined

  constructor(root: string, machine: Machine) {
    this.#root = root
    this.target = join(machine.logs, 'target')
    const shown = join(machine.logs, 'shown')
    machine.shim.saveShown(shown)
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('FERRYFS_'))
    this.#environment = {
      ...Object.fromEntries(inherited),
      FERRYFS_POWERCUT_SHOWN: shown,
      FERRYFS_POWERCUT_BOOT: machine.bootId,
      FERRYFS_RUN_DIR: join(machine.logs, 'run'),
      FERRYFS_STATE_ROOT: join(root, 'state', 'machine'),
    }
  }

  /** `ferryfs mount`, as after a boot. @throws Error that says what it printed */
  mount({ inlineLimit, variant }: Script): void {
    mkdirSync(this.target, { recursive: true })
    this.#introduce()
    const { status, output } = this.run([
      'mount',
      join(this.#root, 'volume'),
      this.target,
      '--state-dir',
      join(this.#root, 'state'),
      '--store',
      this.#store,
      '--namespace',
      'ns',
      '--inline-limit',
      String(inlineLimit),
      ...(variant === 'source-readonly' ? ['--source-readonly'] : []),
      ...(variant === 'ack-store' ? ['--ack', 'store'] : []),
    ])
    const pid = /by process (\d+)/.exec(output)?.[1]
    if (pid !== undefined) this.#supervisor = Number(pid)
    if (status !== 0) throw new Error(`mount ended with ${status}: ${output}`)
  }

  get #store(): string {
    return `embedded:${join(this.#root, 'store')}`
  }

  /** What the supervisor had written down before the worker that was recorded was started. */
  #introduce(): void {
    const source = join(this.#root, 'volume')
    const volume = openAt(AT_FDCWD, Buffer.from(source), constants.O_RDONLY | constants.O_DIRECTORY)
    const id = readMark(volume)?.id
    closeDescriptor(volume)
    const identity = { format: 1, source, target: this.target, namespace: 'ns', store: this.#store }
    writeFileSync(join(this.#root, 'state', 'mount.json'), JSON.stringify({ ...identity, ...(id && { id }) }))
  }

  run(args: readonly string[]): Ended {
    const line = ['--disable-warning=ExperimentalWarning', builtCli(), ...args]
    const { status, stdout, stderr } = spawnSync(process.execPath, line, {
      cwd: '/',
      env: this.#environment,
      encoding: 'utf8',
      timeout: COMMAND_MS,
      killSignal: 'SIGKILL',
      maxBuffer: 1 << 26,
    })
    return { status, output: stdout + stderr }
  }

  /** Whatever is left of it goes. */
  end(): void {
    if (this.#supervisor !== undefined) {
      try {
        process.kill(this.#supervisor, 'SIGKILL')
      } catch {
        // It ended with the mount.
      }
      this.#supervisor = undefined
    }
    spawnSync('umount', ['-l', this.target], { stdio: 'ignore' })
    rmSync(this.target, { recursive: true, force: true })
  }
}
