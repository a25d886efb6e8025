import { execFile } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const BLOCK = Buffer.alloc(64 * 1024, 0xbb)

const run = promisify(execFile)

/** A small file system of its own in memory, which can be filled, emptied and made read-only. */
export class Disk {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  static async make(path: string, size: string): Promise<Disk> {
    mkdirSync(path, { recursive: true })
    await run('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=755`, 'ferryfs-chaos', path])
    return new Disk(path)
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
  async setReadOnly(readOnly: boolean): Promise<void> {
    await run('mount', ['-o', `remount,${readOnly ? 'ro' : 'rw'}`, this.path])
  }

  /** What is mounted below it in another mount namespace is seen in this one, too. */
  async share(): Promise<void> {
    await run('mount', ['--make-shared', this.path])
  }

  async remove(): Promise<void> {
    await run('umount', ['-l', this.path])
  }
}
