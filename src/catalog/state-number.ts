import type { Meta } from './meta.ts'

/** Meta: number of the last state of the catalog that somebody outside may have been told of. It goes on as long as the catalog lives. */
const TOLD_STATE = 'told-state'

/** What the number needs of the catalog. */
interface Committer {
  transaction<T>(body: () => T): T
  flush(): Promise<void>
  /** Number of the last commit. */
  lastCommit(): number
}

/**
 * States of the catalog are numbered, so that the store and SOURCE can be told which one was there. A number is on the medium before anybody
 * is told of it. So neither a crash nor a power cut leaves a catalog with a lower number than the one that was told: that is an
 * older copy of itself.
 */
export class StateNumber {
  readonly #meta: Meta
  readonly #committer: Committer
  #numberedAt = -1
  #flushed = 0

  constructor(meta: Meta, committer: Committer) {
    this.#meta = meta
    this.#committer = committer
  }

  /** The last number, which may be one that nobody was told of. */
  get last(): number {
    return Number(this.#meta.get(TOLD_STATE) ?? 0)
  }

  /** The last number that this process has brought to the medium; 0 if it has none. */
  get flushed(): number {
    return this.#flushed
  }

  /** Something was committed since this process last gave out a number. */
  get hasChanged(): boolean {
    return this.#committer.lastCommit() !== this.#numberedAt
  }

  /** Within a transaction: the next number, beyond one that somebody tells. `toTell` is to follow in the same turn. */
  goBeyond(told = 0): void {
    this.#meta.set(TOLD_STATE, String(Math.max(this.last, told) + 1))
  }

  /** The last number, once it is on the medium. @throws FsError */
  async toTell(): Promise<number> {
    const { last } = this
    this.#numberedAt = this.#committer.lastCommit()
    await this.#committer.flush()
    this.#flushed = Math.max(this.#flushed, last)
    return last
  }

  /** Numbers the state as it is now. Resolves when that may be told. @throws FsError */
  raise(): Promise<number> {
    this.#committer.transaction(() => this.goBeyond())
    return this.toTell()
  }
}
