import { isDirectory, isRegular, isSameKind } from '../base/attributes.ts'
import { BoundedList } from '../base/bounded-list.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { type Catalog, type Inode, isLost, ROOT_INO, UNKNOWN_FILE } from '../catalog/index.ts'
import { guardsSeen } from '../content/index.ts'
import type { LegacyPlace, LegacyTree } from '../legacy/index.ts'
import { printable, type Stat } from '../sys/index.ts'

// Names looked at in one transaction.
const NAMES_AT_ONCE = 64

interface Doubt {
  readonly path: string
  readonly reason: string
}

export interface MergedSource {
  /** Names that SOURCE alone has; what is below one that is a directory is not counted. */
  readonly added: BoundedList<string>
  /** Where SOURCE may have what the tree should. */
  readonly doubts: BoundedList<Doubt>
}

/**
 * Brings a catalog that was made from the store together with a SOURCE that it has never seen. A directory that both have becomes one:
 * what SOURCE alone has in it is met there like any legacy file. Of a file that both have the store's copy is shown, and SOURCE's is
 * hidden and stays: nobody can tell from what file the copy was made, so nothing may go on the strength of it (P3). Before
 * anything is served. Cut short, it is begun again.
 */
export class SourceMerge {
  readonly #catalog: Catalog
  readonly #legacy: LegacyTree
  readonly #below: bigint[] = [ROOT_INO]
  readonly #added = new BoundedList<string>((path) => path.length)
  readonly #doubts = new BoundedList<Doubt>(({ path, reason }) => path.length + reason.length)

  constructor(catalog: Catalog, legacy: LegacyTree) {
    this.#catalog = catalog
    this.#legacy = legacy
  }

  async run(): Promise<MergedSource> {
    this.#catalog.transaction(() => this.#bind(ROOT_INO, this.#legacy.rootStat))
    for (let ino = this.#below.pop(); ino !== undefined; ino = this.#below.pop()) {
      try {
        await this.#merge(ino)
      } catch (error) {
        if (!(error instanceof FsError)) throw error
        this.#doubt(this.#catalog.links.pathOf(ino), `SOURCE cannot be read there (${reasonOf(error)})`)
      }
      faultPoint('migration.merge.directory')
    }
    return { added: this.#added, doubts: this.#doubts }
  }

  async #merge(parent: bigint): Promise<void> {
    for (const batch of this.#legacy.batches(parent)) {
      for (let from = 0; from < batch.length; from += NAMES_AT_ONCE) {
        const some = batch.slice(from, from + NAMES_AT_ONCE)
        this.#catalog.transaction(() => {
          for (const { name } of some) this.#meet({ parent, name })
        })
        await giveWay()
      }
    }
  }

  #meet(place: LegacyPlace): void {
    const catalog = this.#catalog
    const { parent, name } = place
    const dirent = catalog.dirents.get(parent, name)
    const inode = dirent?.ino === undefined ? undefined : catalog.get(dirent.ino)
    if (!inode) {
      if (!dirent) this.#add(place)
      return
    }
    // Met before this was cut short, or taken over since.
    const isKnown = dirent?.legacy !== undefined
    if (isKnown && dirent.legacy !== UNKNOWN_FILE) {
      if (isDirectory(inode.mode) && dirent.legacy === inode.ino) this.#below.push(inode.ino)
      return
    }
    const stat = this.#legacy.find(place)
    if (!stat) return
    if (this.#isOneDirectory(inode, stat)) {
      catalog.dirents.set(parent, name, inode.ino, inode.ino)
      this.#bind(inode.ino, stat)
      this.#below.push(inode.ino)
      return
    }
    catalog.dirents.set(parent, name, inode.ino, UNKNOWN_FILE)
    const reason = whyInDoubt(inode, stat)
    if (reason !== undefined) this.#doubt(this.#pathOf(place), reason)
  }

  /** A volume that is mounted twice has one directory in two places: it is in one. */
  #isOneDirectory(inode: Inode, stat: Stat): boolean {
    if (!isDirectory(inode.mode) || !isDirectory(stat.mode)) return false
    const other = this.#catalog.byLegacy(this.#legacy.deviceOf(stat), stat.ino)
    return other === undefined || other.ino === inode.ino
  }

  /** Its attributes stay those that the store has. */
  #bind(ino: bigint, stat: Stat): void {
    const inode = this.#catalog.get(ino)
    if (!inode) return
    inode.legacyIno = stat.ino
    inode.legacyDev = this.#legacy.deviceOf(stat)
    inode.fingerprint = guardsSeen(stat.flags)
    this.#catalog.save(inode)
  }

  #add(place: LegacyPlace): void {
    this.#added.add(printable(this.#pathOf(place)))
  }

  #doubt(path: Buffer | undefined, reason: string): void {
    const shown = path && path.length > 0 ? printable(path) : '.'
    this.#doubts.add({ path: shown, reason })
  }

  #pathOf({ parent, name }: LegacyPlace): Buffer {
    const above = this.#catalog.links.pathOf(parent)
    return above && above.length > 0 ? Buffer.concat([above, Buffer.from('/'), name]) : name
  }
}

/** In a mode that drains, what the store has of a file is at least as new as what SOURCE has left of it. */
function whyInDoubt(inode: Inode, stat: Stat): string | undefined {
  if (isLost(inode)) return 'the store has lost what was there, and SOURCE has something, perhaps older'
  if (isDirectory(stat.mode)) return 'SOURCE has a directory there, of which nothing is shown'
  const isLater = stat.mtimeNs > inode.mtimeNs || stat.ctimeNs > inode.ctimeNs
  if (isLater) return 'SOURCE has a file there that was changed later'
  const isOther = isSameKind(inode.mode, stat.mode) && stat.mtimeNs === inode.mtimeNs
  return isOther && isRegular(stat.mode) && stat.size !== inode.size
    ? 'SOURCE has a file there of another size and the same time'
    : undefined
}
