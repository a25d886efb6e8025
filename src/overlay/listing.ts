import { hash } from 'node:crypto'
import { S_IFMT } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { lacksNames, ROOT_INO } from '../catalog/index.ts'
import type { DirectorySink, Entry } from '../fuse/operations.ts'
import type { OverlayContext } from './context.ts'
import type { Names, Resolved } from './names.ts'

interface Item {
  readonly name: Buffer
  readonly ino: bigint
  readonly type: number
  /** Position in the listing, strictly ascending. */
  readonly cookie: number
}

const DOT = Buffer.from('.')
const DOT_DOT = Buffer.from('..')
const FIRST_NAME_COOKIE = 16

/**
 * Directory listings. Entries come in the order of a 48-bit hash of their names and the hash is the position, so a
 * listing can be continued at any entry by any process, however the directory changes meanwhile: what is there all the
 * time is listed exactly once.
 */
export class Listings {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #open = new Map<bigint, Item[]>()

  constructor(context: OverlayContext, names: Names) {
    this.#context = context
    this.#names = names
  }

  /** Fills the sink from the position on. `entryOf` makes the reply for a resolved name. */
  fill(
    directory: bigint,
    handle: bigint,
    cookie: bigint,
    sink: DirectorySink,
    entryOf: (found: Resolved) => Entry,
  ): void {
    let items = this.#open.get(handle)
    if (!items || cookie === 0n) {
      items = this.#list(directory)
      this.#open.set(handle, items)
    }
    const first = firstAfter(items, Number(cookie))
    // What there is comes first. That there is no more is not known.
    const known = this.#names.directory(directory)
    if (first === items.length && lacksNames(known)) throw new FsError('EIO', known.failure)
    for (let index = first; index < items.length; index += 1) {
      const item = items[index]
      if (!item || !sink.hasRoom(item.name.length)) return
      this.#add(directory, item, sink, entryOf)
    }
  }

  close(handle: bigint): void {
    this.#open.delete(handle)
  }

  /** Shown names below a directory, with the inode number where the catalog or the volume gives one. */
  names(directory: bigint): Array<{ name: Buffer; ino: bigint; type: number }> {
    const { catalog } = this.#context
    const inode = this.#names.directory(directory)
    const shown: Array<{ name: Buffer; ino: bigint; type: number }> = []
    const covered = new Set<string>()
    const volume = this.#volumeEntries(directory)
    const vanished: Buffer[] = []
    for (const dirent of catalog.dirents(directory)) {
      const child = dirent.ino === undefined ? undefined : catalog.get(dirent.ino)
      const key = dirent.name.toString('latin1')
      // A legacy file is listed as the volume has it now; it may have been removed or replaced there.
      if (child?.authority === 'legacy' && dirent.legacy === child.ino && volume) {
        const actual = volume.get(key)
        covered.add(key)
        if (!actual) {
          vanished.push(dirent.name)
          continue
        }
        const same = actual.ino === child.legacyIno
        shown.push({ name: dirent.name, ino: same ? child.ino : actual.ino, type: actual.type })
        continue
      }
      covered.add(key)
      if (child) shown.push({ name: dirent.name, ino: child.ino, type: (child.mode & S_IFMT) >> 12 })
    }
    if (volume && this.#names.hasVolume(inode)) {
      for (const [key, entry] of volume) if (!covered.has(key)) shown.push(entry)
    }
    // Looking each of them up takes it out of the catalog, and with it out of the totals and the store.
    for (const name of vanished) this.#names.find(directory, name)
    return shown
  }

  #volumeEntries(directory: bigint): Map<string, { name: Buffer; ino: bigint; type: number }> | undefined {
    try {
      const entries = this.#names.listVolume(this.#names.directory(directory))
      return entries && new Map(entries.map((entry) => [entry.name.toString('latin1'), entry]))
    } catch (error) {
      const failing = error instanceof FsError && error.code === 'EIO'
      if (failing && this.#context.policy().readFrom === 'store') return undefined
      throw error
    }
  }

  #list(directory: bigint): Item[] {
    const inode = this.#names.directory(directory)
    const parent =
      directory === ROOT_INO ? ROOT_INO : (this.#context.catalog.linksOf(directory)[0]?.parent ?? directory)
    const items: Item[] = [
      { name: DOT, ino: this.#shownIno(directory), type: 4, cookie: 1 },
      { name: DOT_DOT, ino: this.#shownIno(parent), type: 4, cookie: 2 },
    ]
    if (inode.orphan) return items
    for (const { name, ino, type } of this.names(directory))
      items.push({ name, ino, type, cookie: cookieOf(name) })
    items.sort((a, b) => a.cookie - b.cookie || Buffer.compare(a.name, b.name))
    // Two names with one hash: the second gets the next position.
    return items.map((item, index) => {
      const before = items[index - 1]
      return before && before.cookie >= item.cookie
        ? Object.assign(item, { cookie: before.cookie + 1 })
        : item
    })
  }

  #shownIno(ino: bigint): bigint {
    return ino === ROOT_INO ? (this.#context.catalog.get(ROOT_INO)?.legacyIno ?? ROOT_INO) : ino
  }

  #add(directory: bigint, item: Item, sink: DirectorySink, entryOf: (found: Resolved) => Entry): void {
    const listed = { ...item, cookie: BigInt(item.cookie) }
    if (!sink.plus || item.cookie < FIRST_NAME_COOKIE) {
      sink.add(listed)
      return
    }
    const found = this.#context.catalog.attempt(
      () => this.#names.find(directory, item.name),
      () => {
        // An entry that cannot be looked at does not spoil the listing of the others; its own look-up will say why.
        sink.add(listed)
        return undefined
      },
    )
    if (!found) return
    const { ino, mode } = found.inode
    sink.add({ ...listed, ino, type: (mode & S_IFMT) >> 12 }, entryOf(found))
  }
}

/** Position of a name: 48 bits of its hash, never below the positions of "." and "..". */
function cookieOf(name: Buffer): number {
  return hash('md5', name, 'buffer').readUIntLE(0, 6) + FIRST_NAME_COOKIE
}

function firstAfter(items: readonly Item[], cookie: number): number {
  let low = 0
  let high = items.length
  while (low < high) {
    const middle = (low + high) >> 1
    const item = items[middle]
    if (item && item.cookie <= cookie) low = middle + 1
    else high = middle
  }
  return low
}
