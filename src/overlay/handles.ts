import type { OverlayContext } from './context.ts'

/**
 * Handles only count who has a file open; nothing that is needed to serve a request hangs on one, so a handle that a
 * predecessor gave out works as well.
 */
export class Handles {
  readonly #context: OverlayContext
  readonly #writing = new Map<bigint, boolean>()
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
    return handle
  }

  close(node: bigint, handle: bigint): void {
    const writing = this.#writing.get(handle)
    if (writing === undefined) return
    this.#writing.delete(handle)
    const activity = this.#context.activity.of(node)
    activity.opens -= 1
    if (writing) activity.writers -= 1
    this.#context.activity.settle(node)
  }
}
