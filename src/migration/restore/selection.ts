import { isSymlink } from '../../base/attributes.ts'
import { printable } from '../../sys/index.ts'
import type { Place } from './place.ts'
import type { TreeFile } from './tree.ts'

/** Which part of a directory is written out: all of it or only these names, and which names have to be there in either case. */
export interface Selection {
  readonly whole: boolean
  /** What is selected of each, by the bytes of the name as latin1. */
  readonly names: ReadonlyMap<string, Selection>
}

export const ALL: Selection = { whole: true, names: new Map() }

interface Growing extends Selection {
  whole: boolean
  readonly names: Map<string, Growing>
}

/** @param paths relative to the root of the tree, in names; none for all of it. The empty path is the root, so all, too. */
export function selectionOf(paths: ReadonlyArray<readonly Buffer[]>): Selection {
  const root: Growing = { whole: paths.length === 0, names: new Map() }
  for (const path of paths) {
    let at = root
    for (const name of path) {
      const key = name.toString('latin1')
      const below: Growing = at.names.get(key) ?? { whole: false, names: new Map() }
      at.names.set(key, below)
      at = below
    }
    at.whole = true
  }
  return root
}

/** What is selected of a name in a directory of which that is selected. */
export function below({ whole, names }: Selection, name: Buffer): Selection {
  const found = names.get(name.toString('latin1'))
  return found ? { whole: whole || found.whole, names: found.names } : ALL
}

/** The places that were asked for behind a file that is no directory, so that none of them is there. */
export function* behind({ names }: Selection, place: Place): Generator<Place> {
  for (const [key, selection] of names) {
    const at = place.below(Buffer.from(key, 'latin1'))
    if (selection.whole) yield at
    yield* behind(selection, at)
  }
}

/** Why nothing is behind a file that is no directory. A symlink leads wherever it does where DEST is used, so none is followed. */
export function whyNothingIsBehind(place: Place, { attributes, target }: TreeFile): string {
  if (!isSymlink(attributes.mode)) return `${place} is no directory`
  const to = target === undefined ? '' : `, to ${printable(target)}`
  return `${place} is a symlink${to}; give PATHs as names of the tree, no symlink is followed`
}
