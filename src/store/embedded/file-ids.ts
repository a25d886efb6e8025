import type { StatementSync } from 'node:sqlite'
import type { Database } from '../../base/database.ts'
import type { GroupCommit } from './group-commit.ts'

// Ids taken at once: one flushed commit for so many values, and so many directory entries to look at after a crash.
const RESERVE = 4096

// How far `settled` in the index may lag behind; the rest of what a sweep looks at.
const SETTLE_EVERY = 1024

/**
 * Hands out ids for value files, each once for ever, power loss included: an id is used only after the range it lies
 * in is flushed as reserved.
 */
export class FileIds {
  readonly #database: Database
  readonly #commits: GroupCommit
  readonly #saveReserved: StatementSync
  readonly #saveSettled: StatementSync
  readonly #inUse = new Set<number>()
  #next: number
  #reserved: number
  #settled: number
  #reserving: Promise<void> | undefined

  constructor(database: Database, commits: GroupCommit) {
    this.#database = database
    this.#commits = commits
    // Two statements: `settled` may be saved while a reservation waits for its sync, and must not take it back.
    this.#saveReserved = database.prepare('UPDATE file_ids SET reserved = ?')
    this.#saveSettled = database.prepare('UPDATE file_ids SET settled = ?')
    const row = database.prepare('SELECT reserved, settled FROM file_ids').get()
    if (typeof row?.reserved !== 'number' || typeof row.settled !== 'number') {
      throw new Error('the table file_ids is damaged')
    }
    this.#reserved = row.reserved
    this.#settled = row.settled
    this.#next = row.reserved
  }

  /** Ids whose files an earlier process may have left without a row. */
  get unsettled(): { readonly from: number; readonly to: number } {
    return { from: this.#settled, to: this.#reserved }
  }

  /** Every id below has a row, or no file and never will. */
  get lowestInUse(): number {
    // Insertion order is the order of growth.
    for (const id of this.#inUse) return id
    return this.#next
  }

  async take(): Promise<number> {
    while (this.#next >= this.#reserved) {
      this.#reserving ??= this.#reserve().finally(() => {
        this.#reserving = undefined
      })
      await this.#reserving
    }
    const id = this.#next
    this.#next += 1
    this.#inUse.add(id)
    return id
  }

  /** The id has a flushed row, or its file is removed. */
  settle(id: number): void {
    this.#inUse.delete(id)
    if (this.lowestInUse - this.#settled < SETTLE_EVERY) return
    try {
      this.save()
    } catch {
      // Full disk: the next sweep looks at more directories, and the caller's own work is done.
    }
  }

  /** Writes down how far ids are settled; everything before it was committed before, so a power loss keeps the order. */
  save(): void {
    const settled = this.lowestInUse
    this.#database.transaction(() => this.#saveSettled.run(settled))
    this.#settled = settled
  }

  /** After an orderly end nothing is left to look for. */
  saveClosed(): void {
    if (this.#inUse.size > 0 || (this.#settled === this.#next && this.#reserved === this.#next)) return
    this.#database.transaction(() => {
      this.#saveReserved.run(this.#next)
      this.#saveSettled.run(this.#next)
    })
  }

  async #reserve(): Promise<void> {
    const reserved = this.#reserved + RESERVE
    await this.#commits.run(0, () => this.#saveReserved.run(reserved))
    this.#reserved = reserved
  }
}
