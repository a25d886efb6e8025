import { Counter, type CounterStore } from './counter.ts'
import { SKIPPED_BY_OLDER_COPY } from './doubts.ts'

// Inode numbers for files made where no legacy file gives them one. Far above what file systems hand out from below.
const FIRST_OWN_INO = 1n << 48n

/** Whether no file system has given the number: of a file that was made here, or lies on another disk below SOURCE. */
export const isOwnIno = (ino: bigint): boolean => ino >= FIRST_OWN_INO

// A staging file of number 1 is named as format 1 named all of them.
const FIRST_STAGING_FILE = 2n

interface Surroundings {
  /** Whether a file has the inode number. */
  isUsed(ino: bigint): boolean
  /** Whether what is met goes to memory, since nothing can be written. */
  isWithoutRoom(): boolean
}

/** Numbers that the catalog hands out once each, whatever dies in between. Ask inside a transaction. */
export class Numbers {
  readonly #versions: Counter
  readonly #generations: Counter
  readonly #inos: Counter
  readonly #stagingFiles: Counter
  readonly #surroundings: Surroundings

  constructor(meta: CounterStore, surroundings: Surroundings) {
    this.#surroundings = surroundings
    this.#versions = new Counter(meta, 'next-version', 1n)
    this.#generations = new Counter(meta, 'next-generation', 1n)
    this.#inos = new Counter(meta, 'next-ino', FIRST_OWN_INO)
    this.#stagingFiles = new Counter(meta, 'next-staging-file', FIRST_STAGING_FILE)
  }

  /** Orders everything this catalog ever writes to the store. */
  nextVersion(): number {
    return Number(this.#versions.next())
  }

  nextGeneration(): number {
    return Number(this.#next(this.#generations))
  }

  /** Files from before this process have a lower generation, files made or met from now on have not. */
  get upcomingGeneration(): number {
    return Number(this.#generations.upcoming)
  }

  /** A number that no staging file has had. */
  nextStagingFile(): number {
    return Number(this.#stagingFiles.next())
  }

  /** A number that no file has. */
  nextIno(): bigint {
    for (;;) {
      const ino = this.#next(this.#inos)
      if (!this.#surroundings.isUsed(ino)) return ino
    }
  }

  #next(counter: Counter): bigint {
    return this.#surroundings.isWithoutRoom() ? counter.nextUnwritten() : counter.next()
  }

  /** A predecessor has handed these out unwritten. */
  takeOver(numbers: { readonly ino: bigint; readonly generation: number }): void {
    this.#generations.skip(BigInt(numbers.generation))
    if (numbers.ino >= FIRST_OWN_INO) this.#inos.skip(numbers.ino)
  }

  /** What was handed out unwritten to files is written down: one of them gets its row. */
  write(): void {
    this.#generations.write()
    this.#inos.write()
  }

  rolledBack(): void {
    for (const counter of this.#all) counter.rolledBack()
  }

  /** A later state of this catalog, or so many catalogs before it, may have handed numbers out of which it knows nothing. */
  skip(times = 1n): void {
    for (const counter of this.#all) counter.raise(counter.upcoming + times * SKIPPED_BY_OLDER_COPY)
  }

  /** After a rebuild: they go on above what the store has seen. */
  raise(versions: bigint, generations: bigint, inos: bigint): void {
    this.#versions.raise(versions)
    this.#generations.raise(generations)
    this.#inos.raise(inos)
  }

  get #all(): Counter[] {
    return [this.#versions, this.#generations, this.#inos, this.#stagingFiles]
  }
}
