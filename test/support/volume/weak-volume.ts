import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import type { Failing } from './backed-file-system.ts'

const SERVER = fileURLToPath(new URL('./server.ts', import.meta.url))

/** A legacy volume that fails on command: a mount in front of the directory that really holds the files. */
export class WeakVolume {
  readonly target: string
  readonly #directory: string
  readonly #program: string
  #server: ChildProcess | undefined

  /** `program` serves another kind of volume than one that fails. */
  constructor(directory: string, target: string, program = SERVER) {
    this.#directory = directory
    this.#program = program
    this.target = target
    mkdirSync(target, { recursive: true })
  }

  /** Mounts it; resolves when it answers. */
  async start(): Promise<void> {
    this.#server = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', this.#program, this.#directory, this.target],
      { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
    )
    await this.#answered(this.#server)
  }

  /** What fails from now on. */
  async fail(failing: Failing): Promise<void> {
    if (!this.#server) throw new Error('the volume is not there')
    const answered = this.#answered(this.#server)
    this.#server.send(failing)
    await answered
  }

  /** It does not answer any more, until `goOn`: whoever asks it hangs. */
  hang(): void {
    this.#server?.kill('SIGSTOP')
  }

  goOn(): void {
    this.#server?.kill('SIGCONT')
  }

  /** The volume is gone: whoever has something of it open gets ENOTCONN, and the mount point is an empty directory. */
  async remove(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server && server.exitCode === null && server.signalCode === null) {
      const ended = once(server, 'exit')
      server.kill('SIGKILL')
      await ended
    }
    while (mountsOf(this.target).some(({ type }) => type.startsWith('fuse'))) {
      await unmountKernel(this.target, { lazy: true })
    }
  }

  async #answered(server: ChildProcess): Promise<void> {
    const ended = once(server, 'exit').then(([status]) => {
      throw new Error(`the server of the volume ended with ${status}`)
    })
    // The end is of interest only until the answer.
    ended.catch(() => undefined)
    await Promise.race([once(server, 'message'), ended])
  }
}
