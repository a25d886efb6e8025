import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { clock } from '../../support/rig/clock.ts'
import type { VolumeImage } from '../disk/image.ts'
import { filesOf, materialise } from '../disk/materialise.ts'
import type { Machine } from '../machine/machine.ts'
import { VOLUMES } from '../product/daemon.ts'

/** Files that SQLite maps into memory: no call tells of what is written there, and the page cache keeps it after a kill. */
const MAPPED = ['state/catalog.db-shm', 'store/ns/index.sqlite-shm'] as const

/** Room for what is going to be laid out; nothing of what ran before comes due. */
export function makeRoom(machine: Machine, images: readonly VolumeImage[]): void {
  machine.shim.show(machine.root, 2 * images.reduce((sum, image) => sum + filesOf(image), 0))
  clock.forgetTimers()
}

/** Lays out what the disks have (or, with `mapped`, what the page cache has after a kill), in the order of `VOLUMES`. */
export function layOut(
  images: readonly VolumeImage[],
  root: string,
  { shim }: Machine,
  mapped: ReadonlyMap<string, Buffer> = new Map(),
): void {
  rmSync(root, { recursive: true, force: true })
  mkdirSync(root)
  for (const [index, volume] of VOLUMES.entries()) {
    const image = images[index]
    if (image) materialise(image, join(root, volume), shim, mapped)
  }
}

export function clearAway({ shim, root }: Machine, place: string): void {
  clock.forgetTimers()
  shim.show(root, 0)
  rmSync(place, { recursive: true, force: true })
}

/** Where copies of the mapped files are made at a kill. */
export const copiesOf = (root: string, { logs }: Machine): Array<readonly [path: string, copy: string]> =>
  MAPPED.map((path) => [join(root, path), join(logs, basename(path))])

/** Those copies, by name; each is taken once. */
export function takeCopies(machine: Machine): Map<string, Buffer> {
  const found = new Map<string, Buffer>()
  for (const [path, copy] of copiesOf('', machine)) {
    try {
      found.set(basename(path), readFileSync(copy))
    } catch {
      // The file was not there yet.
    }
    rmSync(copy, { force: true })
  }
  return found
}
