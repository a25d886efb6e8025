import { stat } from 'node:fs/promises'
import { reasonOf, UsageError } from '../base/errors.ts'
import { type Catalog, ROOT_INO } from '../catalog/index.ts'
import { followDirectory } from '../overlay/index.ts'
import { isSameSource, type KnownVolume, LegacyTree, type QuietReads, REMOVED } from '../legacy/index.ts'
import type { Disk } from '../sys/index.ts'

const notAnswering = (error: unknown): string => {
  const reason = error instanceof UsageError ? ` (${error.message})` : ''
  return `the legacy volume does not answer${reason}; it goes on by itself when that does`
}

/** The legacy volume, while there is one. */
export class Volume {
  readonly #path: string
  readonly #catalog: Catalog
  readonly #quiet: QuietReads | undefined
  readonly #disk: Disk | undefined
  readonly #admit: (tree: LegacyTree) => void
  readonly #takeOther: boolean
  #tree: LegacyTree | undefined
  #failure: string | undefined

  /**
   * @param admit throws for a directory that belongs to another mount
   * @param disk whose threads make the calls on it
   * @param takeOther another directory than the catalog knows is taken for SOURCE, and that is noted as a loss
   */
  constructor(
    path: string,
    catalog: Catalog,
    admit: (tree: LegacyTree) => void = () => undefined,
    quiet?: QuietReads,
    disk?: Disk,
    takeOther = false,
  ) {
    this.#takeOther = takeOther
    this.#path = path
    this.#quiet = quiet
    this.#disk = disk
    this.#catalog = catalog
    this.#admit = admit
  }

  get tree(): LegacyTree | undefined {
    return this.#tree
  }

  /** Why nothing can be had of the volume; undefined if that is not so. */
  get failure(): string | undefined {
    return this.#failure ?? this.#tree?.failure
  }

  /**
   * `mayFail`: a volume that does not answer, or is not there, is taken up when it does (`heal`).
   * @throws UsageError if the source is not the directory that the catalog knows
   */
  attach({ mayFail = false } = {}): void {
    if (this.#tree) return
    try {
      this.#tree = this.#open()
    } catch (error) {
      if (!mayFail || this.#catalog.meta.get('source') === undefined) throw error
      // Of nothing: what is at the path is not, or not yet, the volume.
      this.#failure = notAnswering(error)
      this.#tree = this.#treeAt('', { failure: this.#failure })
    }
  }

  /**
   * Descriptors of a volume whose server or device is gone stay dead, also when it is mounted again. Looks whether this
   * has happened, and goes on with what is at the path now if that is the same directory. One that was removed does not come back.
   */
  async heal(): Promise<'answers' | 'failing' | 'removed' | 'replaced'> {
    const before = this.#tree
    if (!before || (await before.answers())) {
      this.#failure = undefined
      return 'answers'
    }
    let next: LegacyTree
    try {
      // On a thread first: what hangs there must not keep everything else from being served.
      const look = () => stat(this.#path)
      await (this.#disk ? this.#disk.during(look) : look())
      next = this.#open()
    } catch (error) {
      if (this.#tree !== before) return 'answers'
      return this.#notHealed(before, error)
    }
    if (this.#tree !== before) {
      next.close()
      return 'answers'
    }
    this.#tree = next
    this.#failure = undefined
    before.close()
    return 'replaced'
  }

  /** Of directories in a root that was removed descriptors are left that look empty, too. */
  #notHealed(before: LegacyTree, error: unknown): 'failing' | 'removed' {
    let isRemoved = false
    try {
      isRemoved = before.isRemoved
    } catch {
      // It says nothing.
    }
    // It was noted before, and what stands for it since says nothing.
    if (this.#failure !== REMOVED) this.#failure = isRemoved ? REMOVED : notAnswering(error)
    if (!isRemoved) return 'failing'
    this.#tree = this.#treeAt('', { failure: REMOVED })
    before.close()
    return 'removed'
  }

  detach(): void {
    this.#tree?.close()
    this.#tree = undefined
    this.#failure = undefined
  }

  #treeAt(path: string, options?: { failure: string }): LegacyTree {
    return new LegacyTree(path, ROOT_INO, knownVolume(this.#catalog), {
      ...options,
      disk: this.#disk,
      ...(this.#quiet ? { quiet: this.#quiet } : {}),
    })
  }

  #open(): LegacyTree {
    let tree: LegacyTree
    try {
      tree = this.#treeAt(this.#path)
    } catch (error) {
      throw new UsageError(`source ${this.#path}: ${reasonOf(error)}`, 2, { cause: error })
    }
    try {
      this.#identify(tree)
      this.#admit(tree)
    } catch (error) {
      tree.close()
      throw error
    }
    return tree
  }

  /** @throws UsageError if it is not the directory that the catalog knows */
  #identify(tree: LegacyTree): void {
    const { meta } = this.#catalog
    const { identity } = tree
    const known = meta.get('source')
    if (known !== undefined && !isSameSource(known, identity)) {
      if (!this.#takeOther || this.#tree) throw new UsageError(anotherSource(this.#path))
      this.#catalog.transaction(() => {
        this.#catalog.noteLoss(
          `SOURCE ${this.#path} is another directory than before: files that it lacks are not shown any more`,
        )
        meta.set('source', identity)
      })
    } else if (known === undefined || identity.length > known.length)
      this.#catalog.transaction(() => meta.set('source', identity))
  }
}

/** One line about what lies at SOURCE's path now. */
const anotherSource = (path: string): string =>
  `source ${path} is not the directory this state directory was made for (another volume, or nothing, is mounted there, or it was made anew); bring back the right one, or give this one a state directory and a namespace of its own (--state-dir, --namespace); "ferryfs restore --state-dir" writes out what the store has; --take-over goes on with what is there now: files that it lacks count as removed`

/** What the catalog knows of it. What is mounted below SOURCE is noted as it is met, in whatever transaction is under way. */
function knownVolume(catalog: Catalog): KnownVolume {
  const { mounts } = catalog
  return {
    placesOf: (ino) => ({ places: catalog.links.places(ino), legacyIno: catalog.get(ino)?.legacyIno }),
    follow: (...found) => followDirectory(catalog, ...found),
    mounts: {
      get any() {
        return mounts.any
      },
      at: (place) => mounts.at(place),
      put: (place, mounted) => catalog.transaction(() => mounts.put(place, mounted)),
      usesDevice: (device) => mounts.usesDevice(device),
    },
  }
}
