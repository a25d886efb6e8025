import { Contradiction } from './subtree.ts'

/**
 * What several clients change at once, and what holds whoever comes first: a line whose append was acknowledged is there
 * once and whole, one that failed once at most; a file that is replaced by renames is always one of those written.
 */
export class SharedArea {
  readonly #acknowledged = new Set<string>()
  readonly #uncertain = new Set<string>()
  readonly #published = new Set<string>()
  /** Somebody's version is there for certain. */
  #isPublished = false

  recorded(line: string, certain: boolean): void {
    if (certain) this.#acknowledged.add(line)
    else this.#uncertain.add(line)
  }

  /** Before it is tried: somebody else may read it at any time from then on. */
  publishes(text: string): void {
    this.#published.add(text)
  }

  published(): void {
    this.#isPublished = true
  }

  /** @throws Contradiction */
  checkLog(content: string): void {
    for (const line of this.#acknowledged) {
      const times = content.split(line).length - 1
      if (times !== 1)
        throw new Contradiction(`the appended line ${JSON.stringify(line)} is there ${times} times`)
    }
    for (const line of this.#uncertain) {
      const times = content.split(line).length - 1
      if (times > 1) throw new Contradiction(`the line ${JSON.stringify(line)} is there ${times} times`)
    }
  }

  /** @throws Contradiction */
  checkCurrent(content: string): void {
    if (this.#published.has(content)) return
    const shown = JSON.stringify(content.slice(0, 80))
    throw new Contradiction(`the shared file holds ${shown}, which is no whole version of it`)
  }

  get hasRecords(): boolean {
    return this.#acknowledged.size > 0
  }

  get hasPublished(): boolean {
    return this.#isPublished
  }
}
