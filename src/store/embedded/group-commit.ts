import type { Database } from '../../base/database.ts'
import { StoreError } from '../errors.ts'

/** Committed, but perhaps not on the medium: the sync failed. */
export class NotFlushed extends Error {
  constructor(cause: unknown) {
    super('the index could not be synced to the disk', { cause })
    this.name = 'NotFlushed'
  }
}

// The database looks at the size of its WAL every 256 commits; so small transactions keep the WAL near its limit.
const TRANSACTION_BYTES = 128 * 1024

interface Change {
  readonly bytes: number
  readonly apply: () => void
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
}

/** Applies changes of many callers in few transactions and lets them share one sync. */
export class GroupCommit {
  readonly #database: Pick<Database, 'transaction' | 'flush' | 'ready'>
  #queue: Change[] = []
  #working = false

  constructor(database: Pick<Database, 'transaction' | 'flush' | 'ready'>) {
    this.#database = database
  }

  /**
   * Resolves once what `apply` changed is on the medium. A `StoreError` from `apply`, thrown before it changes
   * anything, fails this change alone; any other error takes the transaction back.
   * @throws NotFlushed, StoreError, or an error of SQLite
   */
  run(bytes: number, apply: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ bytes, apply, resolve, reject })
      if (this.#working) return
      this.#working = true
      // In a microtask: the puts of one turn of the event loop come together.
      queueMicrotask(() => void this.#work())
    })
  }

  async #work(): Promise<void> {
    while (this.#queue.length > 0) {
      // A commit to a disk that hangs would keep everybody, and not only those who wait for it.
      const asked = this.#database.ready()
      if (asked) await asked
      const batch = this.#queue
      this.#queue = []
      const committed = this.#commit(batch)
      if (committed.length === 0) continue
      try {
        await this.#database.flush()
        for (const change of committed) change.resolve()
      } catch (error) {
        // The database writes all of it anew for the next flush; whoever waited for this one asks again.
        const failure = new NotFlushed(error)
        for (const change of committed) change.reject(failure)
      }
    }
    this.#working = false
  }

  #commit(batch: readonly Change[]): Change[] {
    const committed: Change[] = []
    let group: Change[] = []
    let bytes = 0
    for (const change of batch) {
      group.push(change)
      bytes += change.bytes
      if (bytes < TRANSACTION_BYTES) continue
      committed.push(...this.#commitGroup(group))
      group = []
      bytes = 0
    }
    if (group.length > 0) committed.push(...this.#commitGroup(group))
    return committed
  }

  #commitGroup(group: readonly Change[]): Change[] {
    const refused = new Map<Change, StoreError>()
    try {
      this.#database.transaction(() => {
        for (const change of group) {
          try {
            change.apply()
          } catch (error) {
            if (!(error instanceof StoreError)) throw error
            refused.set(change, error)
          }
        }
      })
    } catch (error) {
      // One damaged page or one value too large for the disk must not fail the others.
      if (group.length > 1) return group.flatMap((change) => this.#commitGroup([change]))
      for (const change of group) change.reject(error)
      return []
    }
    for (const [change, error] of refused) change.reject(error)
    return group.filter((change) => !refused.has(change))
  }
}
