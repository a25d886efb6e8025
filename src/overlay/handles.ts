import type { OverlayContext } from './context.ts'

/**
 * Handles only count who has a file open; nothing that is needed to serve a request hangs on one, so a handle that a
 * predecessor gave out works as well.
 */
export class Handles {
  readonly #context: OverlayContext
  readonly #writing = new Map<bigint, boolean>()
  /** Failed syncs that a handle knows of; where none is recorded, none. */
  readonly #heardOf = new Map<bigint, number>()
  // Apart from every predecessor's numbers.
  #next = BigInt(Date.now()) << 20n

  constructor(context: OverlayContext) {
    this.#context = context
  }

  open(node: bigint, writing: boolean): bigint {
    const handle = this.#next++
    const activity = this.#context.activity.of(node)
    activity.opens += 1
    if (writing) {
      activity.writers += 1
      // Whoever opens a file for writing is about to write: a copy made now would be of a file half done.
      activity.lastChange = performance.now()
    }
    this.#writing.set(handle, writing)
    this.#hears(node, handle)
    return handle
  }

  /**
   * True if a sync of the legacy file has failed since the handle was opened or asked last: as on a local file system, every
   * open descriptor is told once (since Linux 4.13), whoever's sync it was.
   */
  hearsOfFailedSync(node: bigint, handle: bigint): boolean {
    const before = this.#heardOf.get(handle) ?? 0
    return this.#hears(node, handle) > before
  }

  #hears(node: bigint, handle: bigint): number {
    const failures = this.#context.legacyFiles.failedSyncs(node)
    if (failures > 0) this.#heardOf.set(handle, failures)
    return failures
  }

  close(node: bigint, handle: bigint): void {
    this.#heardOf.delete(handle)
    const writing = this.#writing.get(handle)
    if (writing === undefined) return
    this.#writing.delete(handle)
    const activity = this.#context.activity.of(node)
    activity.opens -= 1
    if (writing) activity.writers -= 1
    if (activity.opens === 0) this.#context.legacyFiles.forgetFailedSyncs(node)
    this.#context.activity.settle(node)
  }
}
