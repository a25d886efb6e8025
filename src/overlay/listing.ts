import { S_IFMT } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import { lacksNames, ROOT_INO, type ShownEntry } from '../catalog/index.ts'
import type { DirectorySink, Entry } from '../fuse/operations.ts'
import { isMissingDisk, type ReadBy } from '../legacy/index.ts'
import { DT_DIR, type RawDirent } from '../sys/index.ts'
import type { OverlayContext } from './context.ts'
import { HeldTables } from './held-tables.ts'
import { shownOver } from './hidden-names.ts'
import { mayBeInStoreAlone } from './in-doubt.ts'
import { lookingOnly } from './looking-only.ts'
import { NameTable } from './name-table.ts'
import { hasGonePast, type Names, type Resolved } from './names.ts'

const DOT = Buffer.from('.')
const DOT_DOT = Buffer.from('..')
// What a request may take of a turn of the event loop (P6).
const TURN_MS = 8
// Names given out in one go, and looked at between two looks at the time.
const NAMES_AT_ONCE = 64

/**
 * Directory listings. Entries come in the order of a 48-bit hash of their names and the hash is the position, so a
 * listing can be continued at any entry by any process, however the directory changes meanwhile: what is there all the
 * time is listed exactly once.
 */
export class Listings {
  readonly #context: OverlayContext
  readonly #names: Names
  readonly #open = new HeldTables()

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
  ): void | Promise<void> {
    const { activity, catalog } = this.#context
    const counted: bigint[] = []
    const counting = (found: Resolved): Entry => {
      counted.push(found.inode.ino)
      return entryOf(found)
    }
    const fill = (table: NameTable): void =>
      lookingOnly(catalog, () => {
        sink.clear()
        for (const ino of counted.splice(0)) activity.of(ino).lookups -= 1n
        // All files met on the way get their inodes in one commit.
        catalog.transaction(() => this.#fill(directory, table, Number(cookie), sink, counting))
      })
    const open = this.#open.get(handle)
    const table = open === undefined || cookie === 0n ? this.#listed(directory) : open
    this.#open.set(handle, table)
    if (table instanceof NameTable) return fill(table)
    return table.then(
      (made) => {
        // Closed meanwhile by somebody who did not wait.
        if (this.#open.get(handle) === table) this.#open.set(handle, made)
        fill(made)
      },
      (error: unknown) => {
        if (this.#open.get(handle) === table) this.#open.delete(handle)
        throw error
      },
    )
  }

  close(handle: bigint): void {
    this.#open.delete(handle)
  }

  /** Shown names of a directory, some at a time. `onHidden`: with each that hides something of the volume's. */
  async *names(directory: bigint, onHidden: (name: Buffer) => void): AsyncGenerator<Buffer[]> {
    let names: Buffer[] = []
    for (const { name } of (await this.#list(directory, 'ferryfs', onHidden)).after(0)) {
      names.push(name)
      if (names.length < NAMES_AT_ONCE) continue
      yield names
      names = []
    }
    if (names.length > 0) yield names
  }

  /** Readers take ENOENT for the end of a directory: a full one would look empty. The kernel itself knows which are removed. */
  #listed(directory: bigint): NameTable | Promise<NameTable> {
    const told = (error: unknown): never => {
      const looksLikeTheEnd = error instanceof FsError && error.code === 'ENOENT'
      throw looksLikeTheEnd ? new FsError('ESTALE', `inode ${directory} is gone`, { cause: error }) : error
    }
    try {
      const table = this.#list(directory, 'application')
      return table instanceof NameTable ? table : table.catch(told)
    } catch (error) {
      return told(error)
    }
  }

  /** At once, if it takes no longer than a turn may. */
  #list(
    directory: bigint,
    by: ReadBy,
    onHidden: (name: Buffer) => void = () => undefined,
  ): NameTable | Promise<NameTable> {
    const table = new NameTable()
    const inode = this.#names.directory(directory)
    // Nobody knows what is in it where it is now.
    if (by === 'application' && hasGonePast(inode)) throw new FsError('ESTALE', `inode ${directory} is gone`)
    if (inode.orphan) return table
    const steps = this.#collect(directory, table, { by, onHidden })
    const until = performance.now() + TURN_MS
    while (performance.now() < until) if (steps.next().done) return table
    return finish(steps, table)
  }

  /**
   * What the volume has comes first, then what the catalog has; the directory may change in between. What is in the catalog and was
   * not seen on the volume is looked up there once more.
   */
  *#collect(
    directory: bigint,
    table: NameTable,
    { by, onHidden }: { readonly by: ReadBy; onHidden(name: Buffer): void },
  ): Generator<void> {
    const { catalog } = this.#context
    const volume = this.#volumeEntries(directory, by)
    for (const batch of volume ?? []) {
      for (const [nth, entry] of batch.entries()) {
        const { name, ino, type } = entry
        const { shown, hides } = shownOver(this.#context, directory, entry)
        if (hides) onHidden(name)
        if (!shown) table.add(name, ino, type)
        else if (shown.ino !== undefined && shown.inode) {
          const isOther = shown.inode.authority === 'legacy' && shown.inode.legacyIno !== ino
          if (isOther && shown.legacy === shown.ino) table.add(name, ino, type)
          else table.add(name, shown.ino, typeOf(shown.inode))
        }
        if (nth % NAMES_AT_ONCE === 0) yield
      }
    }
    const seen = volume && table.seen()
    for (let after: Buffer = Buffer.alloc(0); ; ) {
      const page = catalog.dirents.shownEntries(directory, after, NAMES_AT_ONCE)
      for (const entry of page) {
        const { name, ino, legacy, inode } = entry
        if (ino === undefined || !inode) continue
        const isVolumes = seen && inode.authority === 'legacy' && legacy === ino
        if (!isVolumes) table.add(name, ino, typeOf(inode))
        else if (!seen(name)) this.#lookUp(directory, entry, table)
      }
      const last = page.at(-1)
      if (!last || page.length < NAMES_AT_ONCE) return
      after = last.name
      yield
    }
  }

  /** A legacy file that has vanished goes out of the catalog, and with it out of the totals and the store. */
  #lookUp(directory: bigint, { name, ino, inode }: ShownEntry, table: NameTable): void {
    try {
      const found = this.#names.find(directory, name)
      if (found) table.add(name, found.inode.ino, typeOf(found.inode))
    } catch (error) {
      // That nobody knows whether it was removed does not spoil the listing of the others; its own look-up will say so.
      const isDoubtful = ino !== undefined && mayBeInStoreAlone(this.#context, { ino })
      if (!(isDoubtful && inode && error instanceof FsError && error.code === 'EIO')) throw error
      table.add(name, ino, typeOf(inode))
    }
  }

  /** Undefined where the volume has no such directory, or does not answer and is not needed. */
  #volumeEntries(directory: bigint, by: ReadBy): Iterable<RawDirent[]> | undefined {
    const inode = this.#names.directory(directory)
    try {
      return this.#names.listVolume(inode, by)
    } catch (error) {
      const failing = error instanceof FsError && error.code === 'EIO'
      // One that has no record yet may have names that nobody has looked for.
      if (isMissingDisk(error) && inode.dirShards === 0) throw error
      if (failing && this.#context.policy().readFrom === 'store') return undefined
      throw error
    }
  }

  #fill(
    directory: bigint,
    table: NameTable,
    cookie: number,
    sink: DirectorySink,
    entryOf: (found: Resolved) => Entry,
  ): void {
    const { catalog } = this.#context
    const parent = directory === ROOT_INO ? ROOT_INO : (catalog.links.first(directory)?.parent ?? directory)
    const until = performance.now() + TURN_MS
    let added = false
    // Besides the dots: who reads a directory once, as overlayfs does when it is mounted, has to see what a name looks like.
    let named = false
    for (const [name, ino, position] of [
      [DOT, directory, 1],
      [DOT_DOT, parent, 2],
    ] as const) {
      if (cookie >= position) continue
      if (!sink.hasRoom(name.length)) return
      added = true
      sink.add({ name, ino: this.#shownIno(ino), type: DT_DIR, cookie: BigInt(position) })
    }
    for (const item of table.after(cookie)) {
      if (!sink.hasRoom(item.name.length) || (named && performance.now() > until)) return
      const listed = { ...item, cookie: BigInt(item.cookie) }
      if (sink.plus) named = this.#addLookedUp(directory, listed, sink, entryOf) || named
      else {
        sink.add(listed)
        named = true
      }
    }
    added ||= named
    // What there is comes first. That there is no more is not known.
    const known = this.#names.directory(directory)
    if (!added && lacksNames(known)) throw new FsError('EIO', known.failure)
  }

  /** False for what is not there any more. */
  #addLookedUp(
    directory: bigint,
    listed: { readonly name: Buffer; readonly ino: bigint; readonly type: number; readonly cookie: bigint },
    sink: DirectorySink,
    entryOf: (found: Resolved) => Entry,
  ): boolean {
    const found = this.#context.catalog.attempt<Resolved | 'failed' | undefined>(
      () => this.#names.find(directory, listed.name),
      () => 'failed',
    )
    if (!found) return false
    // An entry that cannot be looked at does not spoil the listing of the others; its own look-up will say why.
    if (found === 'failed') sink.add(listed)
    else {
      const { ino, mode } = found.inode
      sink.add({ ...listed, ino, type: typeOf({ mode }) }, entryOf(found))
    }
    return true
  }

  #shownIno(ino: bigint): bigint {
    return ino === ROOT_INO ? (this.#context.catalog.get(ROOT_INO)?.legacyIno ?? ROOT_INO) : ino
  }
}

async function finish(steps: Generator<void>, table: NameTable): Promise<NameTable> {
  for (const _ of steps) await giveWay()
  return table
}

const typeOf = ({ mode }: { readonly mode: number }): number => (mode & S_IFMT) >> 12
