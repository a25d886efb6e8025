import { reasonOf } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import { closeDescriptor, syncFileSystem } from '../sys/index.ts'
import type { ContentContext } from './context.ts'

// The kernel writes back by itself what is older than this (vm.dirty_expire_centisecs).
const SYNC_EVERY_MS = 30_000

/**
 * What was copied from the volume is what its page cache had. The volume's disk may get a file's size and times seconds before
 * its bytes: after a power loss the file then has other bytes under the fingerprint that was taken. So a copy is noted as
 * unproven until the volume has been synced once after it; and after a power loss the fingerprint of such a copy says nothing.
 */
export class VolumeProof {
  readonly #context: ContentContext
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(context: ContentContext) {
    this.#context = context
  }

  /** Within the transaction that records a copy made from the volume. */
  note(ino: bigint): void {
    this.#context.catalog.unproven.note(ino)
    this.arm()
  }

  /** There are unproven copies, from an earlier process perhaps. */
  arm(): void {
    if (this.#timer || this.#stopped) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.sync()
    }, SYNC_EVERY_MS)
    this.#timer.unref()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** Syncs the volume, after which the copies recorded before are proven. Never fails: what is not proven stays so. */
  async sync(): Promise<void> {
    const { catalog, log } = this.#context
    const volume = this.#context.legacy()
    const last = catalog.unproven.last()
    if (!volume || last === undefined) return
    try {
      const root = volume.openDirectory(1n)
      try {
        await syncFileSystem(root)
      } finally {
        closeDescriptor(root)
      }
      if (this.#stopped) return
      for (let more = true; more && !this.#stopped; ) {
        await catalog.ready()
        more = !this.#stopped && catalog.transaction(() => catalog.unproven.drop(last))
        await giveWay()
      }
    } catch (error) {
      log.warn({ err: error }, `the volume cannot be synced, it is tried again: ${reasonOf(error)}`)
    }
    if (!this.#stopped && catalog.unproven.last() !== undefined) this.arm()
  }
}

/**
 * After a power loss: a file whose copy is unproven is compared by its content, that is, copied again; where the catalog has
 * the authority, the legacy file is no copy of what is in the store any more.
 */
export function distrustUnproven({ catalog, log }: ContentContext): void {
  const last = catalog.unproven.last()
  if (last === undefined) return
  let files = 0
  const distrustSome = (): boolean => {
    const inos = catalog.unproven.upTo(last)
    for (const ino of inos) catalog.distrust(ino)
    files += inos.length
    return catalog.unproven.drop(last)
  }
  while (catalog.transaction(distrustSome)) continue
  log.info({ files }, 'copies that the power loss makes doubtful are made again')
}
