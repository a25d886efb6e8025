import { FsError } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import type { ContentContext } from './context.ts'

// A staged file that was quiet for so long is sealed. Most are in the store by then.
const QUIET_MS = 2000

/** Has staged files sealed, one after the other, once nobody has changed them for a while. */
export class Sealer {
  readonly #context: ContentContext
  readonly #seal: (ino: bigint) => Promise<void>
  /** When each was changed last, in milliseconds of performance.now(); the longest quiet first. */
  readonly #changed = new Map<bigint, number>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(context: ContentContext, seal: (ino: bigint) => Promise<void>) {
    this.#context = context
    this.#seal = seal
  }

  /** The file has just been changed. */
  note(ino: bigint): void {
    this.#changed.delete(ino)
    this.#changed.set(ino, performance.now())
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
    for (const [ino, changed] of this.#changed) {
      // A timer may fire a moment early.
      if (this.#stopped || performance.now() - changed < QUIET_MS - 10) return
      this.#changed.delete(ino)
      if (!this.#context.catalog.get(ino)?.staged) continue
      try {
        await this.#seal(ino)
      } catch (error) {
        // Damage is told where it is found; a disk that is full or fails is met by whoever writes or syncs next.
        if (!(error instanceof FsError))
          this.#context.log.warn({ err: error, ino: ino.toString() }, 'a staged file is not sealed')
      }
    }
  }
}
