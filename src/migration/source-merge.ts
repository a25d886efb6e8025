import { isDirectory } from '../base/attributes.ts'
import { BoundedList } from '../base/bounded-list.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { type Catalog, type Inode, isLost, lacksNames, ROOT_INO, UNKNOWN_FILE } from '../catalog/index.ts'
import { adoptAttributes, guardsSeen, readLegacyXattrs } from '../content/index.ts'
import type { LegacyPlace, LegacyTree } from '../legacy/index.ts'
import { newLegacyInode } from '../overlay/index.ts'
import { DT_DIR, DT_UNKNOWN, printable, type RawDirent, type Stat } from '../sys/index.ts'
import { FoundNames } from './found-names.ts'
import { isBornWith, isSameByName, storedByNumber, storedDirectory, whyInDoubt } from './same-file.ts'

// Names looked at in one transaction.
const NAMES_AT_ONCE = 64

const NOTHING_SHOWN = 'SOURCE has a directory there, of which nothing is shown'
const SECOND_PLACE =
  'SOURCE has a directory there that it has in another place as well: nobody looked for what the store has of it'
const MOUNTED =
  'SOURCE alone has names there, on a file system that is mounted below it: some may be former names of files or directories that the store has under others'
const UNPROVEN = 'nobody can tell whether SOURCE has it elsewhere, or another directory of its number'

interface Doubt {
  readonly path: string
  readonly reason: string
}

export interface MergedSource {
  /** Names that SOURCE alone has; what is below one that is a directory is not counted. */
  readonly added: BoundedList<string>
  /** Where SOURCE has a file that the store has under another name alone. */
  readonly former: BoundedList<string>
  /** Where SOURCE may have what the tree should. */
  readonly doubts: BoundedList<Doubt>
}

/**
 * Brings a catalog that was made from the store together with a SOURCE that it has never seen. A directory that both
 * have becomes one, also where it was renamed: what SOURCE alone has in it is met there like any legacy file. Of a file
 * that both have the store's copy is shown, under all names that it has on SOURCE (FoundNames), and SOURCE's is hidden
 * and stays: nobody can tell from what file the copy was made, so nothing may go on the strength of it (P3).
 *
 * A file or directory keeps the number that it had on SOURCE, whatever became of its name, and its time of birth tells
 * it from all others that ever had the number. Only a directory that is not found so is the one of the same name, once
 * all others have been.
 *
 * Before anything is served. It goes over all names of SOURCE, in pieces of one short transaction each. Cut short, it
 * is begun again.
 */
export class SourceMerge {
  readonly #catalog: Catalog
  readonly #legacy: LegacyTree
  readonly #found: FoundNames
  /** Directories to go over. */
  readonly #below: bigint[] = [ROOT_INO]
  /** Where both have a directory, and by their numbers it is not the same. */
  readonly #byName: LegacyPlace[] = []
  /** File systems mounted below SOURCE of which it was told that numbers say nothing there. */
  readonly #told = new Set<bigint>()
  readonly #added = new BoundedList<string>((path) => path.length)
  readonly #former = new BoundedList<string>((path) => path.length)
  readonly #doubts = new BoundedList<Doubt>(({ path, reason }) => path.length + reason.length)

  constructor(catalog: Catalog, legacy: LegacyTree) {
    this.#catalog = catalog
    this.#legacy = legacy
    this.#found = new FoundNames(catalog, legacy, {
      doubt: (place, reason) => this.#doubt(place, reason),
      add: (place) => this.#add(place),
      former: (place) => this.#former.add(printable(this.#pathOf(place))),
    })
  }

  async run(): Promise<MergedSource> {
    await this.#found.clear()
    this.#catalog.transaction(() => {
      this.#dressRoot(this.#legacy.rootStat)
      this.#bind(ROOT_INO, this.#legacy.rootStat)
    })
    for (let ino = this.#next(); ino !== undefined; ino = this.#next()) {
      try {
        await this.#merge(ino)
      } catch (error) {
        if (!(error instanceof FsError)) throw error
        const path = this.#catalog.links.pathOf(ino)
        this.#tell(path, `SOURCE cannot be read there (${reasonOf(error)})`)
      }
      faultPoint('migration.merge.directory')
    }
    await this.#found.settle()
    return { added: this.#added, former: this.#former, doubts: this.#doubts }
  }

  #next(): bigint | undefined {
    for (let ino = this.#below.pop(); ; ino = this.#below.pop()) {
      if (ino !== undefined) return ino
      const place = this.#byName.pop()
      if (!place) return undefined
      this.#catalog.transaction(() => this.#meetByName(place))
    }
  }

  async #merge(parent: bigint): Promise<void> {
    for (const batch of this.#legacy.batches(parent)) {
      for (let from = 0; from < batch.length; from += NAMES_AT_ONCE) {
        const some = batch.slice(from, from + NAMES_AT_ONCE)
        this.#catalog.transaction(() => {
          for (const entry of some) this.#meet({ parent, name: entry.name }, entry)
        })
        await giveWay()
      }
    }
  }

  #meet(place: LegacyPlace, entry: RawDirent): void {
    const { dirents } = this.#catalog
    const dirent = dirents.get(place.parent, place.name)
    if (!dirent) {
      this.#meetAlone(place, entry)
      return
    }
    const inode = dirent.ino === undefined ? undefined : this.#catalog.get(dirent.ino)
    const isKnown = dirent.legacy !== undefined && dirent.legacy !== UNKNOWN_FILE
    // Met before this was cut short, or taken over since.
    if (isKnown) this.#goOn(place, dirent.legacy ?? 0n, inode)
    else if (inode) this.#meetShown(place, inode)
  }

  #goOn(place: LegacyPlace, ino: bigint, shown: Inode | undefined): void {
    const under = this.#catalog.get(ino)
    if (!under || !isDirectory(under.mode)) return
    this.#below.push(ino)
    if (under.authority === 'legacy') this.#add(place)
    const stat = under === shown ? undefined : this.#legacy.find(place)
    if (stat && !isBornWith(under, stat)) this.#tell(this.#catalog.links.pathOf(ino), UNPROVEN)
  }

  /** Where the store has something, too. */
  #meetShown(place: LegacyPlace, shown: Inode): void {
    const catalog = this.#catalog
    const { parent, name } = place
    const stat = this.#legacy.find(place)
    if (!stat) return
    const device = this.#legacy.deviceOf(stat)
    if (isDirectory(stat.mode)) {
      const directory = storedDirectory(catalog, stat, device)
      if (directory) this.#take(place, shown, directory, stat)
      else if (isDirectory(shown.mode)) this.#byName.push(place)
      else this.#hide(place, shown, whyInDoubt(shown, stat))
      return
    }
    const isSame = isSameByName(shown, stat, device)
    if (isSame !== 'no' && stat.nlink > 1)
      catalog.links.unmet.found({ device, legacyIno: stat.ino, parent, name, shown: shown.ino })
    // One that the store has elsewhere has left this name to another.
    const other = isSame === 'yes' ? undefined : storedByNumber(catalog, stat, device)
    this.#hide(place, shown, whyInDoubt(other && isBornWith(other, stat) ? other : shown, stat))
  }

  /** Both have a directory there, and every one that has kept its number has its place. */
  #meetByName(place: LegacyPlace): void {
    const ino = this.#catalog.dirents.get(place.parent, place.name)?.ino
    const shown = ino === undefined ? undefined : this.#catalog.get(ino)
    const stat = this.#legacy.find(place)
    if (!shown || !stat) return
    // A volume that is mounted twice has one directory in two places: it is in one.
    const isElsewhere = this.#catalog.byLegacy(this.#legacy.deviceOf(stat), stat.ino) !== undefined
    if (shown.legacyIno === undefined && !isElsewhere) this.#take(place, shown, shown, stat)
    else this.#hide(place, shown, isElsewhere ? SECOND_PLACE : NOTHING_SHOWN)
  }

  #hide({ parent, name }: LegacyPlace, shown: Inode, reason: string | undefined): void {
    this.#catalog.dirents.set(parent, name, shown.ino, UNKNOWN_FILE)
    if (reason !== undefined) this.#doubt({ parent, name }, reason)
  }

  /** SOURCE has this directory of the store there, perhaps below another name, or none. */
  #take({ parent, name }: LegacyPlace, shown: Inode | undefined, directory: Inode, stat: Stat): void {
    const { ino } = directory
    this.#catalog.dirents.set(parent, name, shown?.ino, ino)
    this.#bind(ino, stat)
    this.#below.push(ino)
    if (shown !== directory && !isBornWith(directory, stat))
      this.#tell(this.#catalog.links.pathOf(ino), UNPROVEN)
  }

  /** Where the store has nothing. */
  #meetAlone(place: LegacyPlace, { ino, type }: RawDirent): void {
    const directory = this.#catalog.get(place.parent)
    const mayBeDirectory = type === DT_DIR || type === DT_UNKNOWN
    if (!directory || lacksNames(directory) || !(mayBeDirectory || this.#mayBeStored(directory, ino))) {
      this.#add(place)
      return
    }
    const stat = this.#legacy.find(place)
    if (!stat) return
    if (isDirectory(stat.mode)) this.#meetDirectoryAlone(place, stat)
    else this.#meetFileAlone(place, stat)
  }

  /** Without a look at it: what a listing says has to do for a SOURCE of any size. */
  #mayBeStored({ legacyDev }: Inode, ino: bigint): boolean {
    const stored = this.#catalog.get(ino)
    return legacyDev !== 0n || (stored !== undefined && !isDirectory(stored.mode))
  }

  #meetFileAlone(place: LegacyPlace, stat: Stat): void {
    const device = this.#legacy.deviceOf(stat)
    const mayBe = device === 0n ? storedByNumber(this.#catalog, stat, device) !== undefined : stat.nlink > 1
    if (mayBe) this.#catalog.links.unmet.found({ ...place, device, legacyIno: stat.ino, shown: undefined })
    else this.#add(place)
  }

  #meetDirectoryAlone(place: LegacyPlace, stat: Stat): void {
    const catalog = this.#catalog
    const device = this.#legacy.deviceOf(stat)
    const directory = storedDirectory(catalog, stat, device)
    const known = device === 0n ? catalog.get(stat.ino) : undefined
    if (directory) {
      this.#take(place, undefined, directory, stat)
    } else if (known && isLost(known)) {
      // Its other name: nothing below it is known to be what it was.
      known.nlink += 1
      catalog.save(known)
      this.#hide(place, known, whyInDoubt(known, stat))
    } else {
      this.#add(place)
      // In another place it has been met there.
      if (catalog.byLegacy(device, stat.ino)) return
      const { ino } = newLegacyInode(catalog, device, stat)
      catalog.dirents.set(place.parent, place.name, ino, ino)
      this.#below.push(ino)
    }
  }

  /** A root whose record is lost has no attributes but SOURCE's. */
  #dressRoot(stat: Stat): void {
    const inode = this.#catalog.get(ROOT_INO)
    if (inode?.ctimeNs !== 0n) return
    adoptAttributes(inode, stat)
    inode.btimeNs = stat.btimeNs
    try {
      inode.xattrs = readLegacyXattrs(this.#legacy, { parent: ROOT_INO, name: Buffer.from('.') })
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      this.#tell(undefined, `its extended attributes on SOURCE cannot be kept (${reasonOf(error)})`)
    }
    this.#catalog.save(inode)
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
    const directory = this.#catalog.get(place.parent)
    // Below one that SOURCE alone has nothing is counted.
    if (directory?.authority !== 'catalog') return
    this.#added.add(printable(this.#pathOf(place)))
    const { ino, legacyDev } = directory
    if (legacyDev === 0n || this.#told.has(legacyDev)) return
    this.#told.add(legacyDev)
    this.#tell(this.#catalog.links.pathOf(ino), MOUNTED)
  }

  #doubt(place: LegacyPlace, reason: string): void {
    this.#tell(this.#pathOf(place), reason)
  }

  #tell(path: Buffer | undefined, reason: string): void {
    const shown = path && path.length > 0 ? printable(path) : '.'
    this.#doubts.add({ path: shown, reason })
  }

  #pathOf({ parent, name }: LegacyPlace): Buffer {
    const above = this.#catalog.links.pathOf(parent)
    return above && above.length > 0 ? Buffer.concat([above, Buffer.from('/'), name]) : name
  }
}
