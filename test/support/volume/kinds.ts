import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Places, sideBySide, type Surroundings } from '../mount/ferry.ts'
import { ImageVolume, type Mkfs } from './image-volume.ts'
import { WeakVolume } from './weak-volume.ts'

/** A volume of some kind, mounted where a test has its source. */
interface Volume {
  /** Nobody can write to it from now on, where its kind says so. */
  seal?(): void
  remove(): void | Promise<void>
}

interface VolumeKind {
  /** Mount options of ferryfs that the kind needs. */
  readonly options: readonly string[]
  make(root: string, source: string): Volume | Promise<Volume>
}

const mount = (...args: string[]): Buffer => execFileSync('mount', args, { stdio: 'pipe' })

/** What is mounted there goes; a worker that has just ended may still be on its way out. */
const mountedAt = (path: string): Volume => ({
  remove: () => void execFileSync('umount', ['--lazy', path], { stdio: 'pipe' }),
})

// mkfs.xfs makes none that is smaller. Sparse, so it takes the room of what is in it.
const IMAGE_BYTES = 320 << 20

const image =
  (...mkfs: Mkfs) =>
  (root: string, source: string): Volume =>
    new ImageVolume(join(root, 'image'), source, mkfs, IMAGE_BYTES)

/** An overlayfs with a lower layer that has everything, as a container's root has. */
function overlayOf(root: string, source: string): Volume {
  const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => join(root, name))
  for (const path of [lower, upper, work]) mkdirSync(path ?? '')
  mount('-t', 'overlay', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, 'none', source)
  return mountedAt(source)
}

async function fuseOf(root: string, source: string): Promise<Volume> {
  const behind = join(root, 'behind')
  mkdirSync(behind)
  const volume = new WeakVolume(behind, source)
  await volume.start()
  return volume
}

function readOnlyOf(root: string, source: string): Volume {
  const volume = image('mkfs.ext4', '-q', '-F')(root, source)
  return {
    seal: () => void mount('-o', 'remount,ro', source),
    remove: () => volume.remove(),
  }
}

/** The file systems that a legacy volume may have, and the ways in which it can be there. */
export const VOLUME_KINDS = {
  'ext4-128': { options: [], make: image('mkfs.ext4', '-q', '-F', '-I', '128') },
  ext2: { options: [], make: image('mkfs.ext2', '-q', '-F') },
  xfs: { options: [], make: image('mkfs.xfs', '-q', '-f') },
  btrfs: { options: [], make: image('mkfs.btrfs', '-q', '-f') },
  tmpfs: {
    options: [],
    make(_root, source) {
      mount('-t', 'tmpfs', '-o', 'size=300M', 'none', source)
      return mountedAt(source)
    },
  },
  overlayfs: { options: [], make: overlayOf },
  fuse: { options: [], make: fuseOf },
  'read-only': { options: ['--source-readonly'], make: readOnlyOf },
} as const satisfies Record<string, VolumeKind>

export type VolumeName = keyof typeof VOLUME_KINDS

/** The places of a test whose source is to be a volume; it is made once they are there. */
export class KindOfVolume {
  readonly name: VolumeName
  readonly #kind: VolumeKind
  #places: Places | undefined
  #root = ''
  #volume: Volume | undefined

  constructor(name: VolumeName) {
    this.name = name
    this.#kind = VOLUME_KINDS[name]
  }

  get options(): readonly string[] {
    return this.#kind.options
  }

  readonly surroundings = (root: string): Surroundings => {
    this.#root = root
    this.#places = sideBySide(root)
    return {
      ...this.#places,
      line: (command, args) => [command, [...args]],
      remove: () => this.#volume?.remove(),
    }
  }

  async make(): Promise<void> {
    this.#volume = await this.#kind.make(this.#root, this.#places?.source ?? '')
  }

  seal(): void {
    this.#volume?.seal?.()
  }
}

/** Why there can be no such volume here; undefined where there can. */
export async function whyNoVolume(name: VolumeName): Promise<string | undefined> {
  const root = mkdtempSync(join(tmpdir(), 'ferryfs-volume-'))
  const source = join(root, 'source')
  mkdirSync(source)
  try {
    const volume = await VOLUME_KINDS[name].make(root, source)
    await volume.remove()
    return undefined
  } catch (error) {
    return `no ${name} can be mounted here: ${error instanceof Error ? error.message.split('\n')[0] : error}`
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}
