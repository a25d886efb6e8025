import { constants } from 'node:fs'
import type fc from 'fast-check'
import { chosen, directoryOf, names, permissions, pick, raw, type Step, step } from './step.ts'

const UMASK = 0o022

/** Files that are made without a name (O_TMPFILE), and get one or not. */
export const namelessSteps: Array<fc.WeightedArbitrary<Step>> = [
  {
    weight: 2,
    arbitrary: step('tmpfile', [pick, permissions], async (system, number, mode) => {
      const parent = await system.ino(directoryOf(system, number))
      const made = await system.expect('tmpfile', undefined, (overlay, request) =>
        overlay.tmpfile(request, parent, mode, constants.O_RDWR),
      )
      if (!made) return
      const node = system.tree.makeNameless(mode & ~UMASK)
      system.learn(node, made.entry.nodeId)
      node.handles.push(made.open.handle)
    }),
  },
  {
    weight: 2,
    arbitrary: step('nameIt', [pick, pick, names], async (system, which, number, name) => {
      const node = chosen(
        [...system.tree.nameless].filter((one) => system.tree.linkable.has(one)),
        which,
      )
      if (!node) return
      const directory = directoryOf(system, number)
      const [ino, parent] = [await system.ino(node), await system.ino(directory)]
      const expected = system.tree.link(node, { directory, name })
      await system.expect('link', expected, (overlay, request) =>
        overlay.link(request, ino, parent, raw(name)),
      )
    }),
  },
]
