import type { ObjectVersion } from '../contract.ts'
import type { Target } from './access.ts'

/** A delete whose object may come back: somebody who may hold it was not asked. */
export interface UnsureDelete {
  readonly target: Target
  /** What was deleted is not newer than that. */
  readonly version: ObjectVersion
  /** When all who own the key were seen to hold nothing, without a failure since; in milliseconds of the monotonic clock. */
  quietSince: number | undefined
}

/** Some hundred bytes each. */
const MAX_DELETES = 10_000

/** The latest deletes that have to be looked at again. Of more than can be kept the oldest go. */
export class UnsureDeletes {
  readonly #deletes = new Map<string, UnsureDelete>()

  get size(): number {
    return this.#deletes.size
  }

  add(target: Target, version: ObjectVersion): void {
    this.forget(target)
    this.#deletes.set(target.id, { target, version, quietSince: undefined })
    if (this.#deletes.size <= MAX_DELETES) return
    for (const oldest of this.#deletes.values()) {
      this.forget(oldest.target)
      break
    }
  }

  has(one: UnsureDelete): boolean {
    return this.#deletes.get(one.target.id) === one
  }

  forget({ id }: Target): void {
    this.#deletes.delete(id)
  }

  all(): UnsureDelete[] {
    return [...this.#deletes.values()]
  }
}
