import { FsError } from '../base/errors.ts'
import type { LegacyPlace } from '../legacy/index.ts'
import { type ConcludingParts, conclude } from './conclude.ts'
import type { OverlayContext } from './context.ts'
import { decodeIntent, type LegacyIntent } from './intents.ts'

/** Which names somebody is about to look at or to change. */
export type Concerned = (place: LegacyPlace) => boolean

export const everyName: Concerned = () => true

export function namesIn(directory: bigint): Concerned {
  return ({ parent }) => parent === directory
}

export function oneName(parent: bigint, name: Buffer): Concerned {
  return (place) => place.parent === parent && place.name.equals(name)
}

export function eitherName(one: Concerned, other: Concerned): Concerned {
  return (place) => one(place) || other(place)
}

/**
 * Operations on the volume that the catalog does not follow yet: it had no room for them, or a kill cut them short and the
 * volume does not say whether they took place. Before anything else is done about names the catalog follows: a file that was
 * renamed would pass for one that was removed past the overlay. While the volume does not say, the names that are concerned
 * have no true answer but EIO; all others go on.
 */
export class Unfinished {
  readonly #context: OverlayContext
  readonly #parts: ConcludingParts

  constructor(context: OverlayContext, parts: ConcludingParts) {
    this.#context = context
    this.#parts = parts
  }

  /** Inodes that may lose a name by an operation of unknown outcome. */
  get inodes(): Set<bigint> {
    const inodes = new Set<bigint>()
    for (const unique of this.#parts.legacyNamespace.unfinished) {
      const intent = this.#intent(unique)
      if (intent?.kind === 'unlink') inodes.add(intent.ino)
      if (intent?.kind === 'rename' && intent.target !== undefined) inodes.add(intent.target)
    }
    return inodes
  }

  /** @throws FsError ENOSPC where the catalog has no room; EIO where nobody knows what became of a name that is concerned */
  conclude(concerned: Concerned): void {
    const { unfinished } = this.#parts.legacyNamespace
    for (const unique of unfinished) {
      const intent = this.#context.catalog.intents.get(unique)
      try {
        if (intent && intent.answer === undefined)
          conclude(this.#context, this.#parts, unique, intent.operation)
      } catch (error) {
        if (!(error instanceof FsError && error.code === 'EIO')) throw error
        if (placesOf(this.#intent(unique)).some(concerned)) throw error
        continue
      }
      unfinished.delete(unique)
    }
  }

  /** The same before names are only looked at: that goes on without room in the catalog, for what needs none. */
  tryToConclude(concerned: Concerned): void {
    try {
      this.conclude(concerned)
    } catch (error) {
      if (!(error instanceof FsError && error.code === 'ENOSPC')) throw error
    }
  }

  /**
   * Before the first request: concludes what a predecessor left. With `fresh` (a new mount) all of it, or there is no mount;
   * else what cannot be concluded now stays open. @throws FsError
   */
  recover(fresh: boolean, concluded: () => void): void {
    const { catalog, log } = this.#context
    for (const { id, operation, answer } of catalog.intents.all()) {
      if (answer !== undefined) continue
      try {
        conclude(this.#context, this.#parts, id, operation)
      } catch (error) {
        if (fresh || !(error instanceof FsError)) throw error
        log.warn({ err: error }, 'how an operation ended that a crash cut short is not known yet')
        this.#parts.legacyNamespace.unfinished.add(id)
        continue
      }
      concluded()
    }
  }

  #intent(unique: bigint): LegacyIntent | undefined {
    const intent = this.#context.catalog.intents.get(unique)
    return intent && intent.answer === undefined ? decodeIntent(intent.operation) : undefined
  }
}

function placesOf(intent: LegacyIntent | undefined): LegacyPlace[] {
  if (!intent) return []
  const { parent, name } = intent
  return intent.kind === 'rename'
    ? [
        { parent, name },
        { parent: intent.newParent, name: intent.newName },
      ]
    : [{ parent, name }]
}
