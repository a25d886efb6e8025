import { FsError } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import type { ContentContext } from './context.ts'

// A staged file that was quiet for so long is sealed. Most are in the store by then.
const QUIET_MS = 2000
// One that is never quiet is written back after so long, as a kernel does (vm.dirty_expire_centisecs).
const LONGEST_UNSYNCED_MS = 30_000

/** What is done to a file that has staged bytes. */
interface Sealing {
  /** Checksums, and all of it on the medium. @throws FsError */
  seal(ino: bigint): Promise<void>
  /** What is staged so far on the medium. @throws FsError */
  sync(ino: bigint): Promise<void>
}

/** When a file was changed, in milliseconds of performance.now(). */
interface Changed {
  readonly last: number
  /** The first time since it was sealed or synced here. */
  readonly first: number
}

/**
 * Has staged files sealed, one after the other, once nobody has changed them for a while, and synced where somebody changes them
 * all the time.
 */
export class Sealer {
  readonly #context: ContentContext
  readonly #files: Sealing
  /** The longest quiet first. */
  readonly #changed = new Map<bigint, Changed>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(context: ContentContext, files: Sealing) {
    this.#context = context
    this.#files = files
  }

  /** The file has just been changed. */
  note(ino: bigint): void {
    const now = performance.now()
    const first = this.#changed.get(ino)?.first ?? now
    this.#changed.delete(ino)
    this.#changed.set(ino, { last: now, first })
    this.#arm()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #arm(): void {
    if (this.#timer || this.#stopped) return
    this.#timer = setTimeout(() => {
      void within('checksums of staged files', () => this.#run()).finally(() => {
        this.#timer = undefined
        if (this.#changed.size > 0) this.#arm()
      })
    }, QUIET_MS)
    this.#timer.unref()
  }

  async #run(): Promise<void> {
    for (const ino of [...this.#changed.keys()]) {
      const changed = this.#changed.get(ino)
      if (this.#stopped) return
      if (!changed) continue
      const { last, first } = changed
      const now = performance.now()
      // A timer may fire a moment early.
      const isQuiet = now - last >= QUIET_MS - 10
      if (isQuiet) this.#changed.delete(ino)
      else if (now - first < LONGEST_UNSYNCED_MS) continue
      else this.#changed.set(ino, { last, first: now })
      await this.#context.catalog.ready()
      if (this.#stopped || !this.#context.catalog.get(ino)?.staged) continue
      try {
        await (isQuiet ? this.#files.seal(ino) : this.#files.sync(ino))
      } catch (error) {
        // Damage is told where it is found; a disk that is full or fails is met by whoever writes or syncs next.
        if (!(error instanceof FsError))
          this.#context.log.warn({ err: error, ino: ino.toString() }, 'a staged file is not sealed')
      }
    }
  }
}
