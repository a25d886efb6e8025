import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import {
  type Catalog,
  DIRTY_METADATA,
  type Dirent,
  type FoundName,
  type Inode,
  isLost,
  NAMES_COUNTED,
  UNKNOWN_FILE,
} from '../catalog/index.ts'
import type { LegacyPlace, LegacyTree } from '../legacy/index.ts'
import { isBornWith, storedByNumber, whyInDoubt } from './same-file.ts'

const UNPROVEN =
  'nobody can tell whether SOURCE has there the file that is shown, or another one of its number'
const AMBIGUOUS =
  'of the names that SOURCE has of the file some are such as it has lost, and nobody can tell which'

interface Told {
  doubt(place: LegacyPlace, reason: string): void
  /** SOURCE has a file there that the store does not have. */
  add(place: LegacyPlace): void
  /** SOURCE has a file there that has left that name since. */
  former(place: LegacyPlace): void
}

/** What the store says of the names of a file, as `Unmet` has it. */
interface Known {
  readonly links: number
  readonly most: number
  readonly isLeft: boolean
}

/**
 * Names on SOURCE of files that the store has under other names. By the number of its names, which the store knows,
 * such a file has them all, has left them all, or nobody can tell which: then it has them, and they are listed. No such
 * name ever leads to what SOURCE has there, which may be older than what the store has (P1); that stays (P3).
 */
export class FoundNames {
  readonly #catalog: Catalog
  readonly #legacy: LegacyTree
  readonly #told: Told

  constructor(catalog: Catalog, legacy: LegacyTree, told: Told) {
    this.#catalog = catalog
    this.#legacy = legacy
    this.#told = told
  }

  /** Forgets the names that an attempt found that was cut short. */
  async clear(): Promise<void> {
    const { unmet } = this.#catalog.links
    while (this.#catalog.transaction(() => unmet.clearFound())) await giveWay()
  }

  /**
   * Once all names are found. Each file in one transaction: cut short within it, what is left of its names would be
   * counted anew.
   */
  async settle(): Promise<void> {
    const { unmet } = this.#catalog.links
    for (;;) {
      const [first, ...others] = unmet.nextFound()
      if (!first) break
      this.#catalog.transaction(() => {
        this.#settle(first, [first, ...others])
        unmet.settled(first)
      })
      faultPoint('migration.merge.names')
      await giveWay()
    }
    await this.#tell()
  }

  #settle(first: FoundName, names: readonly FoundName[]): void {
    const { links } = this.#catalog
    const found = names.filter(({ shown }) => shown === undefined)
    const stat = this.#legacy.find(found[0] ?? first)
    if (!stat) return
    const known = names.find(({ shown }) => shown !== undefined)?.shown
    const file =
      known === undefined ? storedByNumber(this.#catalog, stat, first.device) : this.#catalog.get(known)
    if (!file) {
      for (const place of found) this.#told.add(place)
      return
    }
    const isProven =
      first.device === 0n && file.ino === stat.ino && (known !== undefined || isBornWith(file, stat))
    const reason = isProven ? whyInDoubt(file, stat) : (whyInDoubt(file, stat) ?? UNPROVEN)
    const of = this.#knownOf(file)
    const { left, own } = this.#share(file, of, found, reason === undefined)
    for (const place of left) this.#hide(place)
    if (own.length === 0) return
    const isAmbiguous = own.length > of.links - namesOf(file, of)
    if (!isProven || (isAmbiguous && reason === undefined))
      links.unmet.note({ ...of, ino: file.ino, isLeft: false, doubt: isProven ? AMBIGUOUS : UNPROVEN })
    else links.unmet.drop(file.ino)
    this.#link(file, own, of)
    if (isProven && reason !== undefined) for (const place of own) this.#told.doubt(place, reason)
  }

  /** Names that it has left, by its records or because it has no more than the store knows, and such as it may have. */
  #share(
    file: Inode,
    of: Known,
    found: readonly FoundName[],
    isCertain: boolean,
  ): { readonly left: readonly FoundName[]; readonly own: readonly FoundName[] } {
    if (isCertain && of.most <= namesOf(file, of)) return { left: found, own: [] }
    const departures = this.#catalog.departures.placesOf(file)
    const hasLeft = ({ parent, name }: FoundName): boolean =>
      isCertain && departures.some((one) => one.directory.ino === parent && one.name.equals(name))
    return { left: found.filter(hasLeft), own: found.filter((name) => !hasLeft(name)) }
  }

  /** An earlier ferryfs did not count names: then the file may have any number. */
  #knownOf(file: Inode): Known {
    const known = this.#catalog.links.unmet.of(file.ino)
    if (known) return known
    const isCounted = this.#catalog.meta.get(NAMES_COUNTED) === 'yes'
    return { links: file.nlink, most: isCounted ? file.nlink : Number.MAX_SAFE_INTEGER, isLeft: false }
  }

  #hide(place: LegacyPlace): void {
    this.#catalog.dirents.set(place.parent, place.name, undefined, UNKNOWN_FILE)
    this.#told.former(place)
  }

  /** `isLeft`: in the place of the names by which the store led to it. */
  #link(file: Inode, places: readonly LegacyPlace[], { isLeft }: Known): void {
    const catalog = this.#catalog
    const before: Dirent[] = isLeft ? [...catalog.links.of(file.ino)] : []
    for (const { parent, name } of places) catalog.dirents.set(parent, name, file.ino, UNKNOWN_FILE)
    for (const { parent, name, legacy } of before) catalog.dirents.set(parent, name, undefined, legacy)
    file.nlink += places.length - before.length
    if (!isLost(file)) {
      file.dirty |= DIRTY_METADATA
      catalog.outbox.add('upload', file.ino)
    }
    catalog.save(file)
  }

  /** Doubts about names that are settled, perhaps before this was cut short. */
  async #tell(): Promise<void> {
    const { links } = this.#catalog
    for (let after: bigint | undefined; ; ) {
      const some = links.unmet.doubtful(after)
      for (const ino of some) {
        const doubt = links.unmet.of(ino)?.doubt ?? UNPROVEN
        for (const link of links.of(ino)) if (link.legacy === UNKNOWN_FILE) this.#told.doubt(link, doubt)
      }
      after = some.at(-1)
      if (after === undefined) return
      await giveWay()
    }
  }
}

/** Names by which the store leads to the file, and which it has not left. */
const namesOf = (file: Inode, { isLeft }: Known): number => (isLeft ? 0 : file.nlink)
