import { closeSync, lstatSync, mkdirSync, openSync, readdirSync, readSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { growHostileTree } from '../../support/hostile-tree.ts'

// An ordinary user with a hostile tree, as a process of its own: what to do, and with which directory.
const [, , deed, directory = ''] = process.argv

// As much as fits beside the other clients in the time of a phase.
const SCALE = { links: 150, wide: 200, deep: 30, pieces: 4, xattrs: 3000 }

switch (deed) {
  case 'grow':
    mkdirSync(directory)
    growHostileTree(directory, SCALE)
    break
  case 'look':
    for (const name of ['links', 'wide', 'odd', 'sparse'])
      for (const entry of readdirSync(join(directory, name), { withFileTypes: true, encoding: 'buffer' }))
        lstatSync(Buffer.concat([Buffer.from(join(directory, name, '/')), entry.name]), {
          throwIfNoEntry: false,
        })
    look(join(directory, 'sparse', 'pieces'))
    break
  case 'remove':
    rmSync(directory, { recursive: true })
    break
  default:
    throw new Error(`what to do with ${directory}: ${deed}?`)
}

/** Reads at both ends of a file of 8 TiB that is a hole. */
function look(path: string): void {
  const file = openSync(path, 'r')
  const buffer = Buffer.alloc(1 << 16)
  for (const at of [0, 4096, 2 ** 42, 2 ** 43 - buffer.length]) readSync(file, buffer, 0, buffer.length, at)
  closeSync(file)
}
