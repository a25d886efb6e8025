import { giveWay } from '../../base/pace.ts'
import { fileId, type Inode } from '../../catalog/index.ts'
import { newInode } from '../../overlay/index.ts'
import { compareVersions, type ObjectVersion } from '../../store/contract.ts'
import { MAX_KEY_BYTES } from '../../store/validate.ts'
import type { ProgressMeter } from '../progress.ts'
import { type FoundFile, listContent, readFile } from './file-record.ts'
import { disown, elsewhere, freeName, linkName, type Rebuilding, saveLost } from './place-directories.ts'
import { reasonOfLoss, type StoreReader } from './store-reader.ts'
import type { SurveyedName } from './survey-table.ts'

// Names that are looked at together, and keys that are tried for one file.
const NAMES_AT_ONCE = 256
const MOST_KEYS = 4
const NEVER = { links: 1, version: { epoch: 0, version: 0 } }

/** A file while its names come by, the newest first. */
interface Placing {
  readonly id: string
  readonly names: SurveyedName[]
  /** How many names it has, by whoever says that it has most: its object or a record may be older than its last name. */
  links: number
  /** The same by whoever is the newest. */
  newest: { readonly links: number; readonly version: ObjectVersion }
  kept: number
  /** The number under which the tree has it; undefined where it is not in the tree. */
  ino?: bigint
  /** Why it is not. */
  reason?: string
}

/**
 * Puts the files of the survey into the catalog. A file has all names that no newer record says it has left; but no more than it is
 * said to have anywhere, the newest of them.
 */
export class FilePlaces {
  readonly #of: Rebuilding
  readonly #reader: StoreReader
  readonly #meter: ProgressMeter
  readonly #concurrency: number

  constructor(of: Rebuilding, reader: StoreReader, meter: ProgressMeter, concurrency: number) {
    this.#of = of
    this.#reader = reader
    this.#meter = meter
    this.#concurrency = concurrency
  }

  async place(): Promise<void> {
    await this.#placeAll(false)
    // Files to which only a record leads that is about to lose them.
    await this.#placeAll(true)
    await this.#placeLost()
  }

  async #placeAll(leaving: boolean): Promise<void> {
    const { table, signal } = this.#of
    let last: Placing | undefined
    let group: SurveyedName[] = []
    for (const name of table.files(leaving)) {
      group.push(name)
      if (group.length < NAMES_AT_ONCE) continue
      signal.throwIfAborted()
      last = await this.#placeSome(group, last)
      group = []
      await giveWay()
    }
    await this.#placeSome(group, last)
  }

  /** `last`: the file of the last name before these, which may be the one of the first. */
  async #placeSome(names: readonly SurveyedName[], last: Placing | undefined): Promise<Placing | undefined> {
    const files: Placing[] = []
    for (const name of names) {
      const id = fileId(name)
      const known = files.at(-1) ?? last
      if (known?.id !== id) files.push({ id, names: [name], links: 1, newest: NEVER, kept: 0 })
      else if (known === last && files.length === 0) files.push({ ...last, names: [name] })
      else known.names.push(name)
    }
    const found = new Map<Placing, FoundFile>()
    const fresh = files.filter(
      ({ kept, ino, reason }) => kept === 0 && ino === undefined && reason === undefined,
    )
    for (let from = 0; from < fresh.length; from += this.#concurrency) {
      const some = fresh.slice(from, from + this.#concurrency)
      const ended = await Promise.allSettled(some.map((file) => this.#find(file, found)))
      for (const one of ended) if (one.status === 'rejected') throw one.reason
      this.#meter.tick()
    }
    const blocks = new Map<Placing, number>()
    for (const file of fresh) await this.#list(file, found.get(file), blocks)
    const { catalog, table } = this.#of
    catalog.transaction(() =>
      table.transaction(() => {
        for (const file of files) this.#put(file, found.get(file), blocks.get(file) ?? 0)
      }),
    )
    return files.at(-1)
  }

  /** Reads its object, by whichever key of its records there is one. */
  async #find(file: Placing, found: Map<Placing, FoundFile>): Promise<void> {
    const keys = new Set(file.names.map(({ key = '' }) => key))
    const [name] = file.names
    for (const key of [...keys].slice(0, MOST_KEYS)) {
      if (!name) return
      try {
        found.set(file, await readFile(this.#reader, name, key))
        delete file.reason
        return
      } catch (error) {
        file.reason ??= reasonOfLoss(error, this.#of.table.pathOf(name.parent, name.name))
      }
    }
  }

  async #list(file: Placing, found: FoundFile | undefined, blocks: Map<Placing, number>): Promise<void> {
    const { catalog, table } = this.#of
    const [name] = file.names
    if (!found || !name) return
    if (catalog.get(name.ino)) return
    try {
      blocks.set(file, await listContent(catalog, this.#reader, found))
    } catch (error) {
      file.reason = reasonOfLoss(error, table.pathOf(name.parent, name.name))
    }
  }

  #put(file: Placing, found: FoundFile | undefined, blocks: number): void {
    const { catalog, table, findings } = this.#of
    const [first] = file.names
    if (!first) return
    const isNew = file.ino === undefined
    if (isNew && file.reason === undefined && catalog.get(first.ino))
      file.reason = `another file has its inode number ${first.ino}`
    if (isNew && file.reason === undefined && found) {
      file.ino = this.#adopt(first, found, blocks)
      this.#meter.files += 1
      this.#meter.bytes += found.record.attributes.size
      // Names in one record were there at one time.
      const together = file.names.filter(({ version }) => compareVersions(version, first.version) === 0)
      file.links = Math.max(found.record.attributes.nlink, first.leaving ? 1 : together.length)
      const { epoch = 0, version = 0 } = found.inode
      file.newest = { links: found.record.attributes.nlink, version: { epoch, version } }
    }
    file.links = Math.max(file.links, ...file.names.map(({ links }) => links))
    for (const { links, version } of file.names)
      if (compareVersions(version, file.newest.version) > 0) file.newest = { links, version }
    for (const name of file.names) {
      const isKept = file.kept < file.links && (!name.stale || file.kept === 0)
      if (file.ino === undefined) {
        if (isKept) {
          file.kept += 1
          table.addLost(name.n, file.reason ?? 'it cannot be had')
        }
      } else if (isKept) this.#link(file, file.ino, name)
      else {
        const where = catalog.links.pathOf(file.ino)
        findings.add(
          'doubt',
          table.pathOf(name.parent, name.name),
          elsewhere(where === undefined ? '?' : where.toString()),
        )
        disown(this.#of, name)
      }
    }
    this.#count(file, first.leaving)
  }

  #adopt({ ino, generation }: SurveyedName, found: FoundFile, blocks: number): bigint {
    const { catalog } = this.#of
    const inode = newInode(ino, generation)
    Object.assign(inode, found.inode, { blocks })
    catalog.save(inode)
    return ino
  }

  #link(file: Placing, ino: bigint, name: SurveyedName): void {
    const { table, findings } = this.#of
    const parent = table.directory(name.parent).shown
    const free = parent === undefined ? undefined : freeName(this.#of, name, parent)
    const path = table.pathOf(name.parent, free ?? name.name)
    if (parent === undefined || free === undefined) {
      findings.add('left out', path, 'its name is taken')
      return
    }
    file.kept += 1
    if (name.leaving)
      findings.add('doubt', path, 'its record says that it went elsewhere, and no other record leads to it')
    else if (!free.equals(name.name))
      findings.add('doubt', path, `another file has its name ${name.name.toString()}`)
    linkName(this.#of, name, { parent, name: free, ino, isRecorded: true })
  }

  /** The names that there are count, whatever the object says. Others may be on SOURCE, where nobody had looked at them. */
  #count({ ino, kept, links: most, newest: { links } }: Placing, isLeft: boolean): void {
    const { catalog } = this.#of
    const inode: Inode | undefined = ino === undefined ? undefined : catalog.get(ino)
    if (!inode) return
    if (isLeft || most > kept)
      catalog.links.unmet.note({ ino: inode.ino, links, most, isLeft, doubt: undefined })
    else catalog.links.unmet.drop(inode.ino)
    if (inode.nlink === kept) return
    inode.nlink = kept
    catalog.save(inode)
  }

  /** Names of files that cannot be had: as such they are in the tree. */
  async #placeLost(): Promise<void> {
    const { catalog, table, signal } = this.#of
    for (let after = 0; ; ) {
      signal.throwIfAborted()
      const names = table.losses(after)
      catalog.transaction(() => {
        for (const name of names) this.#putLost(name, name.reason)
      })
      const last = names.at(-1)
      if (!last) return
      after = last.n
      await giveWay()
    }
  }

  #putLost(name: SurveyedName, reason: string): void {
    const { catalog, table, findings, acceptLosses } = this.#of
    const path = table.pathOf(name.parent, name.name)
    const parent = table.directory(name.parent).shown
    const known = catalog.get(name.ino)
    const isOther = known !== undefined && (known.generation !== name.generation || known.failure !== reason)
    const isTaken = parent === undefined || catalog.dirents.get(parent, name.name) !== undefined
    if (acceptLosses || name.leaving || isOther || isTaken) {
      findings.add('left out', path, reason)
      disown(this.#of, name)
      return
    }
    findings.add('lost', path, reason)
    if (!known) saveLost(catalog, name, freeKey(this.#of, name.key), reason)
    else {
      known.nlink += 1
      catalog.save(known)
    }
    linkName(this.#of, name, { parent, name: name.name, ino: name.ino, isRecorded: true })
  }
}

/** Two rows with one key there cannot be; whose object it is nobody knows. */
function freeKey({ catalog }: Rebuilding, key: string | undefined): string | undefined {
  const isPossible = key !== undefined && Buffer.byteLength(key) <= MAX_KEY_BYTES
  return isPossible && !catalog.byKey(key) ? key : undefined
}
