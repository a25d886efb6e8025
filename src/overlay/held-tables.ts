import { NameTable } from './name-table.ts'

// Of all tables together: those of two directories of a million names each.
const MOST_BYTES = 128 * 1024 * 1024

/**
 * The tables of open listings, by handle. Any of them can be made anew and gone on with at any position, so where an application has
 * listed more directories than there should be memory for, and holds them open, those that were used longest ago go (P6).
 */
export class HeldTables {
  readonly #mostBytes: number
  /** The one that was used longest ago first; while a table is made, a promise of it. */
  readonly #tables = new Map<bigint, NameTable | Promise<NameTable>>()
  #bytes = 0

  constructor(mostBytes = MOST_BYTES) {
    this.#mostBytes = mostBytes
  }

  get(handle: bigint): NameTable | Promise<NameTable> | undefined {
    return this.#tables.get(handle)
  }

  /** It is used now. */
  set(handle: bigint, table: NameTable | Promise<NameTable>): void {
    this.delete(handle)
    this.#tables.set(handle, table)
    this.#bytes += sizeOf(table)
    for (const [other, held] of this.#tables) {
      if (this.#bytes <= this.#mostBytes || other === handle) return
      if (held instanceof NameTable) this.delete(other)
    }
  }

  delete(handle: bigint): void {
    const table = this.#tables.get(handle)
    if (table && this.#tables.delete(handle)) this.#bytes -= sizeOf(table)
  }
}

/** A table that is held does not grow any more. */
const sizeOf = (table: NameTable | Promise<NameTable>): number =>
  table instanceof NameTable ? table.size : 0
