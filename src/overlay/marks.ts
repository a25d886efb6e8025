import type { Catalog, Inode } from '../catalog/index.ts'

/**
 * Marks of legacy files as changed that a power loss would take back. Bytes that are overwritten in place may reach the
 * volume's disk before anything there tells of the change: size and times come with its journal, later. Without the mark the
 * volume would have other bytes than the store, under the fingerprint that was taken of the copy. So before the first such
 * write to a file that the store has, the mark is flushed. What is written behind the end of a file needs no mark: it is there
 * only with the size.
 */
export class UnflushedMarks {
  readonly #catalog: Catalog
  readonly #marks = new Map<bigint, object>()

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  /** The mark was just committed. */
  note({ ino, version }: Inode): void {
    if (version === 0) return
    const mark = {}
    this.#marks.set(ino, mark)
    this.#catalog.afterFlush(() => {
      if (this.#marks.get(ino) === mark) this.#marks.delete(ino)
    })
  }

  /**
   * Bytes of the file are about to change from `offset` on; undefined if that may be at once. `size`: the file's on the volume,
   * where it is known. @throws FsError if the mark cannot be flushed
   */
  before(ino: bigint, offset: number, size: () => number | undefined): Promise<void> | undefined {
    if (!this.#marks.has(ino) || offset >= (size() ?? Number.POSITIVE_INFINITY)) return undefined
    return this.#catalog.flush()
  }
}
