import { isDirectory, isRegular } from '../base/attributes.ts'
import { faultPoint } from '../base/faults.ts'
import { giveWay } from '../base/pace.ts'
import {
  type Dirent,
  hasVanished,
  type Inode,
  isLost,
  keepsVanished,
  letVanishedGo,
  mayBeElsewhere,
  oweWhatWasKept,
} from '../catalog/index.ts'
import { discardDirectoryRecord } from '../content/index.ts'
import type { OverlayContext } from './context.ts'
import { mayBeInStoreAlone } from './in-doubt.ts'
import type { Later } from './later.ts'

// Rows of staged chunks that go at once count as so many rows with what hangs on them.
const CHUNK_ROWS = 16

/** Names that go, and what goes with them: a file without a name and a user, and what was below a directory that is gone. */
export class Removal {
  readonly #context: OverlayContext
  readonly #later: Later
  /** Every file made or met by this process has this generation or a higher one. */
  readonly #firstGeneration: number

  constructor(context: OverlayContext, later: Later) {
    this.#context = context
    this.#later = later
    // Not by writing: a worker that follows one that was killed has to come up on a full disk, too (P6).
    this.#firstGeneration = context.catalog.numbers.upcomingGeneration
  }

  /**
   * A name of the file went away on the legacy volume, past the overlay or by it. In a transaction with the change.
   * `gone`: the file itself is known to have no name left.
   */
  unlinked(dirent: Dirent, gone = false): void {
    const { catalog } = this.#context
    catalog.dirents.set(dirent.parent, dirent.name, undefined, undefined)
    const inode = dirent.ino === undefined ? undefined : catalog.get(dirent.ino)
    if (!inode || catalog.links.first(inode.ino)) return
    if (gone || inode.authority === 'catalog') inode.nlink = 0
    inode.orphan = true
    // Whatever failed with it is true no longer: nobody owes anything of a file without a name.
    if (!isLost(inode)) inode.failure = undefined
    catalog.save(inode)
    if (!this.#isUsed(inode)) this.purge(inode.ino)
    else if (isDirectory(inode.mode)) this.#dropBelow(inode.ino)
  }

  /** Removes all trace of a file that has no name and no user. */
  purgeIfUnused(ino: bigint): void {
    const inode = this.#context.catalog.get(ino)
    if (inode?.orphan && !this.#isUsed(inode)) this.purge(ino)
  }

  /** Goes on with what a predecessor of this process had begun: what is below directories that are gone, and that somebody may know. */
  resume(): void {
    this.#resume(this.#context.catalog.lists.orphans())
  }

  #resume(orphans: Iterator<bigint>): void {
    while (this.#later.hasRoom(1)) {
      const { value: ino, done } = orphans.next()
      if (done) return
      this.#dropBelow(ino)
    }
    this.#later.add('what was in directories that are gone', () => this.#resume(orphans))
  }

  #isUsed({ ino, generation }: Inode): boolean {
    if (this.#isInUse(ino)) return true
    const { activity, takesOver } = this.#context
    // Of a file older than this process a predecessor may have told the kernel: it is unused when the kernel says so.
    const mayBeKnown = takesOver && generation < this.#firstGeneration
    return mayBeKnown && !activity.peek(ino)?.forgotten
  }

  #isInUse(ino: bigint): boolean {
    const node = this.#context.activity.peek(ino)
    return node !== undefined && (node.lookups > 0n || node.opens > 0 || node.changing > 0 || node.pins > 0)
  }

  /**
   * The same without a look at its users: at a fresh mount nobody can have any. Where more hangs on it than a turn has room for, the
   * file stays without a name until the last of that is gone.
   */
  purge(ino: bigint): void {
    const { catalog, epoch } = this.#context
    catalog.transaction(() => {
      const inode = catalog.get(ino)
      if (!inode?.orphan) return
      if (mayBeElsewhere(catalog, inode)) {
        // It waits to be met again, and what was in it does so on its own: the one may be elsewhere and the other gone.
        this.#dropBelow(ino)
        return
      }
      // Names below it are either stale or hide what a read-only volume still has there.
      if (
        isDirectory(inode.mode) &&
        inode.authority === 'catalog' &&
        inode.legacyIno !== undefined &&
        catalog.dirents.hasRows(ino)
      ) {
        this.#leaveToVolume(inode)
        return
      }
      if (!this.#clear(ino)) {
        this.#later.add(`the removal of inode ${ino}`, () => {
          if (this.#isInUse(ino)) this.#dropBelow(ino)
          else this.purge(ino)
        })
        return
      }
      if (isDirectory(inode.mode)) discardDirectoryRecord(this.#context, inode)
      catalog.content.discard(inode)
      if (inode.key !== undefined) {
        catalog.outbox.discard('files', inode.key, epoch, catalog.numbers.nextVersion(), ino)
      }
      catalog.remove(inode)
      catalog.afterCommit(() => this.#purged(inode))
    })
  }

  /** A name in a directory that has no name itself is none: it goes, where the volume had it there. */
  droppedWith(directory: Inode, below: Dirent): void {
    if (directory.authority === 'legacy') this.#context.catalog.transaction(() => this.#dropOne(below))
  }

  /**
   * What the volume had in a directory that it lost is gone with it, however long somebody still has the directory: nothing is owed
   * of it and nothing waits for it. As much as the turn has room for, the rest in turns of its own; a successor goes on.
   */
  #dropBelow(ino: bigint, rows: Iterator<Dirent, undefined> = this.#context.catalog.dirents.all(ino)): void {
    const { catalog } = this.#context
    catalog.transaction(() => {
      for (;;) {
        const directory = catalog.get(ino)
        // Met again, or gone: then whatever it was that asked has had its way.
        const isGone = directory?.orphan && isDirectory(directory.mode) && directory.authority === 'legacy'
        if (!isGone) return
        if (!this.#later.hasRoom(1)) break
        const { value: row } = rows.next()
        if (!row) return
        // It may be another's since the page was read.
        const below = catalog.dirents.get(ino, row.name)
        if (below) this.#dropOne(below)
      }
      this.#later.add(`what was in inode ${ino}`, () => {
        this.#dropBelow(ino, rows)
        faultPoint('overlay.below.dropping')
      })
    })
  }

  #dropOne(below: Dirent): void {
    const { catalog } = this.#context
    const file = below.ino === undefined ? undefined : catalog.get(below.ino)
    if (!file || below.legacy !== file.ino || mayBeInStoreAlone(this.#context, file)) return
    // What the catalog has of its own is never lost because the volume lost a directory.
    const isOnlyName = catalog.links.of(file.ino).take(2).toArray().length === 1
    if (file.authority === 'legacy' || !isOnlyName) this.unlinked(below)
  }

  /** Everything on the volume has been met since the power was lost: files without a name go, and from the records as well. */
  async metEverything(): Promise<void> {
    const { catalog } = this.#context
    if (keepsVanished(catalog)) {
      catalog.transaction(() => letVanishedGo(catalog))
      for (const ino of catalog.lists.orphans()) {
        catalog.transaction(() => {
          const inode = catalog.get(ino)
          if (inode && hasVanished(inode)) this.purgeIfUnused(ino)
        })
        await giveWay()
      }
    }
    for (const _ of oweWhatWasKept(catalog)) await giveWay()
  }

  /** Removes the rows that hang on a file without a name, as many as this turn has room for; true once there are none. */
  #clear(ino: bigint): boolean {
    const { catalog } = this.#context
    for (const below of catalog.dirents.all(ino)) {
      if (!this.#later.hasRoom(1)) return false
      this.unlinked(below)
    }
    while (catalog.staged.hasRows(ino)) {
      if (!this.#later.hasRoom(CHUNK_ROWS)) return false
      catalog.staged.drop(ino, 0)
    }
    // The legacy volume may still have it under names that the overlay hides; from now on they hide nobody's file.
    for (const place of catalog.links.places(ino)) {
      if (!this.#later.hasRoom(1)) return false
      catalog.dirents.set(place.parent, place.name, place.ino === ino ? undefined : place.ino, 0n)
    }
    return true
  }

  /** A removed directory that only hides what the volume has in it: the store need not know of it any more. */
  #leaveToVolume(inode: Inode): void {
    if (inode.dirGeneration === 0) return
    discardDirectoryRecord(this.#context, inode)
    inode.dirGeneration = 0
    inode.dirShards = 0
    this.#context.catalog.save(inode)
  }

  /** What is left of a file outside of the catalog. */
  #purged(inode: Inode): void {
    const { staging, legacyFiles } = this.#context
    faultPoint('overlay.purge.committed')
    staging.release(inode, inode.staged)
    if (isRegular(inode.mode)) legacyFiles.release(inode.ino)
    this.#context.legacy()?.forget(inode.ino)
  }
}
