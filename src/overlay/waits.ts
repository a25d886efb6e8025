import { delay } from '../base/concurrency.ts'
import { FsError } from '../base/errors.ts'
import type { UploadResult } from '../content/index.ts'
import type { RequestContext } from '../fuse/operations.ts'
import type { OverlayContext } from './context.ts'

// Between two looks at a file that has to be in the store and keeps changing.
const BUSY_MS = 10

/** Waits of callers, none of them without an end (P6). */
export class Waits {
  readonly #context: OverlayContext

  constructor(context: OverlayContext) {
    this.#context = context
  }

  /** With `--ack store` the caller waits until the store has the file; nothing is lost if it has to give up. */
  async acknowledged(request: RequestContext, node: bigint): Promise<void> {
    const { copies, writeTo } = this.#context.policy()
    // In a mode that copies nothing the volume is all that there is to wait for.
    if (this.#context.ack === 'local' || !(copies || writeTo === 'store')) return
    await this.withDeadline(request, async (signal) => {
      for (;;) {
        const inode = this.#context.catalog.get(node)
        if (!inode || inode.orphan || inode.dirty === 0) return
        signal.throwIfAborted()
        const result = await this.#uploaded(node, signal)
        // What has come since is for its own caller to wait for.
        if (result === 'gone' || result === 'behind') return
        // Somebody is in the middle of changing it, and never gets to the end of that if this here takes no pause.
        if (result === 'busy') await delay(BUSY_MS)
      }
    })
  }

  /** A file that was removed past the overlay has nothing that the store could acknowledge: close(2) does not fail for that. */
  async #uploaded(node: bigint, signal: AbortSignal): Promise<UploadResult> {
    try {
      return await this.#context.uploader.upload(node, signal)
    } catch (error) {
      const isGone = error instanceof FsError && error.code === 'ENOENT'
      if (isGone && this.#context.catalog.get(node)?.authority === 'legacy') return 'gone'
      throw error
    }
  }

  /** Ends the caller's wait at the deadline or on an interrupt; work that goes on behind it is harmless. */
  async withDeadline<T>(request: RequestContext, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadline = new AbortController()
    const milliseconds = this.#context.settings.opTimeoutMs
    const timer = setTimeout(
      () => deadline.abort(new FsError('EIO', `no answer from the store within ${milliseconds} ms`)),
      milliseconds,
    )
    const signal = AbortSignal.any([deadline.signal, request.signal])
    try {
      return await body(signal)
    } catch (error) {
      if (request.signal.aborted) throw new FsError('EINTR')
      if (deadline.signal.aborted) throw deadline.signal.reason
      throw error
    } finally {
      clearTimeout(timer)
    }
  }
}
