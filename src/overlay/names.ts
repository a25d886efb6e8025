import { isBornElsewhere, isDirectory, isSameKind } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import {
  type Dirent,
  type Inode,
  isLost,
  isStored,
  lacksNames,
  NAME_MAX,
  ROOT_INO,
} from '../catalog/index.ts'
import { adoptAttributes, legacyStat, requireLegacy, takeOver } from '../content/index.ts'
import type { LegacyPlace, ReadBy } from '../legacy/index.ts'
import { statBelow } from './mounted-below.ts'
import type { RawDirent, Stat } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'
import { mayBeInStoreAlone, requireRemoved } from './in-doubt.ts'
import { Later } from './later.ts'
import { Removal } from './removal.ts'
import { showMoved } from './moved-directories.ts'
import { newLegacyInode } from './new-inode.ts'

// At each new name of a file, whether so many of the others are still there: with all of them the cost would grow with the
// square of their number. What is left goes when somebody looks for it.
const NAMES_LOOKED_AT = 4

// What a request may take of a turn of the event loop (P6).
const TURN_MS = 8
// Names looked at between two looks at the time.
const NAMES_AT_ONCE = 64
// Names of a file whose directories become the catalog's with it.
const NAMES_OWNED = 64
// To take over a directory takes calls on the volume, and counts as so many rows.
const DIRECTORY_ROWS = 16

/** A file by its name, with its attributes as of now. */
export interface Resolved {
  readonly inode: Inode
  /** Present where the legacy file is the authority. */
  readonly stat: Stat | undefined
}

/**
 * What is under which name: the catalog's entries over those of the legacy volume. Every legacy file that is met gets an
 * inode in the catalog before anybody hears of it, so that its number means the same to a successor.
 */
export class Names {
  readonly #context: OverlayContext
  readonly #later: Later
  readonly removal: Removal

  constructor(context: OverlayContext) {
    this.#context = context
    this.#later = new Later(context)
    this.removal = new Removal(context, this.#later)
    context.activity.onOwned = (ino) => this.#ownAbove(ino)
  }

  stop(): void {
    this.#later.stop()
  }

  /** Resolves once what follows from all that was done is done. */
  settled(): Promise<void> {
    return this.#later.idle()
  }

  /** @throws FsError ENOENT */
  resolve(parent: bigint, name: Buffer): Resolved {
    const found = this.find(parent, name)
    if (!found) throw new FsError('ENOENT')
    return found
  }

  /** @throws FsError if the legacy volume cannot say whether there is such a file */
  find(parent: bigint, name: Buffer): Resolved | undefined {
    if (name.length > NAME_MAX) throw new FsError('ENAMETOOLONG')
    const { catalog } = this.#context
    const directory = this.directory(parent)
    const dirent = catalog.dirents.get(parent, name)
    if (directory.orphan) {
      if (dirent) this.removal.droppedWith(directory, dirent)
      return undefined
    }
    // That a name was taken away may be older than what is lost.
    if (dirent?.ino === undefined && lacksNames(directory)) throw new FsError('EIO', directory.failure)
    if (dirent && dirent.ino === undefined) return undefined
    const known = dirent?.ino === undefined ? undefined : catalog.get(dirent.ino)
    if (known && isLost(known)) throw new FsError('EIO', known.failure)
    if (known?.authority === 'catalog') return { inode: known, stat: undefined }
    if (dirent && known && dirent.legacy !== known.ino) return this.#findMoved(known)
    return this.#findOnVolume(directory, name, known)
  }

  /** The directory's inode. @throws FsError ESTALE, ENOTDIR */
  directory(ino: bigint): Inode {
    const inode = this.inode(ino)
    if (!isDirectory(inode.mode)) throw new FsError('ENOTDIR')
    return inode
  }

  /** @throws FsError ESTALE */
  inode(ino: bigint): Inode {
    const inode = this.#context.catalog.get(ino)
    if (!inode) throw new FsError('ESTALE', `inode ${ino} is gone`)
    return inode
  }

  /** Whether the legacy volume has a directory behind this one. */
  hasVolume(directory: Inode): boolean {
    return this.#context.legacy() !== undefined && directory.legacyIno !== undefined
  }

  /** What the volume has in the directory, batch by batch; `undefined` if it has no such directory. @throws FsError */
  listVolume(directory: Inode, by: ReadBy): Iterable<RawDirent[]> | undefined {
    if (!this.hasVolume(directory)) return undefined
    try {
      return requireLegacy(this.#context).batches(directory.ino, by)
    } catch (error) {
      // It went (the reaper removes what is empty; a crash keeps it from saying so): what is left is in the catalog. Thrown,
      // it would do harm: readdir(3) takes ENOENT for the end of the directory, and a full one looks empty.
      const gone = error instanceof FsError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
      if (gone && directory.authority === 'catalog') return undefined
      throw error
    }
  }

  /** The inode of a legacy file met under a name; made if it is new. */
  adopt(parent: bigint, name: Buffer, stat: Stat): Inode {
    const { catalog } = this.#context
    return catalog.transaction(() => {
      const device = requireLegacy(this.#context).deviceOf(stat)
      const known = this.#sameFile(catalog.byLegacy(device, stat.ino), stat)
      const dirent = catalog.dirents.get(parent, name)
      if (known && dirent?.ino === known.ino && dirent.legacy === known.ino) return known
      const inode = known ?? newLegacyInode(catalog, device, stat)
      if (inode.orphan) {
        inode.orphan = false
        catalog.save(inode)
        // Without a name nothing was owed of it.
        if (inode.dirty !== 0 && !isDirectory(inode.mode)) catalog.outbox.add('upload', inode.ino)
      }
      if (dirent?.ino !== undefined && dirent.ino !== inode.ino) this.removal.unlinked(dirent)
      catalog.dirents.set(parent, name, inode.ino, inode.ino)
      if (known) this.#dropNamesLeft(known)
      return inode
    })
  }

  /** The file was not found where it was: names that are gone are taken from it. */
  lookAgain(ino: bigint): void {
    if (!mayBeInStoreAlone(this.#context, { ino })) this.#lookAt(ino, this.#context.catalog.links.of(ino))
  }

  #lookAt(ino: bigint, links: Iterator<Dirent>): void {
    while (this.#later.hasRoom(1)) {
      const { value: link, done } = links.next()
      if (done) return
      this.find(link.parent, link.name)
    }
    this.#later.add(`the look at the names of inode ${ino}`, () => this.#lookAt(ino, links))
  }

  /**
   * Looks for names in a directory that is to go: now, if a turn of the event loop has room for it, else in turns of its own.
   * Afterwards the catalog has what there was: nothing is shown there unless it came meanwhile.
   * @throws FsError ENOTEMPTY, EIO where nobody knows
   */
  requireEmpty(directory: Inode): Promise<void> | undefined {
    if (lacksNames(directory)) throw new FsError('EIO', directory.failure)
    const steps = this.#lookForNames(directory.ino)
    const until = performance.now() + TURN_MS
    while (performance.now() < until) if (steps.next().done) return undefined
    return finish(steps)
  }

  *#lookForNames(ino: bigint): Generator<void> {
    const { catalog } = this.#context
    for (const shown of catalog.dirents.shown(ino)) {
      if (this.find(ino, shown.name)) throw new FsError('ENOTEMPTY')
      yield
    }
    for (const batch of this.listVolume(this.directory(ino), 'ferryfs') ?? []) {
      for (const [nth, { name }] of batch.entries()) {
        if (!catalog.dirents.get(ino, name) && this.find(ino, name)) throw new FsError('ENOTEMPTY')
        if (nth % NAMES_AT_ONCE === 0) yield
      }
    }
  }

  #findOnVolume(directory: Inode, name: Buffer, known: Inode | undefined): Resolved | undefined {
    const { catalog } = this.#context
    if (!this.hasVolume(directory)) return undefined
    let stat: Stat | undefined
    try {
      stat = statBelow(this.#context, { parent: directory.ino, name }, known, this.#isFile)
    } catch (error) {
      if (known && servesWithoutVolume(this.#context, known, error)) return { inode: known, stat: undefined }
      throw error
    }
    if (stat) {
      // Most look-ups meet what they met before: no transaction for those.
      const same = known !== undefined && !known.orphan && this.#isFile(known, stat)
      if (!same && !this.#isShownAt({ parent: directory.ino, name }, stat)) return undefined
      const inode = same ? known : this.adopt(directory.ino, name, stat)
      // Another name of a file that was taken over: what the volume says of it is out of date.
      if (inode.authority === 'catalog') return { inode, stat: undefined }
      adoptAttributes(inode, stat)
      return { inode, stat }
    }
    if (known) {
      requireRemoved(this.#context, known)
      this.#context.log.info({ ino: known.ino.toString() }, 'a file was removed past the overlay')
      catalog.transaction(() => {
        const dirent = catalog.dirents.get(directory.ino, name)
        if (dirent) this.removal.unlinked(dirent)
      })
    }
    return undefined
  }

  /**
   * The directories on the way to what the catalog has of its own are its own as well: one that is moved or removed on SOURCE, past the
   * overlay, must not take with it what nobody there can see. Those that this turn has no room for have turns of their own.
   */
  #ownAbove(ino: bigint): void {
    const { catalog } = this.#context
    for (const { parent } of catalog.links.of(ino).take(NAMES_OWNED)) {
      // The root does not move.
      if (parent === ROOT_INO || catalog.get(parent)?.authority !== 'legacy') continue
      if (!this.#later.hasRoom(DIRECTORY_ROWS)) {
        this.#later.add(`the way to inode ${ino}`, () => this.#ownAbove(ino))
        return
      }
      try {
        takeOver(this.#context, parent)
      } catch (error) {
        // What is wrong with it is told to whoever changes it.
        if (!(error instanceof FsError)) throw error
      }
    }
  }

  /** Whether what the volume has there is shown there: a directory of the catalog's has one name. */
  #isShownAt(place: LegacyPlace, stat: Stat): boolean {
    if (!isDirectory(stat.mode)) return true
    const { catalog } = this.#context
    const legacy = requireLegacy(this.#context)
    const known = catalog.byLegacy(legacy.deviceOf(stat), stat.ino)
    if (known?.authority !== 'catalog' || known.orphan || !this.#isFile(known, stat)) return true
    return catalog.transaction(() => {
      const dirent = catalog.dirents.get(place.parent, place.name)
      if (dirent?.ino !== undefined && dirent.ino !== known.ino) this.removal.unlinked(dirent)
      const isShown = showMoved(catalog, known, place, (at) => legacy.findAsKnown(at))
      if (isShown) this.#ownAbove(known.ino)
      return isShown
    })
  }

  /** A legacy file that the overlay shows in another place than the volume has it. */
  #findMoved(inode: Inode): Resolved {
    const stat = legacyStat(this.#context, inode)
    adoptAttributes(inode, stat)
    return { inode, stat }
  }

  /** A file met under a new name may have been moved there past the overlay: names that it no longer has are taken from it. */
  #dropNamesLeft(inode: Inode): void {
    if (inode.authority === 'catalog') return
    const legacy = requireLegacy(this.#context)
    const links = this.#context.catalog.links.of(inode.ino).filter((link) => link.legacy === inode.ino)
    for (const link of links.take(NAMES_LOOKED_AT)) {
      const stat = legacy.find(link)
      // A directory has one name only: the disk was mounted elsewhere.
      const isAway = !isDirectory(inode.mode) && legacy.isMissing(inode, link)
      if (!isAway && !(stat && this.#isFile(inode, stat))) this.removal.unlinked(link)
    }
  }

  /** The known inode if it really is this file; one whose number was given to another file is let go. */
  #sameFile(known: Inode | undefined, stat: Stat): Inode | undefined {
    if (!known) return undefined
    // A file that lost its last name by an unlink does not come back; its number can.
    const revived = known.orphan && known.nlink === 0
    if (this.#isFile(known, stat) && !revived) return known
    this.#letGo(known)
    return undefined
  }

  /** Its number on the volume is another file's now. */
  #letGo(known: Inode): void {
    const { catalog } = this.#context
    known.legacyIno = undefined
    catalog.save(known)
    this.#takeNames(known.ino, catalog.links.of(known.ino))
  }

  /** The inode of a file that was just made on the volume without a name. In a transaction. */
  adoptNameless(stat: Stat): Inode {
    const { catalog } = this.#context
    const device = requireLegacy(this.#context).deviceOf(stat)
    const known = catalog.byLegacy(device, stat.ino)
    if (known) this.#letGo(known)
    const inode = newLegacyInode(catalog, device, stat)
    inode.orphan = true
    catalog.save(inode)
    return inode
  }

  /** The volume does not have the file any more, whatever name it is. */
  #takeNames(ino: bigint, links: Iterator<Dirent>): void {
    const { catalog } = this.#context
    const known = catalog.get(ino)
    while (known && this.#later.hasRoom(1)) {
      const { value: link, done } = links.next()
      if (done) return
      // It may have become another's since.
      if (catalog.dirents.get(link.parent, link.name)?.ino !== ino) continue
      if (known.authority === 'legacy') {
        if (!mayBeInStoreAlone(this.#context, known)) this.removal.unlinked(link)
      } else catalog.dirents.set(link.parent, link.name, link.ino, undefined)
    }
    if (known) this.#later.add(`the names of inode ${ino}`, () => this.#takeNames(ino, links))
  }

  /** Whether this is the inode's legacy file, by all that identifies a file. */
  readonly #isFile = (inode: Inode, stat: Stat): boolean => {
    const sameNumber =
      inode.legacyIno === stat.ino && inode.legacyDev === requireLegacy(this.#context).deviceOf(stat)
    return sameNumber && isSameKind(inode.mode, stat.mode) && !isBornElsewhere(inode, stat)
  }
}

async function finish(steps: Generator<void>): Promise<void> {
  for (const _ of steps) await giveWay()
}

/** With a failing volume a file that is in the store goes on from there, where the policy reads there anyway. */
export function servesWithoutVolume({ policy }: OverlayContext, inode: Inode, error: unknown): boolean {
  const fails = error instanceof FsError && error.code === 'EIO'
  return fails && policy().readFrom === 'store' && (isStored(inode) || isDirectory(inode.mode))
}

/** Its last name went past the overlay, so it may be under another one; what is removed through it has no link left. */
export const hasGonePast = ({ authority, orphan, nlink }: Inode): boolean =>
  authority === 'legacy' && orphan && nlink > 0
