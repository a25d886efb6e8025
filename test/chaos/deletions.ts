import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileKey } from '../../src/store/layout.ts'
import { Contradiction } from './model/subtree.ts'
import type { World } from './world/world.ts'

// Larger seeds lie in the store in chunks; these are there under their path, byte for byte.
const INLINE_BYTES = 8 * 1024

/**
 * P3, watched from outside: whenever a legacy file has gone that nobody deleted, the replicas of the store are asked right
 * then, past the daemon and every fault, whether enough of them hold it.
 */
export class LegacyWatch {
  readonly #world: World
  readonly #files: ReadonlyMap<string, Buffer>
  readonly #enough: number
  readonly #gone = new Set<string>()
  #violation: Contradiction | undefined
  #isPaused = false

  /** `enough`: how many replicas have to hold a file that has gone. */
  constructor(world: World, files: ReadonlyMap<string, Buffer>, enough: number) {
    this.#world = world
    this.#files = files
    this.#enough = enough
  }

  /** Where the store is not the simulator its replicas cannot be asked; the checks at the end have to do. */
  look(): void {
    const { simulator, bucketType } = this.#world.store
    if (!simulator || this.#violation || this.#isPaused) return
    for (const [path, content] of this.#files) {
      if (this.#gone.has(path) || existsSync(join(this.#world.legacy, path))) continue
      this.#gone.add(path)
      if (content.length > INLINE_BYTES) continue
      const replicas = simulator.replicas(bucketType, this.#world.namespace, fileKey(Buffer.from(path)))
      const holding = [...replicas.values()].filter((values) =>
        values.some((value) => value?.equals(content)),
      )
      if (holding.length >= this.#enough) continue
      this.#violation = new Contradiction(
        `P3: the legacy file ${path} was removed while ${holding.length} replicas held its content`,
      )
    }
  }

  /** The volume itself is away, and files that had gone may be back: a removal that never reached the disk. */
  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#gone.clear()
  }

  /** @throws Contradiction */
  check(): void {
    this.look()
    if (this.#violation) throw this.#violation
  }
}
