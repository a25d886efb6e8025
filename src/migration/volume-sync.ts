import { SharedJob } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import { pagesOf } from '../base/pages.ts'
import type { OverlayContext } from '../overlay/index.ts'
import { closeDescriptor, syncDescriptor } from '../sys/index.ts'

// Each takes a descriptor and a thread.
const AT_ONCE = 16

/**
 * Syncs directories of the volume after names were removed there. Only then may the catalog forget that they were: the volume
 * is another disk, and a name that comes back with the power must still be hidden. Those who ask at once share a sync.
 */
export class VolumeSync {
  readonly #context: OverlayContext
  readonly #jobs = new Map<bigint, SharedJob>()

  constructor(context: OverlayContext) {
    this.#context = context
  }

  /** @throws FsError, or the system's error, if one cannot be synced; a directory that is gone needs none */
  async directories(inos: Iterable<bigint>): Promise<void> {
    for (const some of pagesOf(new Set(inos), AT_ONCE))
      await Promise.all(some.map((ino) => this.#directory(ino)))
    // What follows is a commit.
    await this.#context.catalog.ready()
  }

  async #directory(ino: bigint): Promise<void> {
    let job = this.#jobs.get(ino)
    if (!job) {
      job = new SharedJob(() => this.#sync(ino))
      this.#jobs.set(ino, job)
    }
    try {
      await job.run()
    } finally {
      if (!job.isBusy && this.#jobs.get(ino) === job) this.#jobs.delete(ino)
    }
  }

  async #sync(ino: bigint): Promise<void> {
    // One that is gone is looked for on every level above it, and there may be any number of them.
    await giveWay()
    const legacy = this.#context.legacy()
    if (!legacy) return
    let descriptor: number
    try {
      descriptor = legacy.openDirectory(ino)
    } catch (error) {
      if (error instanceof FsError && (error.code === 'ENOENT' || error.code === 'ESTALE')) return
      throw error
    }
    try {
      await syncDescriptor(descriptor)
    } catch (error) {
      throw new FsError('EIO', 'a directory of the volume cannot be synced', { cause: error })
    } finally {
      closeDescriptor(descriptor)
    }
  }
}
