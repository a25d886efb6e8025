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
  /** Keys of which the outcome of some write has been unknown, until they are deleted. */
  readonly #unsure = new Set<string>()

  get(id: string): Context | undefined {
    return this.#contexts.get(id)
  }

  /** Nothing that this process did can be under the key. */
  isUntouched(id: string): boolean {
    return !this.#contexts.has(id) && !this.#unsure.has(id)
  }

  /** Something of this process may be under the key that its context does not cover. */
  isDoubtful(id: string): boolean {
    return this.#contexts.get(id)?.doubtful ?? this.#unsure.has(id)
  }

  /** A write of this process may be somewhere of which no later answer has told. */
  isUnsure(id: string): boolean {
    return this.#unsure.has(id)
  }

  set(id: string, context: Context): void {
    this.#contexts.delete(id)
    this.#contexts.set(id, context)
    dropOldest(this.#contexts)
  }

  /** The outcome of a write is unknown, or there are siblings: the key has to be read before the next. */
  doubt(id: string): void {
    const context = this.#contexts.get(id)
    if (context !== undefined) this.#contexts.set(id, { ...context, doubtful: true })
    this.#unsure.add(id)
    dropOldest(this.#unsure)
  }

  forget(id: string): void {
    this.#contexts.delete(id)
  }

  /** The key is deleted: what is unsure about it is up to the deletion now. */
  deleted(id: string): void {
    this.#contexts.delete(id)
    this.#unsure.delete(id)
  }
}

/** Insertion order is the order of writing. */
function dropOldest(ids: {
  readonly size: number
  keys(): Iterable<string>
  delete(id: string): boolean
}): void {
  if (ids.size <= MAX_CONTEXTS) return
  for (const oldest of ids.keys()) {
    ids.delete(oldest)
    break
  }
}
