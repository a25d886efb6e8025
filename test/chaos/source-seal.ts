import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { walkTree } from './clients/walk.ts'
import { Contradiction } from './model/subtree.ts'

// What somebody changes past the overlay, on purpose.
const OTHERS = 'seed/past'

/** A legacy volume that nobody may touch: every name, attribute, time and byte as it was. */
export class SourceSeal {
  readonly #root: string
  readonly #before: ReadonlyMap<string, string>

  constructor(root: string) {
    this.#root = root
    this.#before = this.#look()
  }

  /** @throws Contradiction */
  check(): void {
    const now = this.#look()
    const paths = new Set([...this.#before.keys(), ...now.keys()])
    const changed = [...paths].filter((path) => this.#before.get(path) !== now.get(path))
    if (changed.length === 0) return
    const shown = changed.slice(0, 5).map((path) => `${path}: ${this.#before.get(path)} -> ${now.get(path)}`)
    throw new Contradiction(
      `P5: a read-only source was changed in ${changed.length} places: ${shown.join('; ')}`,
    )
  }

  #look(): Map<string, string> {
    const files = walkTree(Buffer.from(this.#root), { content: true })
    return new Map(
      files
        .filter(({ path }) => !path.startsWith(OTHERS))
        .map((file) => {
          const absolute = Buffer.from(join(this.#root, file.path), 'latin1')
          const { mtimeNs, ctimeNs, uid, gid } = lstatSync(absolute, { bigint: true })
          return [file.path, JSON.stringify([file, String(mtimeNs), String(ctimeNs), uid + gid > 0n])]
        }),
    )
  }
}
