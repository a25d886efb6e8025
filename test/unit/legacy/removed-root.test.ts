import { constants, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ROOT_INO } from '../../../src/catalog/index.ts'
import { LegacyTree } from '../../../src/legacy/index.ts'
import { closeDescriptor, mkdirAt, openAt } from '../../../src/sys/index.ts'
import { MadeMounts } from '../../support/volume/known-mounts.ts'

const D = 2n
const place = (parent: bigint, name: string) => ({ parent, name: Buffer.from(name) })
// The kernel says so behind the path of what was removed; a name may end like that.
const NAMED = ['volume', 'volume (deleted)']
let root: string
let tree: LegacyTree | undefined

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ferryfs-removed-'))
})

afterEach(() => {
  tree?.close()
  rmSync(root, { recursive: true, force: true })
})

function treeAt(path: string): LegacyTree {
  mkdirSync(join(path, 'd'), { recursive: true })
  writeFileSync(join(path, 'd', 'f'), 'content')
  const placesOf = (ino: bigint) => ({
    places: ino === D ? [place(ROOT_INO, 'd')] : [],
    legacyIno: undefined,
  })
  tree = new LegacyTree(path, ROOT_INO, { placesOf, follow: () => 'here', mounts: new MadeMounts() })
  expect(tree.find(place(D, 'f'))).toBeDefined()
  return tree
}

test.each(NAMED)('P2: in %s, while it is there, what is not there is absent', async (name) => {
  const volume = treeAt(join(root, name))
  rmSync(join(root, name, 'd', 'f'))
  expect(volume.find(place(D, 'f'))).toBeUndefined()
  expect(await volume.answers()).toBe(true)
  expect(volume.failure).toBeUndefined()
})

test.each(NAMED)('P1, P2: once %s was removed, nothing in it is known to be absent', async (name) => {
  const path = join(root, name)
  const volume = treeAt(path)
  rmSync(join(path, 'd'), { recursive: true })
  rmdirSync(path)
  for (const parent of [D, ROOT_INO]) {
    expect(() => volume.find(place(parent, 'f'))).toThrow(/SOURCE was removed/)
    expect(() => volume.batches(parent)).toThrow(/SOURCE was removed/)
    expect(() => volume.openFile(place(parent, 'f'), undefined, 0, 'ferryfs')).toThrow(/SOURCE was removed/)
    expect(() => volume.target(place(parent, 'f'))).toThrow(/SOURCE was removed/)
  }
  expect(await volume.answers()).toBe(false)
  expect(volume.failure).toMatch(/SOURCE was removed/)
})

test('P1: in a directory that is deeper than any path what is not there is absent', () => {
  const LEVELS = 20n
  const NAME = Buffer.alloc(250, 'n')
  let below = openAt(-100, Buffer.from(root), constants.O_RDONLY)
  for (let level = 0n; level < LEVELS; level += 1n) {
    mkdirAt(below, NAME, 0o755)
    const next = openAt(below, NAME, constants.O_RDONLY)
    closeDescriptor(below)
    below = next
  }
  closeDescriptor(below)
  const placesOf = (ino: bigint) => ({ places: [{ parent: ino - 1n, name: NAME }], legacyIno: undefined })
  tree = new LegacyTree(root, ROOT_INO, { placesOf, follow: () => 'here', mounts: new MadeMounts() })
  expect(tree.find(place(ROOT_INO + LEVELS, 'f'))).toBeUndefined()
})
