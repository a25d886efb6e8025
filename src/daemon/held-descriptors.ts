import { close, open } from 'node:fs'
import { promisify } from 'node:util'

const openAsync = promisify(open)
const closeAsync = promisify(close)

// A directory, a read-only volume, a program being run, an immutable file, a file that others may only read.
const READ_ONLY_CODES = new Set(['EISDIR', 'EROFS', 'ETXTBSY', 'EPERM', 'EACCES'])

/**
 * Files that the supervisor keeps open for its workers, so that one that was unlinked while an application has it open
 * outlives the worker that served it (P7).
 */
export class HeldDescriptors {
  readonly #held = new Map<string, number>()

  /**
   * Opens the file behind another process's descriptor. The path under /proc leads to the file itself, linked or not.
   * @throws the error of open(2)
   */
  async hold(id: string, path: string): Promise<void> {
    const descriptor = await openAsync(path, 'r+').catch((error: NodeJS.ErrnoException) => {
      if (READ_ONLY_CODES.has(error.code ?? '')) return openAsync(path, 'r')
      throw error
    })
    this.drop(id)
    this.#held.set(id, descriptor)
  }

  drop(id: string): void {
    const descriptor = this.#held.get(id)
    if (descriptor === undefined) return
    this.#held.delete(id)
    // Closing the last descriptor of an unlinked file frees its blocks, which can take long: not on the main thread.
    closeAsync(descriptor).catch(() => undefined)
  }

  /** id → path for a successor to open. */
  list(): Record<string, string> {
    return Object.fromEntries(
      Array.from(this.#held, ([id, descriptor]) => [id, `/proc/${process.pid}/fd/${descriptor}`]),
    )
  }

  dropAll(): void {
    for (const id of [...this.#held.keys()]) this.drop(id)
  }
}
