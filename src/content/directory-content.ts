import { isDirectory } from '../base/attributes.ts'
import {
  bucketsOf,
  type Catalog,
  type Departure,
  fileId,
  type Inode,
  isUnmet,
  mayBeElsewhere,
} from '../catalog/index.ts'
import type { FormerPlace, RecordedEntry } from './directory-record.ts'

const NAMES_LOOKED_AT = 64

/** What one shard of a directory's record has to say. */
export interface ShardContent {
  readonly entries: RecordedEntry[]
  /** Names that are not in the directory any more, of files that no other record in the store leads to yet. */
  readonly leaving: RecordedEntry[]
  /** Names that this shard has no more. */
  readonly gone: Departure[]
}

/** How a directory's record lies in the store, or is about to. */
export interface Sharding {
  readonly shards: number
  /** Whether what the catalog has in this shard is durable in the store. */
  isDurable(shard: number): boolean
}

/**
 * What one shard of a directory's record has to say of what is in the directory, in the order of the catalog. Where a file had been
 * is said with the first of its names: with all of them a file of many names would make the record as large as their square.
 */
export function entriesToRecord(
  catalog: Catalog,
  ino: bigint,
  shard: number,
  shards: number,
): RecordedEntry[] {
  const entries: RecordedEntry[] = []
  const anyMoved = !catalog.departures.isEmpty
  const said = new Set<bigint>()
  for (const entry of catalog.records.shardEntries(ino, shard, shards)) {
    if (!isInStore(entry)) continue
    entries.push(entryOf(catalog, entry.name, entry, anyMoved && !said.has(entry.ino)))
    said.add(entry.ino)
  }
  return entries
}

/**
 * All that the shard has to say now. A name that goes from it stays as `leaving` until the catalog's own path to that file, from
 * the root or from this directory down, is durable in the store: so at every moment some record leads to it.
 */
export function contentOf(catalog: Catalog, directory: Inode, shard: number, own: Sharding): ShardContent {
  const { shards } = own
  const leaving: RecordedEntry[] = []
  const gone: Departure[] = []
  const path = new DurablePath(catalog, directory.ino, { ...own, writing: shard })
  const { from, to } = bucketsOf(shard, shards)
  for (const departure of catalog.departures.of(directory, from, to)) {
    const file = living(catalog, departure)
    const kept = file ? !path.leadsTo(file) && file : vanished(catalog, departure)
    // One that is not in the store yet is named here once it is.
    if (!kept) gone.push(departure)
    else if (isInStore(kept)) leaving.push(entryOf(catalog, departure.name, kept, false))
  }
  return { entries: entriesToRecord(catalog, directory.ino, shard, shards), leaving, gone }
}

/**
 * The directories whose records have to be written before names can leave this one's, each before those above it. Some of them,
 * where they are many.
 */
export function writtenBefore(catalog: Catalog, directory: Inode, most: number): bigint[] {
  const found = new Set<bigint>()
  const seen = new Set<bigint>()
  for (const departure of catalog.departures.below(directory, 256)) {
    const file = living(catalog, departure)
    for (const ino of file ? owedOnWay(catalog, directory.ino, file, seen) : []) found.add(ino)
    if (found.size >= most) break
  }
  return [...found].slice(0, most)
}

/** A file is in a record once its object is in the store, a directory once its own record is: nobody finds a name without them. */
function isInStore(inode: Pick<Inode, 'mode' | 'dirShards' | 'version'>): boolean {
  return isDirectory(inode.mode) ? inode.dirShards > 0 : inode.version > 0
}

function entryOf(
  catalog: Catalog,
  name: Buffer,
  inode: Pick<Inode, 'ino' | 'generation' | 'key' | 'nlink' | 'mode'>,
  mayHaveMoved: boolean,
): RecordedEntry {
  const { ino, generation, key, nlink } = inode
  const from = mayHaveMoved ? catalog.departures.placesOf(inode).map(placeOf) : []
  return {
    name,
    ino,
    generation,
    ...(isDirectory(inode.mode) ? { key: undefined } : { key }),
    ...(!isDirectory(inode.mode) && nlink > 1 ? { links: nlink } : {}),
    ...(from.length > 0 ? { from } : {}),
  }
}

const placeOf = ({ directory, name }: Departure): FormerPlace => ({ directory: fileId(directory), name })

/** The file that went, if it is somewhere else now and in the store. */
function living(catalog: Catalog, { file }: Departure): Inode | undefined {
  const inode = catalog.get(file.ino)
  if (inode?.generation !== file.generation || inode.orphan || !isInStore(inode)) return undefined
  return catalog.links.first(inode.ino) ? inode : undefined
}

/** The file that went, if it may be, or is, somewhere on the volume where nobody has met it yet. */
export function vanished(catalog: Catalog, { file }: Departure): Inode | undefined {
  const inode = catalog.get(file.ino)
  if (inode?.generation !== file.generation) return undefined
  return mayBeElsewhere(catalog, inode) || isUnmet(catalog, inode) ? inode : undefined
}

/** What the catalog says of the way to a file, as far as the records in the store say the same. */
class DurablePath {
  readonly #catalog: Catalog
  readonly #start: bigint
  readonly #own: Sharding & { readonly writing: number }
  readonly #known = new Map<bigint, boolean>()
  readonly #files = new Map<bigint, boolean>()

  constructor(catalog: Catalog, start: bigint, own: Sharding & { readonly writing: number }) {
    this.#catalog = catalog
    this.#start = start
    this.#own = own
  }

  /** Of a file with very many names some are looked at: where none of those leads there, the name stays for now. */
  leadsTo({ ino }: Inode): boolean {
    let leads = this.#files.get(ino)
    if (leads === undefined) {
      leads = this.#catalog.links
        .of(ino)
        .take(NAMES_LOOKED_AT)
        .some((link) => this.#isNamed(link.parent, link.name) && this.#reaches(link.parent))
      this.#files.set(ino, leads)
    }
    return leads
  }

  /** Whether the records lead from the root, or from where the name is to go, to this directory. */
  #reaches(ino: bigint): boolean {
    const seen: bigint[] = []
    let reached = false
    for (let current = ino; ; ) {
      const known = current === this.#start || current === 1n ? true : this.#known.get(current)
      if (known !== undefined) {
        reached = known
        break
      }
      seen.push(current)
      // Not known is not durable: a way that leads back to itself ends here.
      this.#known.set(current, false)
      const link = this.#catalog.links.first(current)
      if (!link || !this.#isNamed(link.parent, link.name)) break
      current = link.parent
    }
    for (const one of seen) this.#known.set(one, reached)
    return reached
  }

  #isNamed(directory: bigint, name: Buffer): boolean {
    if (directory === this.#start) {
      const shard = this.#catalog.buckets.shard(name, this.#own.shards)
      return shard === this.#own.writing || this.#own.isDurable(shard)
    }
    return isDurablyNamed(this.#catalog, directory, name)
  }
}

function isDurablyNamed(catalog: Catalog, directory: bigint, name: Buffer): boolean {
  const shards = catalog.get(directory)?.dirShards ?? 0
  return shards > 0 && !catalog.outbox.isDirtyShard(directory, catalog.buckets.shard(name, shards))
}

/** Directories on the way to the file, from below, whose records do not name what is below them; not those `seen` already. */
function owedOnWay(catalog: Catalog, start: bigint, file: Inode, seen: Set<bigint>): bigint[] {
  const owed: bigint[] = []
  for (let below = file; ; ) {
    const link = catalog.links.first(below.ino)
    const parent = link && catalog.get(link.parent)
    if (!parent || parent.ino === start || seen.has(parent.ino)) return owed
    seen.add(parent.ino)
    if (!isInStore(below) || !isDurablyNamed(catalog, parent.ino, link.name)) owed.push(parent.ino)
    below = parent
  }
}
