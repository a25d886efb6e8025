import { stat } from 'node:fs/promises'
import { reasonOf, UsageError } from '../base/errors.ts'
import { type Catalog, ROOT_INO } from '../catalog/index.ts'
import { placeOf } from '../content/index.ts'
import { LegacyTree } from '../legacy/index.ts'

/** The legacy volume, while there is one. */
export class Volume {
  readonly #path: string
  readonly #catalog: Catalog
  #tree: LegacyTree | undefined

  constructor(path: string, catalog: Catalog) {
    this.#path = path
    this.#catalog = catalog
  }

  get tree(): LegacyTree | undefined {
    return this.#tree
  }

  /** @throws UsageError if the source is not the directory that the catalog knows */
  attach(): void {
    this.#tree ??= this.#open()
  }

  /**
   * Descriptors of a volume whose server or device is gone stay dead, also when it is mounted again. Looks whether this
   * has happened, and goes on with what is at the path now if that is the same directory.
   */
  async heal(): Promise<'answers' | 'failing' | 'replaced'> {
    const before = this.#tree
    if (!before || (await before.answers())) return 'answers'
    let next: LegacyTree
    try {
      // On a thread first: what hangs there must not keep everything else from being served.
      await stat(this.#path)
      next = this.#open()
    } catch {
      return 'failing'
    }
    if (this.#tree !== before) {
      next.close()
      return 'answers'
    }
    this.#tree = next
    before.close()
    return 'replaced'
  }

  detach(): void {
    this.#tree?.close()
    this.#tree = undefined
  }

  #open(): LegacyTree {
    let tree: LegacyTree
    try {
      tree = new LegacyTree(this.#path, ROOT_INO, (ino) => {
        const place = placeOf(this.#catalog, ino)
        return place && { ...place, legacyIno: this.#catalog.get(ino)?.legacyIno }
      })
    } catch (error) {
      throw new UsageError(`source ${this.#path}: ${reasonOf(error)}`, 2, { cause: error })
    }
    const identity = `${tree.rootStat.ino}:${tree.space().type}`
    const known = this.#catalog.meta('source')
    if (known !== undefined && known !== identity) {
      tree.close()
      throw new UsageError(
        `source ${this.#path} is not the directory this state directory was made for (another volume, or nothing, is mounted there); mount the right one and try again`,
      )
    }
    if (known === undefined) this.#catalog.transaction(() => this.#catalog.setMeta('source', identity))
    return tree
  }
}
