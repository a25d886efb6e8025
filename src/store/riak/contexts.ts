import type { ObjectVersion } from '../contract.ts'

/** What this process wrote last under a key, and the causal context that came back. */
export interface Context {
  readonly version: ObjectVersion
  readonly vclock: Buffer
}

/** About 200 bytes each. */
const MAX_CONTEXTS = 10_000

/** The contexts of the latest writes, so that the next write of the same key need not read first. */
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

  forget(id: string): void {
    this.#contexts.delete(id)
  }
}
