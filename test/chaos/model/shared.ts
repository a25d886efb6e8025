import { Contradiction } from './subtree.ts'

/**
 * What several clients change at once, and what holds whoever comes first: a line whose append was acknowledged is there
 * once and whole, one that failed once at most; a file that is replaced by renames is always one of those written.
 */
export class SharedArea {
  readonly #acknowledged = new Set<string>()
  readonly #uncertain = new Set<string>()
  /** Lines that a sync of the file has put on the disk. */
  readonly #synced = new Set<string>()
  readonly #published = new Set<string>()
  /** Somebody's version is there for certain. */
  #isPublished = false
  #isPublishedOnDisk = false

  /** The lines that are there for certain: a sync that begins now and succeeds covers them. */
  get lines(): readonly string[] {
    return [...this.#acknowledged]
  }

  synced(lines: readonly string[]): void {
    for (const line of lines) this.#synced.add(line)
  }

  /** The power went: what nobody synced may be there or not. */
  cut(): void {
    for (const line of this.#acknowledged) if (!this.#synced.has(line)) this.#uncertain.add(line)
    for (const line of this.#uncertain) this.#acknowledged.delete(line)
    this.#isPublished = this.#isPublishedOnDisk
  }

  recorded(line: string, certain: boolean): void {
    if (certain) this.#acknowledged.add(line)
    else this.#uncertain.add(line)
  }

  /** Before it is tried: somebody else may read it at any time from then on. */
  publishes(text: string): void {
    this.#published.add(text)
  }

  published(synced = false): void {
    this.#isPublished = true
    this.#isPublishedOnDisk ||= synced
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

  isWhole(content: string): boolean {
    return this.#published.has(content)
  }

  /** @throws Contradiction */
  checkCurrent(content: string): void {
    if (this.isWhole(content)) return
    const shown = JSON.stringify(content.slice(0, 80))
    throw new Contradiction(`the shared file holds ${shown}, which is no whole version of it`)
  }

  get hasRecords(): boolean {
    return this.#acknowledged.size > 0
  }

  get hasPublished(): boolean {
    return this.#isPublished
  }

  /** Somebody has tried to; it may be there. */
  get mayHaveRecords(): boolean {
    return this.hasRecords || this.#uncertain.size > 0
  }

  get mayHavePublished(): boolean {
    return this.#published.size > 0
  }
}
