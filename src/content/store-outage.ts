import type { ContentContext } from './context.ts'

const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 10_000

/** A store that does not answer is asked again, ever more seldom, until it does. */
export class StoreOutage {
  readonly #context: ContentContext
  readonly #ended: () => void
  #pauseMs = 0
  #stopped = false

  constructor(context: ContentContext, ended: () => void) {
    this.#context = context
    this.#ended = ended
  }

  get isUnderWay(): boolean {
    return this.#pauseMs > 0
  }

  /** Somebody has met it. */
  begin(error: Error): void {
    if (this.isUnderWay) return
    this.#context.log.warn({ err: error }, 'the store does not answer; its work waits')
    this.#pauseMs = FIRST_PAUSE_MS
    this.#askLater()
  }

  /** Nobody asks any more. */
  stop(): void {
    this.#stopped = true
  }

  #askLater(): void {
    const jittered = this.#pauseMs * (0.5 + Math.random())
    setTimeout(() => void this.#ask(), jittered).unref()
  }

  async #ask(): Promise<void> {
    if (this.#stopped) return
    try {
      await this.#context.store.ping()
    } catch {
      this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2)
      this.#askLater()
      return
    }
    this.#pauseMs = 0
    this.#context.log.info({}, 'the store answers again')
    this.#ended()
  }
}
