import { S_IFDIR } from '../../base/attributes.ts'
import { giveWay } from '../../base/pace.ts'
import { type Catalog, type Inode, NAME_MAX, noteLost, ROOT_INO } from '../../catalog/index.ts'
import type { DirectoryHeader } from '../../content/index.ts'
import { newInode } from '../../overlay/index.ts'
import type { RebuildFindings } from './report.ts'
import { STATES, type SurveyedDirectory, type SurveyedName, type SurveyTable } from './survey-table.ts'

/** What a step of a rebuild works on. */
export interface Rebuilding {
  readonly catalog: Catalog
  readonly table: SurveyTable
  readonly findings: RebuildFindings
  readonly signal: AbortSignal
  /** What is lost is left out, and goes from the records in the store, too. */
  readonly acceptLosses: boolean
}

/**
 * Gives each directory of the survey one place in the catalog, from the root down: where the newest record has it that does not say
 * that it is about to go. Where such names lead in a circle, nothing that has its place leads to them; then the oldest of them gives
 * way to the next older name of its directory, until all have their place. The record that named a directory first was reached
 * from the root, so there always is such a name.
 */
export class DirectoryPlaces {
  readonly #of: Rebuilding
  directories = 0

  constructor(of: Rebuilding) {
    this.#of = of
  }

  async place(): Promise<void> {
    const { catalog, table, signal } = this.#of
    catalog.transaction(() => this.#placeRoot())
    for (;;) {
      signal.throwIfAborted()
      const [directory] = table.inState(STATES.put, 1)
      if (directory) await this.#placeBelow(directory)
      else if (!this.#breakCircle()) break
      await giveWay()
    }
    await this.#disownOthers()
    await this.#noteLossy()
    await this.#oweRecords()
  }

  #placeRoot(): void {
    const { table } = this.#of
    const root = table.directory(1)
    const inode = this.#adopt(root.header ?? UNKNOWN_ROOT, ROOT_INO)
    if (!root.header) this.#loseRoot(inode, root.loss ?? 'it is not in the store')
    table.setPlace(1, STATES.put, { parent: 0, name: Buffer.alloc(0), edge: 0, shown: ROOT_INO })
  }

  /** Nobody knows of any name, so the tree is not an empty one: whatever is asked of it is an error. */
  #loseRoot(inode: Inode, loss: string): void {
    const { catalog, findings, acceptLosses } = this.#of
    findings.add(acceptLosses ? 'left out' : 'lost', '.', `the record of the tree's root is lost: ${loss}`)
    if (acceptLosses) {
      catalog.records.begin(inode.ino)
      writeAnew(catalog, inode)
      return
    }
    noteLost(inode, loss)
    catalog.save(inode)
  }

  async #placeBelow(directory: SurveyedDirectory): Promise<void> {
    const { catalog, table } = this.#of
    for (let after = 0; ; ) {
      const names = table.directoriesBelow(directory.n, after)
      catalog.transaction(() =>
        table.transaction(() => {
          for (const name of names) this.#meet(name)
          if (names.length === 0) table.setState(directory.n, STATES.done)
        }),
      )
      const last = names.at(-1)
      if (!last) return
      after = last.n
      await giveWay()
    }
  }

  #meet(name: SurveyedName): void {
    const { table } = this.#of
    const child = table.byId(name.ino, name.generation)
    if (!child || child.state >= STATES.put) return
    const best = table.bestName(name.ino, name.generation)
    if (best.n === name.n) this.#put(child, name)
    else table.bind(name.n, best.version)
  }

  /** False if every directory has its place. */
  #breakCircle(): boolean {
    const { catalog, table, findings } = this.#of
    const name = table.takeBound()
    if (!name) return false
    const child = table.byId(name.ino, name.generation)
    if (!child || child.state >= STATES.put) return true
    catalog.transaction(() => table.transaction(() => this.#put(child, name)))
    findings.add(
      'doubt',
      table.pathOf(child.n, undefined),
      'newer records name it below itself; it is where an older one has it',
    )
    return true
  }

  #put(child: SurveyedDirectory, edge: SurveyedName): void {
    const { catalog, table, findings } = this.#of
    const parent = this.#shown(edge.parent)
    const name = freeName(this.#of, edge, parent)
    const { header, loss = 'it is not in the store' } = child
    if (!header || name === undefined) {
      // Files come first: of a number that two had, one that is there has it.
      table.setPlace(child.n, STATES.done, { parent: edge.parent, name: edge.name, edge: edge.n })
      table.addLost(edge.n, header ? 'its name is taken' : `the directory's record is lost: ${loss}`)
      return
    }
    const path = table.pathOf(edge.parent, name)
    if (edge.leaving) findings.add('doubt', path, LEFT)
    // Of two that had a number one after the other the older one has been removed, and may still lead to what was in it.
    const isTaken = catalog.get(child.ino) !== undefined || table.hasNewerFile(child)
    const shown = isTaken ? catalog.numbers.nextIno() : child.ino
    table.setPlace(child.n, STATES.put, { parent: edge.parent, name, edge: edge.n, shown })
    if (isTaken) {
      findings.add('doubt', path, `another file has its inode number ${child.ino}; it gets another`)
      this.#adoptAnew(header, shown)
    } else this.#adopt(header, shown)
    linkName(this.#of, edge, { parent, name, ino: shown, isRecorded: !isTaken })
  }

  #adopt(header: DirectoryHeader, ino: bigint): Inode {
    const { catalog } = this.#of
    const inode = directoryOf(header, ino)
    catalog.save(inode)
    // Which part has which name is for the catalog that wrote it to know.
    if (inode.dirShards > 1) catalog.outbox.markAllShards(ino)
    this.directories += 1
    return inode
  }

  /** Under another number it is another directory to the store: its record is to be written. */
  #adoptAnew(header: DirectoryHeader, ino: bigint): void {
    const { catalog } = this.#of
    const generation = catalog.numbers.nextGeneration()
    this.#adopt({ ...header, generation, recordGeneration: 0, shards: 0 }, ino)
    catalog.records.begin(ino)
  }

  /** Number under which the catalog has a directory that has its place. */
  #shown(n: number): bigint {
    return this.#of.table.directory(n).shown ?? ROOT_INO
  }

  /** Names of directories that are somewhere else. */
  async #disownOthers(): Promise<void> {
    const { catalog, table, findings, signal } = this.#of
    for (let after = 0; ; ) {
      signal.throwIfAborted()
      const names = table.namesNotPut(after)
      catalog.transaction(() => {
        for (const name of names) {
          const child = table.byId(name.ino, name.generation)
          const where = child ? table.pathOf(child.n, undefined) : '?'
          findings.add('doubt', table.pathOf(name.parent, name.name), elsewhere(where))
          disown(this.#of, name)
        }
      })
      const last = names.at(-1)
      if (!last) return
      after = last.n
      await giveWay()
    }
  }

  /** Records of which all is to be written. */
  async #oweRecords(): Promise<void> {
    const { catalog, signal } = this.#of
    const owe = (from?: bigint): bigint | undefined =>
      catalog.transaction(() => catalog.outbox.oweAllDirty(from))
    for (let next = owe(); next !== undefined; next = owe(next)) {
      signal.throwIfAborted()
      await giveWay()
    }
  }

  /** Directories that may have had names that nobody knows. */
  async #noteLossy(): Promise<void> {
    const { catalog, table, findings, acceptLosses } = this.#of
    for (let after = 0; ; ) {
      const some = table.lossyDirectories(after)
      catalog.transaction(() => {
        for (const { n, loss = '', shown } of some) {
          const inode = shown === undefined ? undefined : catalog.get(shown)
          findings.add(acceptLosses ? 'left out' : 'lost', table.pathOf(n, undefined), loss)
          if (inode && acceptLosses) writeAnew(catalog, inode)
          else if (inode) {
            noteLost(inode, loss)
            catalog.save(inode)
          }
        }
      })
      const last = some.at(-1)
      if (!last) return
      after = last.n
      await giveWay()
    }
  }
}

/** In the place of a lost record: closed to all but root. Without a time of change, which says that SOURCE's attributes are better. */
const UNKNOWN_ROOT: DirectoryHeader = {
  ino: ROOT_INO,
  generation: 0,
  mode: S_IFDIR | 0o700,
  uid: 0,
  gid: 0,
  nlink: 2,
  atimeNs: 0n,
  mtimeNs: 0n,
  ctimeNs: 0n,
  xattrs: undefined,
  recordGeneration: 0,
  shards: 0,
}

const LEFT = 'its record says that it went elsewhere, and no other record leads to it'

export const elsewhere = (where: string): string =>
  `a newer record has it elsewhere, and so has the tree: ${where}`

function writeAnew(catalog: Catalog, inode: Inode): void {
  catalog.outbox.markAllShards(inode.ino)
  catalog.outbox.add('directory', inode.ino)
}

/** A name of which nothing is known but what a record says: whatever is asked of it is an error. */
export function saveLost(
  catalog: Catalog,
  { ino, generation }: Pick<SurveyedName, 'ino' | 'generation'>,
  key: string | undefined,
  reason: string,
): void {
  const inode = newInode(ino, generation)
  // With a version its name stays in the record when that is written: the object may come back.
  Object.assign(inode, { authority: 'catalog', base: 'store', key, version: 1 } satisfies Partial<Inode>)
  noteLost(inode, reason)
  catalog.save(inode)
}

/** The record has this name, and the tree has not. */
export function disown(
  { catalog, table }: Rebuilding,
  { parent, name, ino, generation }: SurveyedName,
): void {
  const { shown } = table.directory(parent)
  const directory = shown === undefined ? undefined : catalog.get(shown)
  // The same name may be of another file there.
  if (directory && catalog.dirents.get(directory.ino, name)?.ino !== ino)
    catalog.records.disown(directory, name, { ino, generation })
}

/** A directory as its record says it is, under this number. */
export function directoryOf(header: DirectoryHeader, ino: bigint): Inode {
  return {
    ...newInode(ino, header.generation),
    authority: 'catalog',
    mode: (header.mode & 0o7777) | S_IFDIR,
    uid: header.uid,
    gid: header.gid,
    nlink: header.nlink,
    size: 4096,
    blocks: 8,
    atimeNs: header.atimeNs,
    mtimeNs: header.mtimeNs,
    ctimeNs: header.ctimeNs,
    btimeNs: header.btimeNs ?? 0n,
    flags: header.flags ?? 0,
    xattrs: header.xattrs,
    dirGeneration: header.recordGeneration,
    dirShards: header.shards,
  }
}

export interface Link {
  readonly parent: bigint
  readonly name: Buffer
  readonly ino: bigint
  /** The directory's record says the same. */
  readonly isRecorded: boolean
}

export function linkName({ catalog }: Rebuilding, edge: SurveyedName, link: Link): void {
  const { parent, name, ino, isRecorded } = link
  if (isRecorded && !edge.leaving && name.equals(edge.name)) catalog.dirents.adopt(parent, name, ino)
  else catalog.dirents.set(parent, name, ino, undefined)
}

/** The name itself unless another file has it there; then with the file's number behind it. */
export function freeName(
  { catalog, table }: Rebuilding,
  edge: SurveyedName,
  parent: bigint,
): Buffer | undefined {
  const isFree = (name: Buffer): boolean =>
    catalog.dirents.get(parent, name) === undefined && !table.isNamed(edge.parent, name, edge.n)
  // Of two entries with one name in one record the first has it.
  if (catalog.dirents.get(parent, edge.name) === undefined && !(edge.leaving && !isFree(edge.name)))
    return edge.name
  for (const suffix of [`.${edge.ino.toString(16)}`, `.${edge.ino.toString(16)}-${edge.n}`]) {
    const name = Buffer.concat([edge.name.subarray(0, NAME_MAX - suffix.length), Buffer.from(suffix)])
    if (isFree(name)) return name
  }
  return undefined
}
