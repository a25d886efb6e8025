import { isDirectory } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import { type Inode, lacksNames, ROOT_INO } from '../catalog/index.ts'
import { type DirectoryWriter, keptByFlags } from '../content/index.ts'
import { isMissingDisk } from '../legacy/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { AT_REMOVEDIR, DT_DIR, DT_UNKNOWN, unlinkAt } from '../sys/index.ts'
import { firstPlace } from './legacy-places.ts'
import type { VolumeSync } from './volume-sync.ts'

// Directories that are read from the catalog in one go.
const BATCH = 200

/** Removes directories that have nothing left on the volume. */
export class EmptyDirectories {
  readonly #context: OverlayContext
  readonly #directories: DirectoryWriter
  readonly #volume: VolumeSync

  constructor(context: OverlayContext, directories: DirectoryWriter, volume: VolumeSync) {
    this.#context = context
    this.#directories = directories
    this.#volume = volume
  }

  /** All of them, deepest first. */
  async remove(): Promise<void> {
    const { catalog } = this.#context
    // Those that the catalog has the authority on, and the store a record of, once that is flushed: of another one a power loss
    // would leave what says that the volume has it.
    const own = new Set<bigint>()
    for await (const ino of this.#volumeDirectories())
      if (this.#isOwnDirectory(catalog.get(ino))) own.add(ino)
    if (own.size > 0 && !(await this.#isFlushed())) return
    const removed: bigint[] = []
    for await (const ino of this.#volumeDirectories())
      if (own.has(ino) && (await this.#removeDirectory(ino))) removed.push(ino)
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

  /** Directories of the volume that the catalog knows, each behind those in it. */
  async *#volumeDirectories(): AsyncGenerator<bigint> {
    const levels = [{ ino: ROOT_INO, left: await this.#directoriesIn(ROOT_INO) }]
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      await giveWay()
      if (!this.#context.policy().removesLegacy) return
      const next = level.left.pop()
      if (next !== undefined) {
        levels.push({ ino: next, left: await this.#directoriesIn(next) })
        continue
      }
      levels.pop()
      if (level.ino !== ROOT_INO) yield level.ino
    }
  }

  async #directoriesIn(ino: bigint): Promise<bigint[]> {
    const { catalog } = this.#context
    const found: bigint[] = []
    try {
      for (const batch of this.#context.legacy()?.batches(ino) ?? []) {
        for (const { name, type } of batch) {
          if (type !== DT_DIR && type !== DT_UNKNOWN) continue
          const known = catalog.dirents.get(ino, name)?.legacy
          const child = known === undefined ? undefined : catalog.get(known)
          if (child && isDirectory(child.mode)) found.push(child.ino)
        }
        await giveWay()
      }
    } catch (error) {
      // Removed or moved meanwhile, or on a disk below SOURCE that is missing: whoever looks for it tells of that.
      if (error instanceof FsError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return []
      if (isMissingDisk(error)) return []
      throw error
    }
    return found
  }

  #isOwnDirectory(inode: Inode | undefined): boolean {
    if (inode?.authority !== 'catalog') return false
    // One that was removed, and was kept for what the volume still had in it, has no record to wait for.
    return inode.orphan || this.#directories.isDurable(inode.ino)
  }

  /** True if it is gone from the volume. */
  async #removeDirectory(ino: bigint): Promise<boolean> {
    const { catalog } = this.#context
    const legacy = this.#context.legacy()
    const inode = catalog.get(ino)
    if (!legacy || !inode || !this.#isOwnDirectory(inode)) return false
    try {
      if (!legacy.isEmpty(ino)) return false
      // It may have been moved past the overlay, and another one lie where it was.
      const [place] = catalog.links.places(ino).take(1)
      if (!place || legacy.find(place)?.ino !== inode.legacyIno) return false
      unlinkAt(legacy.directory(place.parent), place.name, AT_REMOVEDIR)
    } catch (error) {
      // Somebody put something there meanwhile, or it is in use: it stays.
      if (!(error instanceof FsError)) throw error
      const kept = error.code === 'EPERM' ? await keptByFlags(this.#context, inode) : undefined
      if (kept !== undefined) this.#context.carrier.recordFailure(ino, new FsError('EPERM', kept))
      return false
    }
    faultPoint('migration.reap.directory-removed')
    legacy.forget(ino)
    return true
  }

  /** Directories that are gone from the volume, now or before a crash or a full disk kept the catalog from saying so. */
  async #forgetRemovedDirectories(removed: readonly bigint[]): Promise<void> {
    const { catalog, log } = this.#context
    const gone = new Set<bigint>()
    const parents = new Set<bigint>()
    const look = (ino: bigint): void => {
      // Where a directory is gone, what was in it is: asked of each, the volume is asked for the square of the levels.
      const above = [...catalog.links.places(ino)].map(({ parent }) => parent)
      const isBelow = above.length > 0 && above.every((parent) => gone.has(parent))
      if (isBelow || this.#isGone(ino)) gone.add(ino)
      if (!isBelow && gone.has(ino)) for (const parent of above) parents.add(parent)
    }
    // Those above first.
    for (const ino of [...removed].reverse()) {
      look(ino)
      await giveWay()
    }
    for (let after: bigint | undefined; ; ) {
      const page = catalog.lists.volumeDirectories(after, BATCH)
      for (const { ino, emptied } of page) {
        if (emptied) look(ino)
        await giveWay()
      }
      after = page.at(-1)?.ino
      if (after === undefined) break
    }
    try {
      await this.#volume.directories(parents)
    } catch (error) {
      if (!(error instanceof FsError)) throw error
      log.warn({ err: error }, 'that directories are gone from the legacy volume is noted later')
      return
    }
    for (const ino of [...gone].reverse()) {
      const inode = catalog.get(ino)
      if (inode && this.#isGone(ino)) this.#forgetDirectory(inode)
      await giveWay()
    }
  }

  #isGone(ino: bigint): boolean {
    const { catalog } = this.#context
    const legacy = this.#context.legacy()
    const inode = catalog.get(ino)
    try {
      if (inode?.legacyIno === undefined || firstPlace(this.#context, inode)) return false
      for (const place of catalog.links.places(ino)) {
        const stat = legacy?.find(place)
        // It is followed, or it is not known which one it is.
        if (stat && isDirectory(stat.mode)) return false
      }
      return true
    } catch (error) {
      if (isMissingDisk(error)) return false
      throw error
    }
  }

  #forgetDirectory(inode: Inode): void {
    const { catalog } = this.#context
    this.#context.legacy()?.forget(inode.ino)
    catalog.transaction(() => {
      for (const place of catalog.links.places(inode.ino))
        catalog.dirents.set(place.parent, place.name, place.ino, undefined)
      inode.legacyIno = undefined
      if (!lacksNames(inode)) inode.failure = undefined
      catalog.save(inode)
    })
    if (!inode.orphan) return
    // Nothing keeps it any more, unless somebody has it open.
    this.#context.activity.of(inode.ino)
    this.#context.activity.settle(inode.ino)
  }
}
