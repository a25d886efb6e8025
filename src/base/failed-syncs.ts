// A failing disk makes many; these are enough to see what is wrong.
const LISTED = 1000

/**
 * Syncs of local files that failed. The kernel says it once and then holds what did not reach the disk for written, so
 * whoever met one writes all of it anew before the next sync of it counts (P2). The operator hears of it here, for as long
 * as the process lives.
 */
export class FailedSyncs {
  readonly #reasons = new Map<string, string>()
  readonly #report: (path: string, error: unknown) => void

  /** `report` is called for each, at once. */
  constructor(report: (path: string, error: unknown) => void) {
    this.#report = report
  }

  /** `path`: of the file, as the operator knows it. */
  note(path: string, reason: string, error: unknown): void {
    this.#report(path, error)
    if (this.#reasons.size < LISTED) this.#reasons.set(path, reason)
  }

  list(): Array<{ path: string; reason: string }> {
    return [...this.#reasons].map(([path, reason]) => ({ path, reason }))
  }
}
