import type { StatementSync } from 'node:sqlite'
import type { Database } from '../base/database.ts'

interface Gap {
  readonly start: number
  readonly end: number
}

/**
 * Runs of chunks that have no object because they are zeros, by file. Invariant: the runs of a file neither overlap nor touch, so
 * there are never more of them than there are runs of data, and one more.
 */
export class Gaps {
  readonly #before: StatementSync
  readonly #after: StatementSync
  readonly #within: StatementSync
  readonly #add: StatementSync
  readonly #drop: StatementSync
  readonly #dropAll: StatementSync

  constructor(database: Database) {
    this.#before = database.prepare(
      'SELECT start, "end" FROM gaps WHERE file = ? AND start <= ? ORDER BY start DESC LIMIT 1',
    )
    this.#after = database.prepare(
      'SELECT start FROM gaps WHERE file = ? AND start > ? ORDER BY start LIMIT 1',
    )
    this.#within = database.prepare(
      'SELECT start, "end" FROM gaps WHERE file = ? AND start >= ? AND start <= ? ORDER BY start',
    )
    this.#add = database.prepare('INSERT INTO gaps VALUES (?,?,?)')
    this.#drop = database.prepare('DELETE FROM gaps WHERE file = ? AND start = ?')
    this.#dropAll = database.prepare('DELETE FROM gaps WHERE file = ?')
  }

  /** Where the gap ends that the chunk lies in; `undefined` if it lies in none. */
  endOf(file: number, chunk: number): number | undefined {
    const gap = this.#before.get(file, chunk) as Gap | undefined
    return gap && gap.end > chunk ? gap.end : undefined
  }

  /** The first chunk after this one with which a gap begins. */
  nextAfter(file: number, chunk: number): number | undefined {
    return (this.#after.get(file, chunk) as { start: number } | undefined)?.start
  }

  /** The chunks [from, to) are a gap from now on. */
  open(file: number, from: number, to: number): void {
    if (from >= to) return
    let [start, end] = [from, to]
    for (const gap of this.#touching(file, from, to)) {
      this.#drop.run(file, gap.start)
      start = Math.min(start, gap.start)
      end = Math.max(end, gap.end)
    }
    this.#add.run(file, start, end)
  }

  /** The chunks [from, to) are no gap any more. */
  close(file: number, from: number, to: number): void {
    if (from >= to) return
    for (const gap of this.#touching(file, from, to)) {
      if (gap.end <= from || gap.start >= to) continue
      this.#drop.run(file, gap.start)
      if (gap.start < from) this.#add.run(file, gap.start, from)
      if (gap.end > to) this.#add.run(file, to, gap.end)
    }
  }

  has(file: number): boolean {
    return this.#after.get(file, -1) !== undefined
  }

  clear(file: number): void {
    this.#dropAll.run(file)
  }

  #touching(file: number, from: number, to: number): Gap[] {
    const before = this.#before.get(file, from - 1) as Gap | undefined
    const within = this.#within.all(file, from, to) as unknown as Gap[]
    return before && before.end >= from ? [before, ...within] : within
  }
}
