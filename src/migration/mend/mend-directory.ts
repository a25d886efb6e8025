import { isDirectory } from '../../base/attributes.ts'
import { FsError } from '../../base/errors.ts'
import { giveWay } from '../../base/pace.ts'
import { type Dirent, fileId, type Inode, ROOT_INO } from '../../catalog/index.ts'
import { type RecordedEntry, shardKey, takeOver } from '../../content/index.ts'
import type { OverlayContext } from '../../overlay/index.ts'
import { StoreCorrupt } from '../../store/errors.ts'
import { directoryOf } from '../rebuild/place-directories.ts'
import { isOfNoUse, type StoreReader } from '../rebuild/store-reader.ts'
import { adoptFile, mendFile } from './mend-file.ts'

const MOST_DEPTH = 4096

/**
 * Gives a directory the names that its record in the store has and the catalog has lost. A name that the catalog does not have for the
 * file, and of which it does not know that it went from there, came after everything that the catalog knows. Names that the record
 * does not have stay: nothing goes on the strength of what is missing.
 * @returns how many names came, and why some could not
 * @throws StoreError, FsError
 */
export async function mendDirectory(
  context: OverlayContext,
  reader: StoreReader,
  ino: bigint,
): Promise<{ came: number; refused: string[] }> {
  const { catalog } = context
  const directory = catalog.get(ino)
  const result = { came: 0, refused: [] as string[] }
  if (!directory || directory.orphan) return result
  const id = fileId(directory)
  const { recordGeneration, shards } = await reader.header(id)
  catalog.transaction(() => adoptRecord(context, ino, recordGeneration, shards))
  // Where changes go to the volume it has all names.
  if (context.policy().writeTo === 'legacy') return result
  for (let shard = 0; shard < shards; shard += 1) {
    const { entries } = await reader.shard(id, recordGeneration, shard)
    for (const entry of entries) {
      await giveWay()
      const why = await mendEntry(context, reader, ino, entry)
      if (why === 'came') result.came += 1
      else if (why !== undefined) result.refused.push(why)
    }
  }
  return result
}

/** The record is the one that is there; all of it is written anew, as nobody knows which parts are as the catalog says. */
function adoptRecord({ catalog }: OverlayContext, ino: bigint, generation: number, shards: number): void {
  const directory = catalog.get(ino)
  if (!directory) return
  directory.dirGeneration = generation
  directory.dirShards = shards
  catalog.save(directory)
  for (let shard = 0; shard < shards; shard += 1)
    catalog.outbox.keep('dirs', shardKey(fileId(directory), generation, shard))
  catalog.outbox.markAllShards(ino)
  catalog.outbox.add('directory', ino)
}

/** @returns `came`, or why it did not; `undefined` if there is nothing to do */
async function mendEntry(
  context: OverlayContext,
  reader: StoreReader,
  parent: bigint,
  entry: RecordedEntry,
): Promise<string | undefined> {
  const { catalog } = context
  const there = catalog.dirents.get(parent, entry.name)
  const known = catalog.get(entry.ino)
  const isSame = known?.generation === entry.generation
  if (isSame && there?.ino === entry.ino) {
    // The catalog may not know yet that the store has it.
    if (known.key === undefined && entry.key !== undefined)
      await mendFile(context, reader, entry.ino, entry.key)
    return undefined
  }
  if (isOlder(context, parent, entry, there)) return undefined
  const name = entry.name.toString()
  if (known && !isSame) return `${name}: another file has its inode number ${entry.ino}`
  if (!mayReplace(context, there, entry)) return `${name}: a directory that is not empty is in its place`
  if (known) return moveTo(context, parent, entry) ? 'came' : `${name}: it is in more places, or below itself`
  try {
    if (entry.key === undefined) await adoptDirectory(context, reader, parent, entry)
    else await adoptFile(context, reader, entry, entry.key, () => place(context, parent, entry))
  } catch (error) {
    if (!isOfNoUse(error)) throw error
    return `${name}: ${error.message}`
  }
  return 'came'
}

/** The record is older than what the catalog has: it went from there, something that was made since is there, or the volume has it. */
function isOlder(
  { catalog, legacy }: OverlayContext,
  parent: bigint,
  { name, ino, generation }: RecordedEntry,
  there: Dirent | undefined,
): boolean {
  const directory = catalog.get(parent)
  if (!directory) return true
  const bucket = catalog.buckets.of(name)
  const gone = catalog.departures
    .of(directory, bucket, bucket + 1)
    .some(
      (departure) =>
        departure.name.equals(name) && departure.file.ino === ino && departure.file.generation === generation,
    )
  if (gone) return true
  const now = there?.ino === undefined ? undefined : catalog.get(there.ino)
  if (now && now.generation >= catalog.doubts.firstGenerationAfter) return true
  if (directory.legacyIno === undefined) return false
  try {
    const stat = legacy()?.find({ parent, name })
    return stat !== undefined && there?.legacy === undefined
  } catch (error) {
    if (error instanceof FsError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return false
    throw error
  }
}

function mayReplace({ catalog }: OverlayContext, there: Dirent | undefined, entry: RecordedEntry): boolean {
  const now = there?.ino === undefined ? undefined : catalog.get(there.ino)
  if (!now || !isDirectory(now.mode)) return true
  return entry.key === undefined && catalog.dirents.count(now.ino) === 0
}

async function adoptDirectory(
  context: OverlayContext,
  reader: StoreReader,
  parent: bigint,
  entry: RecordedEntry,
): Promise<void> {
  const { catalog } = context
  const header = await reader.header(fileId(entry))
  if (header.ino !== entry.ino || header.generation !== entry.generation)
    throw new StoreCorrupt(`directory record ${fileId(entry)} says that it is of ${fileId(header)}`)
  catalog.transaction(() => {
    if (catalog.get(entry.ino)) return
    catalog.save(directoryOf(header, entry.ino))
    place(context, parent, entry)
    // What is in it has yet to come.
    catalog.doubts.note(entry.ino, 'not')
  })
}

/** A file that the catalog has in another place. With more names than the catalog knows it gets this one, else it was moved. */
function moveTo(context: OverlayContext, parent: bigint, entry: RecordedEntry): boolean {
  const { catalog } = context
  return catalog.transaction(() => {
    const [link, ...others] = [...catalog.links.of(entry.ino).take(2)]
    const inode = catalog.get(entry.ino)
    if (!inode || isBelow(context, parent, entry.ino)) return false
    const isLink = !isDirectory(inode.mode) && (entry.links ?? 1) > inode.nlink
    if (!isLink && others.length > 0) return false
    if (inode.authority === 'legacy') {
      try {
        takeOver(context, entry.ino)
      } catch (error) {
        // It is gone from the volume: the store has it, which is looked at in its own turn.
        if (!(error instanceof FsError)) throw error
      }
    }
    if (!isLink && link) {
      catalog.dirents.set(link.parent, link.name, undefined, link.legacy)
      addLinks(context, entry.ino, -1)
    }
    place(context, parent, entry)
    return true
  })
}

function isBelow({ catalog }: OverlayContext, directory: bigint, ino: bigint): boolean {
  let at = directory
  for (let depth = 0; depth < MOST_DEPTH && at !== ROOT_INO; depth += 1) {
    if (at === ino) return true
    const link = catalog.links.first(at)
    if (!link) return false
    at = link.parent
  }
  return at !== ROOT_INO
}

/** Within a transaction: the name is this file's, and no other's. */
function place(context: OverlayContext, parent: bigint, { name, ino }: RecordedEntry): void {
  const { catalog } = context
  const there = catalog.dirents.get(parent, name)
  catalog.dirents.set(parent, name, ino, there?.legacy)
  if (there?.ino !== undefined && there.ino !== ino) addLinks(context, there.ino, -1)
  addLinks(context, ino, 1)
  catalog.doubts.note(ino, 'taken')
}

/** Of a directory nobody counts names. */
function addLinks({ catalog }: OverlayContext, ino: bigint, more: number): void {
  const inode: Inode | undefined = catalog.get(ino)
  if (!inode) return
  const isLast = more < 0 && catalog.links.first(ino) === undefined
  if (!isDirectory(inode.mode)) inode.nlink = Math.max(isLast ? 0 : 1, inode.nlink + more)
  if (isLast) inode.orphan = true
  else inode.orphan = false
  if (isLast && isDirectory(inode.mode)) inode.nlink = 0
  catalog.save(inode)
}
