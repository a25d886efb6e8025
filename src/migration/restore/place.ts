import { printable } from '../../sys/index.ts'

/**
 * Where a file is in the tree: a name below another place. A tree may be deeper than any path is long, so the path is only put
 * together for a message.
 */
export class Place {
  readonly #parent: Place | undefined
  readonly #name: Buffer

  constructor(parent?: Place, name: Buffer = Buffer.alloc(0)) {
    this.#parent = parent
    this.#name = name
  }

  below(name: Buffer): Place {
    return new Place(this, name)
  }

  /** The path relative to the root of the tree, printable; "." for the root. */
  toString(): string {
    const names: string[] = []
    for (let place: Place = this; place.#parent; place = place.#parent) names.push(printable(place.#name))
    return names.length === 0 ? '.' : names.reverse().join('/')
  }
}
