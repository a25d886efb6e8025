import { isDirectory, isRegular, isSymlink } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { pagesOf } from '../base/pages.ts'
import { within } from '../base/turns.ts'
import { type Inode, isChunked } from '../catalog/index.ts'
import {
  ctimeStays,
  type DirectoryWriter,
  expectMovingCtime,
  giveBack,
  keptByFlags,
  matches,
  namesRemoved,
  type StoredContent,
  takeOver,
} from '../content/index.ts'
import { type LegacyPlace, OpenWriters } from '../legacy/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { StoreError } from '../store/errors.ts'
import { AT_REMOVEDIR, type Stat, unlinkAt } from '../sys/index.ts'
import { EmptyDirectories } from './empty-directories.ts'
import { isInUse } from './in-use.ts'
import { CHANGED_ON_BOTH_SIDES } from './both-sides.ts'
import { isClaimed } from './lease.ts'
import { firstPlace, type Found, placesThere } from './legacy-places.ts'
import { writeAgain } from './lost.ts'
import { compareObject, storedChunks } from './verify.ts'
import { VolumeSync } from './volume-sync.ts'

const BATCH = 200
const TOGETHER = 16
// Names of a file that go in one turn of the event loop.
const NAMES_AT_ONCE = 64

interface Parts {
  readonly directories: DirectoryWriter
  readonly stored: StoredContent
  /** Others are told what is about to be; a file stays if that fails. */
  readonly beforeRemoval?: () => Promise<void> | undefined
}

/**
 * Removes legacy copies by promise P3: the object was written durably and its directories' records too; it is read back
 * and verified; the catalog is flushed; the legacy file is still the one that was copied. Only then it goes.
 */
export class Reaper {
  readonly #context: OverlayContext
  readonly #directories: DirectoryWriter
  readonly #stored: StoredContent
  readonly #volume: VolumeSync
  readonly #emptyDirectories: EmptyDirectories
  readonly #beforeRemoval: () => Promise<void> | undefined
  /** Not looked at: this worker and its supervisor. */
  readonly #users = new OpenWriters(new Set([process.pid, process.ppid]))
  #running: Promise<void> | undefined

  constructor(context: OverlayContext, parts: Parts) {
    this.#context = context
    this.#beforeRemoval = parts.beforeRemoval ?? (() => undefined)
    this.#directories = parts.directories
    this.#stored = parts.stored
    this.#volume = new VolumeSync(context)
    this.#emptyDirectories = new EmptyDirectories(context, parts.directories, this.#volume)
  }

  /** Goes over everything that could be removed, once. Ends early when `goOn` says no. */
  sweep(goOn: () => Promise<boolean>): Promise<void> {
    this.#running ??= within('the removal of legacy copies', () => this.#sweep(goOn)).finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #sweep(goOn: () => Promise<boolean>): Promise<void> {
    const { catalog } = this.#context
    if (catalog.doubts.any || !isClaimed(catalog)) return
    await catalog.ready()
    await this.#removeDeleted()
    for (let after: bigint | undefined; ; ) {
      const batch = catalog.lists.drainable(after, BATCH)
      // Some at once: they share the flush of the catalog.
      for (let from = 0; from < batch.length; from += TOGETHER) {
        if (!this.#context.policy().removesLegacy || !(await goOn())) return
        await Promise.all(batch.slice(from, from + TOGETHER).map((ino) => this.#tryToReap(ino)))
      }
      after = batch[batch.length - 1]
      if (batch.length < BATCH) break
    }
    await this.#emptyDirectories.remove()
  }

  async #tryToReap(ino: bigint): Promise<void> {
    const { carrier, log } = this.#context
    try {
      await carrier.whenUp()
      await this.#reap(ino)
    } catch (error) {
      if (carrier.fenced || carrier.stopped) return
      await this.#context.catalog.ready()
      if (!(error instanceof StoreError || error instanceof FsError)) throw error
      if (!carrier.noteFailure(error)) carrier.recordFailure(ino, error)
      await writeAgain(this.#context, ino, error)
      log.warn({ err: error, ino: ino.toString() }, 'the legacy copy stays')
    }
  }

  async #reap(ino: bigint): Promise<void> {
    const { catalog, writer } = this.#context
    const seen = catalog.get(ino)
    if (seen?.staged && seen.dirty === 0) await writer.tidy(ino)
    const before = catalog.get(ino)
    if (!before || !isReady(before) || !(await this.#isRecorded(ino))) return
    const { version, fingerprint, superseded } = before
    const { first, names } = await this.#count(ino)
    // Names of the file that were not met yet would be left without it.
    if (first && first.stat.nlink > names) return
    if (!(await this.#isStillTheCopy(before, first))) return
    const kept = await keptByFlags(this.#context, before)
    if (kept !== undefined) throw new FsError('EPERM', kept)
    if (await isInUse(this.#context, this.#users, before, first)) return
    await this.#verify(before)
    await catalog.ready()
    faultPoint('migration.reap.verified')
    // Its names go one after the other, and each that goes moves the ctime that tells whether it is still the copy.
    const moves = names > 1 && (fingerprint ?? superseded) !== undefined
    if (moves) expectMovingCtime(this.#context, ino)
    // What goes from a directory moves its times on the volume; applications are to see those that it had.
    for (const parents of this.#pagesOfParents(ino)) {
      for (const parent of parents) takeOver(this.#context, parent)
      await giveWay()
    }
    await this.#beforeRemoval()
    await catalog.flush()
    faultPoint('migration.reap.flushed')
    // Others have waited for the same flush.
    await giveWay()
    const inode = catalog.get(ino)
    const now = inode && firstPlace(this.#context, inode)
    const asBefore = inode?.version === version && isReady(inode) && (now?.stat.nlink ?? 0) <= names
    if (!asBefore || !(await this.#isStillTheCopy({ ...inode, fingerprint, superseded }, now))) {
      if (moves) ctimeStays(this.#context, ino, { fingerprint, superseded })
      return
    }
    await this.#removeNames(ino, version)
  }

  /**
   * Page by page: within the tick of the last look at a page, its names go. Meanwhile the file may be changed through the overlay,
   * which needs the copy no more, or past it, which the next page sees. That names are gone is noted once the volume's disk has it.
   */
  async #removeNames(ino: bigint, version: number): Promise<void> {
    const { catalog, legacyFiles } = this.#context
    const parents = new Set<bigint>()
    try {
      for (const page of pagesOf(catalog.links.places(ino), NAMES_AT_ONCE)) {
        for (const { parent } of page) parents.add(parent)
        await legacyFiles.letWritersGo(ino)
        if (!this.#removePage(ino, version, page)) break
        await giveWay()
      }
    } finally {
      legacyFiles.forget(ino)
      await this.#volume.directories(parents)
      faultPoint('migration.reap.synced')
      await this.#namesRemoved(ino)
    }
    // Names that are gone are no names of it on the volume any more: where it was changed there meanwhile, it can be given back.
    const inode = catalog.get(ino)
    if (inode && isReady(inode)) await this.#isStillTheCopy(inode, firstPlace(this.#context, inode))
  }

  /** False if the file is not any more what was verified. */
  #removePage(ino: bigint, version: number, page: readonly LegacyPlace[]): boolean {
    const legacy = this.#context.legacy()
    const inode = this.#context.catalog.get(ino)
    if (!legacy || inode?.version !== version || !isReady(inode)) return false
    const places = placesThere(
      this.#context,
      inode,
      page.filter((place) => this.#isNamed(ino, place)),
    )
    const remove = (): boolean => {
      if (!this.#isTheCopy(inode, places[0])) return false
      for (const { place } of places) {
        unlinkAt(legacy.directory(place.parent), place.name)
        faultPoint('migration.reap.removed')
      }
      return true
    }
    if (!places[0] || !isRegular(places[0].stat.mode)) return remove()
    return this.#context.legacyFiles.underLease(ino, (writers) => writers !== 'some' && remove())
  }

  /** As the catalog knows it now, the volume has the file there. */
  #isNamed(ino: bigint, place: LegacyPlace): boolean {
    return this.#context.catalog.dirents.get(place.parent, place.name)?.legacy === ino
  }

  async #namesRemoved(ino: bigint): Promise<void> {
    for (const _ of namesRemoved(this.#context, ino)) await giveWay()
  }

  /** All names of the file are in records that are durable. */
  async #isRecorded(ino: bigint): Promise<boolean> {
    const { catalog } = this.#context
    if (catalog.outbox.find('names', ino)) return false
    for (const page of pagesOf(catalog.links.of(ino), NAMES_AT_ONCE)) {
      const parents = new Set(page.map(({ parent }) => parent))
      if (![...parents].every((parent) => this.#directories.isDurable(parent))) return false
      await giveWay()
    }
    return true
  }

  /** How many of its names the volume has. */
  async #count(ino: bigint): Promise<{ first: Found | undefined; names: number }> {
    let first: Found | undefined
    let names = 0
    for (const page of pagesOf(this.#context.catalog.links.places(ino), NAMES_AT_ONCE)) {
      const inode = this.#context.catalog.get(ino)
      const found = inode ? placesThere(this.#context, inode, page) : []
      first ??= found[0]
      names += found.length
      await giveWay()
    }
    return { first, names }
  }

  *#pagesOfParents(ino: bigint): Generator<Set<bigint>> {
    const known = new Set<bigint>()
    for (const page of pagesOf(this.#context.catalog.links.places(ino), NAMES_AT_ONCE)) {
      const parents = new Set(page.map(({ parent }) => parent))
      for (const parent of known) parents.delete(parent)
      yield parents
      for (const parent of parents) known.add(parent)
    }
  }

  /** The legacy file is what was copied, or what the overlay's users have replaced since. */
  #isTheCopy(inode: Inode, found: Found | undefined): boolean {
    if (!found) return true
    const { stat, place } = found
    if (isSymlink(stat.mode)) {
      const target = this.#context.legacy()?.target(place)
      return target !== undefined && inode.target?.equals(target) === true
    }
    const seen = inode.fingerprint ?? inode.superseded
    return !isRegular(stat.mode) || seen === undefined || matches(seen, stat)
  }

  /**
   * The same; one that was changed past the overlay is given back.
   * @throws FsError where the file was changed on both sides: the overlay shows its own version, and the other one stays
   */
  async #isStillTheCopy(inode: Inode, found: Found | undefined): Promise<boolean> {
    if (this.#isTheCopy(inode, found)) return true
    if (!found || isSymlink(found.stat.mode)) return false
    // Names that we removed from the volume, perhaps before a crash, are names of the file all the same.
    await this.#namesRemoved(inode.ino)
    if (inode.superseded) throw new FsError('EBUSY', CHANGED_ON_BOTH_SIDES)
    this.#context.log.warn(
      { ino: inode.ino.toString() },
      'the legacy file was changed past the overlay before it was removed; it is newer and wins',
    )
    giveBack(this.#context, inode.ino)
    return false
  }

  /** Reads the object back, all of it, past every cache. @throws StoreError */
  async #verify(inode: Inode): Promise<void> {
    const { version } = inode
    await compareObject(this.#context, inode)
    if (!isChunked(inode) || !isRegular(inode.mode)) return
    for (const index of storedChunks(this.#context.catalog, inode)) {
      await giveWay()
      // Written again meanwhile, and perhaps shorter: this copy does not go.
      if (inode.version !== version) return
      await this.#stored.readBack(inode, index)
    }
  }

  /** Legacy files whose deletion through the overlay a crash kept from being carried out. */
  async #removeDeleted(): Promise<void> {
    const { catalog, log } = this.#context
    const legacy = this.#context.legacy()
    if (!legacy || !this.#context.policy().removesLegacy) return
    const whiteouts = catalog.dirents.whiteouts(10_000)
    if (whiteouts.length === 0) return
    await this.#expectFewerNames(whiteouts)
    // The last flushed catalog may still show the file under the name.
    await catalog.flush()
    const removed: Array<{ whiteout: LegacyPlace; stat: Stat | undefined }> = []
    for (const whiteout of whiteouts) {
      const now = catalog.dirents.get(whiteout.parent, whiteout.name)
      if (now?.legacy !== 0n || !this.#context.policy().removesLegacy) continue
      try {
        const stat = legacy.find(whiteout)
        if (stat) {
          const flags = isDirectory(stat.mode) ? AT_REMOVEDIR : 0
          unlinkAt(legacy.directory(whiteout.parent), whiteout.name, flags)
        }
        faultPoint('migration.reap.whiteout-removed')
        removed.push({ whiteout, stat })
        await giveWay()
      } catch (error) {
        if (!(error instanceof FsError)) throw error
        log.warn({ err: error }, 'a deleted file cannot be removed from the legacy volume yet')
      }
    }
    try {
      // Before that, a name that comes back with the power has to be hidden.
      await this.#volume.directories(removed.map(({ whiteout }) => whiteout.parent))
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      log.warn({ err: error }, 'that deleted files are gone from the legacy volume is noted later')
      return
    }
    const others = new Set<bigint>()
    for (const { whiteout, stat } of removed) {
      const other = this.#forgetWhiteout(whiteout) && stat ? this.#otherNames(stat) : undefined
      if (other) others.add(other.ino)
      await giveWay()
    }
    for (const ino of others) await this.#namesRemoved(ino)
  }

  #forgetWhiteout(whiteout: LegacyPlace): boolean {
    const { catalog } = this.#context
    const now = catalog.dirents.get(whiteout.parent, whiteout.name)
    // What somebody put there meanwhile, past the overlay, is hidden as before.
    if (now?.legacy !== 0n || this.#context.legacy()?.find(whiteout)) return false
    catalog.transaction(() => catalog.dirents.set(whiteout.parent, whiteout.name, now.ino, undefined))
    return true
  }

  /** A file that is about to lose one of its names is the one that was copied afterwards as well. To be flushed. */
  async #expectFewerNames(whiteouts: readonly LegacyPlace[]): Promise<void> {
    const moving = new Set<bigint>()
    for (const whiteout of whiteouts) {
      await giveWay()
      try {
        const stat = this.#context.legacy()?.find(whiteout)
        const other = stat && this.#otherNames(stat)
        if (other && matches(other.fingerprint ?? other.superseded, stat)) moving.add(other.ino)
      } catch (error) {
        // Met again, and told, where the name is to be removed.
        if (!(error instanceof FsError)) throw error
      }
    }
    for (const ino of moving) expectMovingCtime(this.#context, ino)
  }

  /** The file that has this one's other names, if it has any. */
  #otherNames(stat: Stat): Inode | undefined {
    if (stat.nlink < 2 || isDirectory(stat.mode)) return undefined
    return this.#context.catalog.byLegacy(this.#context.legacy()?.deviceOf(stat) ?? 0n, stat.ino)
  }
}

function isReady(inode: Inode): boolean {
  const clean =
    inode.authority === 'catalog' && inode.version > 0 && inode.dirty === 0 && !inode.staged && !inode.orphan
  const rebased = !isRegular(inode.mode) || inode.base === 'store'
  return clean && rebased && !isDirectory(inode.mode) && inode.legacyIno !== undefined
}
