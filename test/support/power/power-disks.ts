import { execFile } from 'node:child_process'
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

// Both are sparse: what they take is what is written to them.
const OUTER_BYTES = 4 * 2 ** 30
const DISK_BYTES = 256 * 2 ** 20

interface DiskOfPower {
  /** Where it is mounted. */
  readonly path: string
  /** The image that is mounted there now. */
  image: string
}

/**
 * Disks that can lose power together: an ext4 in an image each, and the images on a btrfs in an image. What a reflink of an
 * image takes along is what a disk without a write cache has at that moment: what the kernel still has in memory is lost.
 */
export class PowerDisks {
  readonly #outer: string
  readonly #disks: DiskOfPower[] = []
  #cuts = 0
  #removed = false

  private constructor(outer: string) {
    this.#outer = outer
  }

  /**
   * Makes a disk for each mount point below `root`, which is a directory that nobody else uses. The tools look at whatever
   * is mounted on the machine, and wait for a volume that hangs: never synchronously, as it may be ours to let it go on.
   * @throws Error of the tools
   */
  static async make(root: string, mountPoints: readonly string[]): Promise<PowerDisks> {
    const made = new PowerDisks(join(root, 'outer'))
    try {
      await made.#makeOuter()
      for (const [number, path] of mountPoints.entries()) await made.#make(`disk-${number}`, path)
      return made
    } catch (error) {
      await made.remove()
      throw error
    }
  }

  async #makeOuter(): Promise<void> {
    mkdirSync(this.#outer, { recursive: true })
    const image = sparse(`${this.#outer}.img`, OUTER_BYTES)
    await run('mkfs.btrfs', ['-q', '-f', '-m', 'single', image])
    await run('mount', ['-o', 'loop', image, this.#outer])
  }

  async #make(name: string, path: string): Promise<void> {
    const image = sparse(join(this.#outer, `${name}.img`), DISK_BYTES)
    // No thread of the kernel's own finishes it later: what reaches the image is what the program under test wrote.
    const prompt = 'lazy_itable_init=0,lazy_journal_init=0'
    await run('mkfs.ext4', ['-q', '-F', '-m', '0', '-N', '8192', '-E', prompt, image])
    mkdirSync(path, { recursive: true })
    await run('mount', ['-o', 'loop', image, path])
    this.#disks.push({ path, image })
  }

  /** Everything that was written so far on the disks, whoever wrote it. */
  async sync(): Promise<void> {
    for (const { path } of this.#disks) await run('sync', ['-f', path])
  }

  /**
   * Has the file systems write their journals, as they do by themselves every five seconds: names that were made, moved and
   * removed are on the disk then, and bytes of files that nobody has synced are not.
   */
  commitJournals(): void {
    for (const { path } of this.#disks) {
      const file = join(path, `unrelated-${this.#cuts}`)
      writeFileSync(file, 'unrelated')
      const descriptor = openSync(file, 'r')
      fsyncSync(descriptor)
      closeSync(descriptor)
      rmSync(file)
    }
  }

  /**
   * The power goes: what the disks have now is what they will have. Whoever writes to several of them has to be stopped or dead
   * when this is called, else what one of them is given meanwhile could rest on what another has not got.
   */
  async cut(): Promise<() => Promise<void>> {
    this.#cuts += 1
    const left = this.#disks.map((disk) => ({ disk, image: `${disk.image.split('@')[0]}@${this.#cuts}` }))
    for (const { disk, image } of left) await run('cp', ['--reflink=always', disk.image, image])
    return async () => {
      for (const { disk, image } of left) {
        // Nobody uses it any more but a mount of a daemon's own namespace, which goes with its last process.
        await run('umount', ['-l', disk.path])
        rmSync(disk.image)
        disk.image = image
        await run('mount', ['-o', 'loop', image, disk.path])
      }
    }
  }

  async remove(): Promise<void> {
    if (this.#removed) return
    this.#removed = true
    // What was never mounted need not be unmounted.
    for (const path of [...this.#disks.map((disk) => disk.path), this.#outer]) {
      await run('umount', ['-l', path]).catch(() => undefined)
    }
    rmSync(`${this.#outer}.img`, { force: true })
  }
}

function sparse(path: string, bytes: number): string {
  writeFileSync(path, '')
  truncateSync(path, bytes)
  return path
}
