import { FsError, reasonOf } from '../base/errors.ts'
import { within } from '../base/turns.ts'
import type { OverlayContext } from './context.ts'

// What one turn of the event loop may take of it (P6): rows, each with what hangs on it, in a few milliseconds.
const ROWS_IN_A_TURN = 64

/**
 * Work on names that follows from what was done, and that nobody waits for: as much of it as a turn of the event loop has room for is
 * done at once, the rest in turns of its own. What is asked for is safe to be asked for again; what a crash leaves of it, a new mount
 * finds.
 */
export class Later {
  readonly #context: OverlayContext
  readonly #queue = new Map<string, () => void>()
  #left = ROWS_IN_A_TURN
  #running: Promise<void> | undefined
  #stopped = false

  constructor(context: OverlayContext) {
    this.#context = context
  }

  /** Whether this turn has room for so many rows more; they count from then on. */
  hasRoom(rows: number): boolean {
    if (this.#left <= 0) return false
    if (this.#left === ROWS_IN_A_TURN)
      setImmediate(() => {
        this.#left = ROWS_IN_A_TURN
      })
    this.#left -= rows
    return true
  }

  /** Has `step` run in a turn that has room. It asks for itself again if it does not get to its end. */
  add(name: string, step: () => void): void {
    this.#queue.set(name, step)
    if (this.#running || this.#stopped) return
    this.#running = within('what follows from names that are gone', () => this.#run())
  }

  /** Resolves once nothing is left of it. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running
  }

  stop(): void {
    this.#stopped = true
    this.#queue.clear()
  }

  async #run(): Promise<void> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      await this.#context.catalog.ready()
      const [next] = this.#queue
      if (!next || this.#stopped) break
      const [name, step] = next
      this.#queue.delete(name)
      try {
        step()
      } catch (error) {
        if (!(error instanceof FsError)) {
          this.#running = undefined
          throw error
        }
        this.#context.log.warn({ err: error }, `${name} is left to the next mount: ${reasonOf(error)}`)
      }
    }
    this.#running = undefined
  }
}
