import type { ObjectVersion } from '../contract.ts'

/** What this process wrote last under a key, and the causal context that came back. */
export interface Context {
  readonly version: ObjectVersion
  readonly vclock: Buffer
  /** There are siblings, or a later write has failed: the key has to be read before the next. */
  readonly doubtful: boolean
}

/** About 200 bytes each. */
const MAX_CONTEXTS = 10_000

/**
 * The contexts of the latest writes. With one the next write of the same key need not read first, and covers what was
 * written before even if no replica in sight shows it.
 */
export class Contexts {
  readonly #contexts = new Map<string, Context>()

  get(id: string): Context | undefined {
    return this.#contexts.get(id)
  }

  set(id: string, context: Context): void {
    this.#contexts.delete(id)
    this.#contexts.set(id, context)
    if (this.#contexts.size <= MAX_CONTEXTS) return
    // Insertion order is the order of writing.
    for (const oldest of this.#contexts.keys()) {
      this.#contexts.delete(oldest)
      break
    }
  }

  doubt(id: string): void {
    const context = this.#contexts.get(id)
    if (context !== undefined) this.#contexts.set(id, { ...context, doubtful: true })
  }

  forget(id: string): void {
    this.#contexts.delete(id)
  }
}
