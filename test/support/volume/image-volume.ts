import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Surroundings } from '../mount/ferry.ts'

const BYTES = 64 << 20

/** Command and arguments that make a file system, to which the image is added. */
export type Mkfs = readonly [command: string, ...args: string[]]

/** A volume of a kind of its own, in an image file. */
export class ImageVolume {
  readonly #image: string
  readonly #path: string
  #frozen = false

  /** @throws Error if there is no such command, or no loop device */
  constructor(image: string, path: string, mkfs: Mkfs, bytes = BYTES) {
    this.#image = image
    this.#path = path
    writeFileSync(image, '')
    truncateSync(image, bytes)
    mkdirSync(path, { recursive: true })
    const [command, ...args] = mkfs
    execFileSync(command, [...args, image], { stdio: 'pipe' })
    execFileSync('mount', ['-o', 'loop', image, path], { stdio: 'pipe' })
    rmSync(join(path, 'lost+found'), { recursive: true, force: true })
  }

  /** Whoever changes something on it from now on hangs, until `thaw`. */
  freeze(): void {
    execFileSync('fsfreeze', ['-f', this.#path], { stdio: 'pipe' })
    this.#frozen = true
  }

  thaw(): void {
    if (this.#frozen) execFileSync('fsfreeze', ['-u', this.#path], { stdio: 'pipe' })
    this.#frozen = false
  }

  remove(): void {
    this.thaw()
    // A thread that has just been let go on may still be on its way out.
    execFileSync('umount', ['--lazy', this.#path], { stdio: 'pipe' })
    rmdirSync(this.#path)
    rmSync(this.#image)
  }
}

/** Places of a test whose source is such a volume; `made` is told of it. */
export function onImage(
  mkfs: Mkfs,
  made: (volume: ImageVolume) => void = () => undefined,
): (root: string) => Surroundings {
  return (root) => {
    const source = join(root, 'source')
    const volume = new ImageVolume(join(root, 'image'), source, mkfs)
    made(volume)
    return {
      source,
      target: join(root, 'target'),
      stateDir: join(root, 'state'),
      line: (command, args) => [command, [...args]],
      remove: () => volume.remove(),
    }
  }
}

/** Why there can be no such volume here; undefined where there can. */
export function whyNoImage(mkfs: Mkfs): string | undefined {
  const root = mkdtempSync(join(tmpdir(), 'ferryfs-image-'))
  try {
    new ImageVolume(join(root, 'image'), join(root, 'volume'), mkfs).remove()
    return undefined
  } catch (error) {
    return `needs ${mkfs[0]} and loop devices: ${error instanceof Error ? error.message.split('\n')[0] : error}`
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}
