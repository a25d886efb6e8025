import { isDirectory, isRegular, isSymlink } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { within } from '../base/turns.ts'
import { type Inode, isChunked, ROOT_INO } from '../catalog/index.ts'
import {
  ctimeStays,
  type DirectoryWriter,
  expectMovingCtime,
  giveBack,
  matches,
  namesRemoved,
  type StoredContent,
  takeOver,
} from '../content/index.ts'
import type { LegacyPlace } from '../legacy/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { StoreError } from '../store/errors.ts'
import { AT_REMOVEDIR, readlinkAt, type Stat, unlinkAt } from '../sys/index.ts'
import { writeAgain } from './lost.ts'
import { compareObject, storedChunks } from './verify.ts'
import { VolumeSync } from './volume-sync.ts'

const BATCH = 200
const TOGETHER = 16

/**
 * Removes legacy copies by promise P3: the object was written durably and its directories' records too; it is read back
 * and verified; the catalog is flushed; the legacy file is still the one that was copied. Only then it goes.
 */
export class Reaper {
  readonly #context: OverlayContext
  readonly #directories: DirectoryWriter
  readonly #stored: StoredContent
  readonly #volume: VolumeSync
  #running: Promise<void> | undefined

  constructor(context: OverlayContext, parts: { directories: DirectoryWriter; stored: StoredContent }) {
    this.#context = context
    this.#directories = parts.directories
    this.#stored = parts.stored
    this.#volume = new VolumeSync(context)
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
    if (catalog.doubts.any) return
    await this.#removeDeleted()
    for (let after: bigint | undefined; ; ) {
      const batch = catalog.drainable(after, BATCH)
      // Some at once: they share the flush of the catalog.
      for (let from = 0; from < batch.length; from += TOGETHER) {
        if (!this.#context.policy().removesLegacy || !(await goOn())) return
        await Promise.all(batch.slice(from, from + TOGETHER).map((ino) => this.#tryToReap(ino)))
      }
      after = batch[batch.length - 1]
      if (batch.length < BATCH) break
    }
    await this.#removeEmptyDirectories()
  }

  async #tryToReap(ino: bigint): Promise<void> {
    const { carrier, log } = this.#context
    try {
      await carrier.whenUp()
      await this.#reap(ino)
    } catch (error) {
      if (carrier.fenced || carrier.stopped) return
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
    if (!before || !this.#isReady(before)) return
    const { version, fingerprint } = before
    const found = this.#places(before)
    // Names of the file that were not met yet would be left without it.
    const first = found[0]
    if (first && first.stat.nlink > found.length) return
    if (!this.#isStillTheCopy(before, first)) return
    await this.#verify(before)
    faultPoint('migration.reap.verified')
    // Its names go one after the other, and each that goes moves the ctime that tells whether it is still the copy.
    const moves = found.length > 1 && fingerprint !== undefined
    if (moves) expectMovingCtime(this.#context, ino)
    // What goes from a directory moves its times on the volume; applications are to see those that it had.
    for (const { place } of found) takeOver(this.#context, place.parent)
    await catalog.flush()
    faultPoint('migration.reap.flushed')
    const inode = catalog.get(ino)
    const places = inode ? this.#places(inode) : []
    const ready = inode?.version === version && this.#isReady(inode)
    if (
      !ready ||
      !this.#isStillTheCopy({ ...inode, fingerprint }, places[0]) ||
      places.length !== found.length
    ) {
      if (moves) ctimeStays(this.#context, ino, fingerprint)
      return
    }
    await this.#removeNames(ino, places)
  }

  /** Within the tick of the last look at them. That they are gone is noted once the volume's disk has it. */
  async #removeNames(ino: bigint, places: ReadonlyArray<{ place: LegacyPlace }>): Promise<void> {
    const legacy = this.#context.legacy()
    if (!legacy) return
    const known = this.#context.catalog.legacyPlaces(ino).map(({ parent }) => parent)
    try {
      for (const { place } of places) {
        unlinkAt(legacy.directory(place.parent), place.name)
        faultPoint('migration.reap.removed')
      }
    } finally {
      this.#context.legacyFiles.forget(ino)
      await this.#volume.directories(known)
      faultPoint('migration.reap.synced')
      namesRemoved(this.#context, ino)
    }
  }

  #isReady(inode: Inode): boolean {
    const { catalog } = this.#context
    const clean =
      inode.authority === 'catalog' &&
      inode.version > 0 &&
      inode.dirty === 0 &&
      !inode.staged &&
      !inode.orphan
    const rebased = !isRegular(inode.mode) || inode.base === 'store'
    if (!clean || !rebased || isDirectory(inode.mode) || inode.legacyIno === undefined) return false
    return catalog.linksOf(inode.ino).every((link) => this.#directories.isDurable(link.parent))
  }

  #places(inode: Inode): Array<{ place: LegacyPlace; stat: Stat }> {
    const legacy = this.#context.legacy()
    if (!legacy) return []
    const found: Array<{ place: LegacyPlace; stat: Stat }> = []
    for (const place of this.#context.catalog.legacyPlaces(inode.ino)) {
      const stat = legacy.find(place)
      if (stat && stat.ino === inode.legacyIno) found.push({ place, stat })
    }
    return found
  }

  /** The legacy file is what was copied, or what the overlay's users have replaced since. */
  #isStillTheCopy(inode: Inode, found: { place: LegacyPlace; stat: Stat } | undefined): boolean {
    if (!found) return true
    const { stat, place } = found
    if (isSymlink(stat.mode)) {
      const directory = this.#context.legacy()?.directory(place.parent)
      return directory !== undefined && inode.target?.equals(readlinkAt(directory, place.name)) === true
    }
    if (!isRegular(stat.mode) || inode.fingerprint === undefined || matches(inode.fingerprint, stat))
      return true
    this.#context.log.warn(
      { ino: inode.ino.toString() },
      'the legacy file was changed past the overlay before it was removed; it is newer and wins',
    )
    giveBack(this.#context, inode.ino)
    return false
  }

  /** Reads the object back, all of it, past every cache. @throws StoreError */
  async #verify(inode: Inode): Promise<void> {
    await compareObject(this.#context, inode)
    if (!isChunked(inode) || !isRegular(inode.mode)) return
    for (const index of storedChunks(this.#context.catalog, inode)) {
      await giveWay()
      await this.#stored.readBack(inode, index)
    }
  }

  /** Legacy files whose deletion through the overlay a crash kept from being carried out. */
  async #removeDeleted(): Promise<void> {
    const { catalog, log } = this.#context
    const legacy = this.#context.legacy()
    if (!legacy || !this.#context.policy().removesLegacy) return
    const whiteouts = catalog.whiteouts(10_000)
    if (whiteouts.length === 0) return
    this.#expectFewerNames(whiteouts)
    // The last flushed catalog may still show the file under the name.
    await catalog.flush()
    const removed: Array<{ whiteout: LegacyPlace; stat: Stat | undefined }> = []
    for (const whiteout of whiteouts) {
      const now = catalog.dirent(whiteout.parent, whiteout.name)
      if (now?.legacy !== 0n || !this.#context.policy().removesLegacy) continue
      try {
        const stat = legacy.find(whiteout)
        if (stat) {
          const flags = isDirectory(stat.mode) ? AT_REMOVEDIR : 0
          unlinkAt(legacy.directory(whiteout.parent), whiteout.name, flags)
        }
        faultPoint('migration.reap.whiteout-removed')
        removed.push({ whiteout, stat })
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
    for (const { whiteout, stat } of removed) this.#forgetWhiteout(whiteout, stat)
  }

  #forgetWhiteout(whiteout: LegacyPlace, stat: Stat | undefined): void {
    const { catalog } = this.#context
    const now = catalog.dirent(whiteout.parent, whiteout.name)
    // What somebody put there meanwhile, past the overlay, is hidden as before.
    if (now?.legacy !== 0n || this.#context.legacy()?.find(whiteout)) return
    catalog.transaction(() => catalog.setDirent(whiteout.parent, whiteout.name, now.ino, undefined))
    const other = stat && this.#otherNames(stat)
    if (other) namesRemoved(this.#context, other.ino)
  }

  /** A file that is about to lose one of its names is the one that was copied afterwards as well. To be flushed. */
  #expectFewerNames(whiteouts: readonly LegacyPlace[]): void {
    const moving = new Set<bigint>()
    for (const whiteout of whiteouts) {
      try {
        const stat = this.#context.legacy()?.find(whiteout)
        const other = stat && this.#otherNames(stat)
        if (other && matches(other.fingerprint, stat)) moving.add(other.ino)
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

  /** Directories that have nothing left on the volume, deepest first. */
  async #removeEmptyDirectories(): Promise<void> {
    const { catalog } = this.#context
    // Those that the catalog has the authority on, and the store a record of, once that is flushed: of another one a power loss
    // would leave what says that the volume has it.
    const own = new Set<bigint>()
    this.#eachVolumeDirectory((ino) => {
      if (this.#isOwnDirectory(catalog.get(ino))) own.add(ino)
    })
    if (own.size > 0 && !(await this.#isFlushed())) return
    const removed: bigint[] = []
    this.#eachVolumeDirectory((ino) => {
      if (own.has(ino) && this.#removeDirectory(ino)) removed.push(ino)
    })
    await this.#forgetRemovedDirectories(removed)
  }

  async #isFlushed(): Promise<boolean> {
    try {
      await this.#context.catalog.flush()
      return true
    } catch (error) {
      this.#context.log.warn({ err: error }, 'empty directories stay on the legacy volume')
      return false
    }
  }

  #eachVolumeDirectory(body: (ino: bigint) => void): void {
    const legacy = this.#context.legacy()
    if (!legacy || !this.#context.policy().removesLegacy) return
    const { catalog } = this.#context
    const visit = (ino: bigint): void => {
      for (const entry of legacy.list(ino)) {
        const dirent = catalog.dirent(ino, entry.name)
        const child = dirent?.legacy === undefined ? undefined : catalog.get(dirent.legacy)
        if (child && isDirectory(child.mode)) visit(child.ino)
      }
      if (ino !== ROOT_INO) body(ino)
    }
    visit(ROOT_INO)
  }

  #isOwnDirectory(inode: Inode | undefined): boolean {
    if (inode?.authority !== 'catalog') return false
    // One that was removed, and was kept for what the volume still had in it, has no record to wait for.
    return inode.orphan || this.#directories.isDurable(inode.ino)
  }

  /** True if it is gone from the volume. */
  #removeDirectory(ino: bigint): boolean {
    const { catalog } = this.#context
    const legacy = this.#context.legacy()
    const inode = catalog.get(ino)
    if (!legacy || !inode || !this.#isOwnDirectory(inode)) return false
    const [place] = catalog.legacyPlaces(ino)
    if (!place || legacy.list(ino).length > 0) return false
    try {
      unlinkAt(legacy.directory(place.parent), place.name, AT_REMOVEDIR)
    } catch (error) {
      // Somebody put something there meanwhile, or it is in use: it stays.
      if (error instanceof FsError) return false
      throw error
    }
    faultPoint('migration.reap.directory-removed')
    legacy.forget(ino)
    return true
  }

  /** Directories that are gone from the volume, now or before a crash or a full disk kept the catalog from saying so. */
  async #forgetRemovedDirectories(removed: readonly bigint[]): Promise<void> {
    const { catalog, log } = this.#context
    const gone = [...new Set([...removed, ...catalog.emptiedDirectories()])].filter((ino) =>
      this.#isGone(ino),
    )
    try {
      await this.#volume.directories(
        gone.flatMap((ino) => catalog.legacyPlaces(ino).map(({ parent }) => parent)),
      )
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      log.warn({ err: error }, 'that directories are gone from the legacy volume is noted later')
      return
    }
    for (const ino of gone) {
      const inode = catalog.get(ino)
      if (inode && this.#isGone(ino)) this.#forgetDirectory(inode)
    }
  }

  #isGone(ino: bigint): boolean {
    const inode = this.#context.catalog.get(ino)
    return inode?.legacyIno !== undefined && this.#places(inode).length === 0
  }

  #forgetDirectory(inode: Inode): void {
    const { catalog } = this.#context
    this.#context.legacy()?.forget(inode.ino)
    catalog.transaction(() => {
      for (const place of catalog.legacyPlaces(inode.ino))
        catalog.setDirent(place.parent, place.name, place.ino, undefined)
      inode.legacyIno = undefined
      catalog.save(inode)
    })
    if (!inode.orphan) return
    // Nothing keeps it any more, unless somebody has it open.
    this.#context.activity.of(inode.ino)
    this.#context.activity.settle(inode.ino)
  }
}
