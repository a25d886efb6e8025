import type { Catalog } from '../catalog/index.ts'
import type { NamespaceLease } from '../migration/index.ts'
import type { Ownership } from './ownership.ts'
import type { Volume } from './volume.ts'

/** A file that goes within this time behind the last telling needs none of its own: what it changes is told of soon after. */
const TOLD_FOR_MS = 2000

/**
 * Before files go from the legacy volume the store is told that the catalog is in a later state, and so is SOURCE, by its mark. So a
 * copy of the state directory from before is known as an older one, also where the store went back with it: what it lacks
 * is not taken for files that somebody has removed.
 */
export class BeforeRemoval {
  readonly #parts: Parts
  #running: Promise<void> | undefined
  #toldUntil = 0

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Resolves once a file may go. @throws StoreError, FsError: then it stays */
  tell(): Promise<void> | undefined {
    if (performance.now() < this.#toldUntil) return undefined
    this.#running ??= this.#tell().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #tell(): Promise<void> {
    const { lease, catalog, epoch, ownership, volume } = this.#parts
    await lease.tellFirst(catalog, epoch)
    await ownership.renew(volume.tree)
    this.#toldUntil = performance.now() + TOLD_FOR_MS
  }
}

interface Parts {
  readonly lease: NamespaceLease
  readonly catalog: Catalog
  readonly epoch: number
  readonly ownership: Ownership
  readonly volume: Volume
}
