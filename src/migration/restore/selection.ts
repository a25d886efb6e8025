/** Which part of a directory is written out: all of it, or these names with what is selected of each. */
export type Selection = 'all' | ReadonlyMap<string, Selection>

type Growing = Map<string, Growing | 'all'>

/** @param paths relative to the root of the tree, in names; none for all of it. The empty path is the root, so all, too. */
export function selectionOf(paths: ReadonlyArray<readonly Buffer[]>): Selection {
  if (paths.length === 0) return 'all'
  const root: Growing = new Map()
  for (const path of paths) {
    if (path.length === 0) return 'all'
    let at: Growing = root
    for (const [index, name] of path.entries()) {
      const key = name.toString('latin1')
      const known = at.get(key)
      if (known === 'all') break
      if (index === path.length - 1) at.set(key, 'all')
      else {
        const below: Growing = known ?? new Map()
        at.set(key, below)
        at = below
      }
    }
  }
  return root
}
