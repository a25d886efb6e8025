import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Shim } from './shim.ts'

/** A place in memory for recordings and crash states, on a file system of its own: inode numbers there are never used again. */
export class Machine {
  readonly shim = new Shim()
  readonly #directory: string

  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'ferryfs-powercut-'))
    for (const path of [this.root, this.logs]) {
      mkdirSync(path)
      mount(path)
    }
  }

  /** What is recorded lies below, and the crash states that are drawn from it. */
  get root(): string {
    return join(this.#directory, 'root')
  }

  /** What is not recorded. */
  get logs(): string {
    return join(this.#directory, 'logs')
  }

  /** The file with the machine's boot id. */
  get bootId(): string {
    return join(this.logs, 'boot-id')
  }

  /** Empties the machine: the same script gets the same inode numbers again. */
  renew(): void {
    execFileSync('umount', ['-l', this.root])
    mount(this.root)
  }

  /** The machine starts again: another boot id. */
  boot(): void {
    writeFileSync(this.bootId, `${randomUUID()}\n`)
    this.shim.boot(this.bootId)
  }

  close(): void {
    for (const path of [this.root, this.logs]) execFileSync('umount', ['-l', path])
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

function mount(path: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=0700,inode64', 'ferryfs-powercut', path])
}
