import type { Log } from '../../observe/log.ts'

/** What is not in the tree as the store has it, or as nobody knows whether it is right. */
export interface RebuildFailure {
  readonly path: string
  readonly reason: string
  /**
   * `lost`: the store does not have it, and the tree shows that: whatever is asked of it there is an error. `left out`: it is not in
   * the tree. `doubt`: it is in the tree, and the records do not agree on where. `older`: the store has lost some of what it was told,
   * so all of the tree may be older than it was.
   */
  readonly kind: 'lost' | 'left out' | 'doubt' | 'older'
}

// Lines that are kept; the log has all of them.
const MOST_KEPT = 10_000

/** Lines of the report on a rebuild. A hostile store may be the reason of any number. */
export class RebuildFindings {
  readonly #log: Log
  readonly kept: RebuildFailure[] = []
  count = 0

  constructor(log: Log) {
    this.#log = log
  }

  add(kind: RebuildFailure['kind'], path: string, reason: string): void {
    this.count += 1
    this.#log.warn({ path, kind, reason }, 'not rebuilt as it was')
    if (this.kept.length < MOST_KEPT) this.kept.push({ path, reason, kind })
  }
}
