import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'

const BLOCK = Buffer.alloc(64 * 1024, 0xbb)

function command(name: string, ...args: string[]): void {
  execFileSync(name, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** A small file system of its own in memory, which can be filled, emptied and made read-only. */
export class Disk {
  readonly path: string

  constructor(path: string, size: string) {
    this.path = path
    mkdirSync(path, { recursive: true })
    command('mount', '-t', 'tmpfs', '-o', `size=${size},mode=755`, 'ferryfs-chaos', path)
  }

  /** Not one more block. */
  fill(): void {
    const fd = openSync(join(this.path, '.ballast'), 'a')
    try {
      for (;;) writeSync(fd, BLOCK)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
    } finally {
      closeSync(fd)
    }
  }

  empty(): void {
    rmSync(join(this.path, '.ballast'), { force: true })
  }

  get free(): number {
    const { bavail, bsize } = statfsSync(this.path)
    return bavail * bsize
  }

  /** @throws Error while somebody writes */
  setReadOnly(readOnly: boolean): void {
    command('mount', '-o', `remount,${readOnly ? 'ro' : 'rw'}`, this.path)
  }

  /** What is mounted below it in another mount namespace is seen in this one, too. */
  share(): void {
    command('mount', '--make-shared', this.path)
  }

  remove(): void {
    command('umount', '-l', this.path)
  }
}
