import { isBornElsewhere, isDirectory, isSameKind } from '../../base/attributes.ts'
import { FsError } from '../../base/errors.ts'
import { giveWay } from '../../base/pace.ts'
import { z } from 'zod'
import { type Dirent, fileId, type Inode, type MendNotes, NAME_MAX, noteLost } from '../../catalog/index.ts'
import {
  type DirectoryShard,
  headerKey,
  type RecordedEntry,
  shardKey,
  takeOver,
} from '../../content/index.ts'
import type { OverlayContext } from '../../overlay/index.ts'
import { StoreCorrupt, type StoreError } from '../../store/errors.ts'
import type { Stat } from '../../sys/index.ts'
import { readFile } from '../rebuild/file-record.ts'
import { directoryOf, saveLost } from '../rebuild/place-directories.ts'
import { isOfNoUse, isUnanswered, type StoreReader } from '../rebuild/store-reader.ts'
import { takeDirectory } from './gone.ts'
import { adoptFile, mendFile } from './mend-file.ts'

// Names of a file that are looked at for one that it has left.
const MOST_NAMES = 1024

/** What all steps of a comparison work on. */
export interface MendRun {
  readonly context: OverlayContext
  readonly reader: StoreReader
  readonly notes: MendNotes
  /** Of a name that could not come. */
  refused(directory: bigint, why: string): void
}

interface Place {
  readonly parent: bigint
  readonly name: Buffer
}

/** What a record has brought. */
export interface Mended {
  /** How many names came. */
  came: number
  /** The directory itself became what the record says. */
  taken: boolean
  /** Names were about to leave when it was written, which are noted: who is nowhere else is there. */
  isLeft: boolean
}

/**
 * Gives a directory the names that its record in the store has and the catalog has lost. A name that the catalog does not have for the
 * file, and of which it does not know that it went from there, came after everything that the catalog knows. Names that the record
 * does not have stay: nothing goes on the strength of what is missing. One that is gone from the volume becomes what its record says.
 * @param isLed something leads to the record; of another one, which may be of what was removed, nothing is lost that is missing
 * @throws StoreError, also where the store has no answer for something that it names, once all else of it is done; FsError
 */
export async function mendDirectory(run: MendRun, ino: bigint, isLed = true): Promise<Mended> {
  const { context, reader } = run
  const { catalog } = context
  const directory = catalog.get(ino)
  const result: Mended = { came: 0, taken: false, isLeft: false }
  if (!directory || directory.orphan) return result
  const id = fileId(directory)
  const header = await reader.header(id)
  if (header.ino !== ino || header.generation !== directory.generation)
    throw new StoreCorrupt(`directory record ${id} says that it is of ${fileId(header)}`)
  const { recordGeneration, shards } = header
  catalog.transaction(() => adoptRecord(context, ino, recordGeneration, shards))
  // Where changes go to the volume it has all names.
  if (context.policy().writeTo === 'legacy') return result
  result.taken = takeDirectory(context, ino, header)
  let unanswered: StoreError | undefined
  const open = (error: unknown): undefined => {
    if (!isUnanswered(error)) throw error
    unanswered ??= error
  }
  for (let shard = 0; shard < shards; shard += 1) {
    const { entries, leaving } = await partOf(run, { ino, id, recordGeneration, shard })
    if (leaving.length > 0) result.isLeft = true
    catalog.transaction(() => {
      for (const entry of leaving) run.notes.addLeaving(ino, entry.name, encodeLeaving(entry))
    })
    for (const entry of entries) {
      await giveWay()
      const why = await mendEntry(run, ino, entry, isLed).catch(open)
      if (why === 'came') result.came += 1
      else if (why !== undefined) run.refused(ino, why)
    }
    if (!isLed) continue
    catalog.transaction(() => {
      for (const entry of entries)
        if (catalog.get(entry.ino)?.generation === entry.generation) catalog.doubts.noteNamed(entry.ino)
    })
  }
  if (unanswered) throw unanswered
  return result
}

const encodeLeaving = ({ name: _, ino, from, ...rest }: RecordedEntry): string =>
  JSON.stringify({
    ...rest,
    ino: ino.toString(),
    from: from?.map(({ directory, name }) => ({ directory, name: name.toString('base64') })),
  })

const leavingSchema = z.object({
  ino: z.string(),
  generation: z.number(),
  key: z.string().optional(),
  links: z.number().optional(),
  from: z.array(z.object({ directory: z.string(), name: z.string() })).optional(),
})

/** What `encodeLeaving` made text of. */
export function decodeLeaving(name: Buffer, text: string): RecordedEntry {
  const { ino, generation, key, links, from } = leavingSchema.parse(JSON.parse(text))
  return {
    name,
    ino: BigInt(ino),
    generation,
    key,
    ...(links !== undefined && { links }),
    ...(from && {
      from: from.map((place) => ({ directory: place.directory, name: Buffer.from(place.name, 'base64') })),
    }),
  }
}

/** The names in a part of the record; of a part that is lost none, and the directory is one that lacks names. @throws StoreError */
async function partOf(
  { context, reader }: MendRun,
  { ino, id, recordGeneration, shard }: { ino: bigint; id: string; recordGeneration: number; shard: number },
): Promise<DirectoryShard> {
  try {
    return await reader.shard(id, recordGeneration, shard)
  } catch (error) {
    if (!isOfNoUse(error)) throw error
    loseNames(context, ino, error.message)
    return { entries: [], leaving: [] }
  }
}

/** The directory may have had names that nobody knows. Its record is not written, so what leads to them stays. */
function loseNames({ catalog }: OverlayContext, ino: bigint, why: string): void {
  catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode) return
    noteLost(inode, why)
    catalog.save(inode)
  })
}

/**
 * What was about to leave a directory when its record was written. Where no other record names it, it is there, unless something else has
 * come under that name.
 * @returns whether nobody else has named it, and what has become of the name
 * @throws StoreError
 */
export async function mendLeaving(
  run: MendRun,
  parent: bigint,
  entry: RecordedEntry,
): Promise<{ isOnly: boolean; why: string | undefined }> {
  const { catalog } = run.context
  const known = catalog.get(entry.ino)
  if (known) {
    const isOnly = catalog.doubts.comparedOf(known.ino) === 'not' && !catalog.doubts.isNamed(known.ino)
    if (isOnly) catalog.transaction(() => catalog.doubts.noteNamed(known.ino))
    return { isOnly, why: undefined }
  }
  const isFree = catalog.dirents.get(parent, entry.name)?.ino === undefined
  const name = isFree ? entry.name : freeName(run.context, parent, entry)
  return { isOnly: true, why: await mendEntry(run, parent, { ...entry, name }) }
}

/** The record is the one that is there; all of it is written anew, as nobody knows which parts are as the catalog says. */
function adoptRecord({ catalog }: OverlayContext, ino: bigint, generation: number, shards: number): void {
  const directory = catalog.get(ino)
  if (!directory) return
  directory.dirGeneration = generation
  directory.dirShards = shards
  catalog.save(directory)
  catalog.outbox.keep('dirs', headerKey(fileId(directory)))
  for (let shard = 0; shard < shards; shard += 1)
    catalog.outbox.keep('dirs', shardKey(fileId(directory), generation, shard))
  catalog.outbox.markAllShards(ino)
  catalog.outbox.add('directory', ino)
}

/** @returns `came`, or why it did not; `undefined` if there is nothing to do */
async function mendEntry(
  run: MendRun,
  parent: bigint,
  entry: RecordedEntry,
  isLed = true,
): Promise<string | undefined> {
  const { context, reader } = run
  const { catalog } = context
  const there = catalog.dirents.get(parent, entry.name)
  const known = catalog.get(entry.ino)
  const isSame = known?.generation === entry.generation
  if (isSame && there?.ino === entry.ino) {
    // The catalog may not know yet that the store has it.
    await mendByEntry(run, entry, known.key)
    return undefined
  }
  if (isOlder(context, parent, entry, there)) return undefined
  const stat = changedThere(context, parent, entry.name, there)
  if (stat && known && isSame && !isDirectory(stat.mode) && isThatOne(context, known, stat)) {
    moveTo(run, parent, entry, known.ino)
    return 'came'
  }
  if (stat && !(known === undefined && (await isLaterInStore(reader, entry, stat)))) return undefined
  const name = entry.name.toString()
  if (known && !isSame) {
    const why = `another file has its inode number ${entry.ino}`
    if (isLed) loseNames(context, parent, `${name}: ${why}`)
    return `${name}: ${why}`
  }
  if (known) {
    if (!moveTo(run, parent, entry)) return `${name}: it is below itself`
    await mendByEntry(run, entry, known.key)
    return 'came'
  }
  try {
    if (entry.key === undefined) await adoptDirectory(run, parent, entry)
    else
      await adoptFile(context, reader, entry, entry.key, () => {
        place(run, parent, entry)
        catalog.doubts.note(entry.ino, 'taken')
      })
  } catch (error) {
    if (!isOfNoUse(error)) throw error
    if (isLed) placeLost(run, parent, entry, error.message)
    return `${name}: ${error.message}`
  }
  return 'came'
}

/** Of a file that the catalog has never stored, only the record says under which key the store has it. @throws StoreError */
async function mendByEntry(
  { context, reader }: MendRun,
  { ino, key }: RecordedEntry,
  knownKey: string | undefined,
): Promise<void> {
  if (knownKey !== undefined || key === undefined) return
  try {
    await mendFile(context, reader, ino, key)
  } catch (error) {
    // It is there under its name, in doubt, and is looked at in its own turn.
    if (!isOfNoUse(error)) throw error
  }
}

/** A file or directory of which nothing is left but that the record names it: by its name it is there, as an error. */
function placeLost(run: MendRun, parent: bigint, entry: RecordedEntry, why: string): void {
  const { catalog } = run.context
  const { key } = entry
  catalog.transaction(() => {
    if (catalog.get(entry.ino)) return
    saveLost(catalog, entry, key !== undefined && catalog.byKey(key) ? undefined : key, why)
    place(run, parent, entry)
    catalog.doubts.note(entry.ino, 'nothing newer')
  })
}

/** The record is older than what the catalog has: it went from there, or something that was made since is there. */
function isOlder(
  { catalog }: OverlayContext,
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
  return now !== undefined && now.generation >= catalog.doubts.firstGenerationAfter
}

/** What the volume has there, if the catalog has not met it: it came since, in a mode that writes there, or past the overlay. */
function changedThere(
  context: OverlayContext,
  parent: bigint,
  name: Buffer,
  there: Dirent | undefined,
): Stat | undefined {
  const { catalog } = context
  const tree = context.legacy()
  if (!tree || catalog.get(parent)?.legacyIno === undefined) return undefined
  try {
    const stat = tree.find({ parent, name })
    if (!stat || there?.legacy === undefined) return stat
    const met = catalog.get(there.legacy)
    // Of what is hidden there nobody knows what it was.
    return !met || isThatOne(context, met, stat) ? undefined : stat
  } catch (error) {
    if (error instanceof FsError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined
    throw error
  }
}

/** The volume has this file there. */
function isThatOne({ legacy }: OverlayContext, inode: Inode, stat: Stat): boolean {
  const isSame = inode.legacyIno === stat.ino && inode.legacyDev === legacy()?.deviceOf(stat)
  return isSame && isSameKind(inode.mode, stat.mode) && !isBornElsewhere(inode, stat)
}

/** It is the same file, which was changed later in the store: in a mode that does not write to the volume. @throws StoreError */
async function isLaterInStore(
  reader: StoreReader,
  { ino, generation, key }: RecordedEntry,
  stat: Stat,
): Promise<boolean> {
  if (key === undefined || ino !== stat.ino) return false
  try {
    const { inode } = await readFile(reader, { ino, generation }, key)
    return (inode.ctimeNs ?? 0n) > stat.ctimeNs
  } catch (error) {
    if (!isOfNoUse(error)) throw error
    return false
  }
}

async function adoptDirectory(run: MendRun, parent: bigint, entry: RecordedEntry): Promise<void> {
  const { context, reader } = run
  const { catalog } = context
  const header = await reader.header(fileId(entry))
  if (header.ino !== entry.ino || header.generation !== entry.generation)
    throw new StoreCorrupt(`directory record ${fileId(entry)} says that it is of ${fileId(header)}`)
  catalog.transaction(() => {
    if (catalog.get(entry.ino)) return
    catalog.save(directoryOf(header, entry.ino))
    place(run, parent, entry)
    // What is in it has yet to come.
    catalog.doubts.note(entry.ino, 'not')
    catalog.doubts.noteNamed(entry.ino)
  })
}

/**
 * A file that the catalog has in another place, as one more name of it; the names that it had left by then go, and of a file with one
 * name the one that the catalog knows. False for a directory that would be below itself.
 * @param onVolume its number, where it is there on the volume as well, which goes on to have the truth
 */
function moveTo(run: MendRun, parent: bigint, entry: RecordedEntry, onVolume?: bigint): boolean {
  const { context } = run
  const { catalog } = context
  const { ino, links: had = 1, from = [] } = entry
  return catalog.transaction(() => {
    const inode = catalog.get(ino)
    if (!inode || catalog.links.isBelow(parent, ino)) return false
    const isLinked = !isDirectory(inode.mode) && (had > 1 || inode.nlink > 1)
    const links = [...catalog.links.of(ino).take(MOST_NAMES)]
    const hasLeft = (link: Dirent): boolean => {
      const directory = catalog.get(link.parent)
      const id = directory && fileId(directory)
      return from.some((place) => place.directory === id && place.name.equals(link.name))
    }
    if (inode.authority === 'legacy' && onVolume === undefined) {
      try {
        takeOver(context, ino)
      } catch (error) {
        // It is gone from the volume: the store has it, which is looked at in its own turn.
        if (!(error instanceof FsError)) throw error
      }
    }
    place(run, parent, entry, onVolume)
    for (const link of links) {
      if (isLinked && !hasLeft(link)) continue
      catalog.dirents.set(link.parent, link.name, undefined, onVolume === undefined ? link.legacy : undefined)
      addLinks(context, ino, -1)
    }
    if (catalog.doubts.comparedOf(ino) === 'not') catalog.doubts.noteNamed(ino)
    else catalog.doubts.note(ino, 'taken')
    return true
  })
}

/**
 * Within a transaction: the name is this file's, and no other's. What the catalog has there is set aside until all records were read:
 * it may be named elsewhere, or lost.
 */
function place(run: MendRun, parent: bigint, { name, ino }: RecordedEntry, onVolume?: bigint): void {
  const { context, notes } = run
  const { catalog } = context
  const there = catalog.dirents.get(parent, name)
  catalog.dirents.set(parent, name, ino, onVolume ?? there?.legacy)
  if (there?.ino !== undefined && there.ino !== ino) {
    const place = { parent, name: freeName(context, parent, { name, ino: there.ino }) }
    catalog.dirents.set(place.parent, place.name, there.ino, undefined)
    notes.addAside(place.parent, place.name, there.ino)
  }
  addLinks(context, ino, 1)
}

/** A name that nobody has in the directory: the file's number behind its own. */
function freeName(
  { catalog }: OverlayContext,
  parent: bigint,
  { name, ino }: Pick<Dirent, 'name'> & { ino: bigint },
): Buffer {
  for (let nth = 0; ; nth += 1) {
    const suffix = Buffer.from(`.${ino.toString(16)}${nth === 0 ? '' : `-${nth}`}`)
    const free = Buffer.concat([name.subarray(0, NAME_MAX - suffix.length), suffix])
    if (!catalog.dirents.get(parent, free)) return free
  }
}

/** Takes the name from a file or an empty directory that was set aside: it was replaced. Within a transaction. */
export function takeAside(
  { context }: MendRun,
  { parent, name, ino }: Place & { readonly ino: bigint },
): void {
  const { catalog } = context
  const inode = catalog.get(ino)
  const isFull = inode !== undefined && isDirectory(inode.mode) && catalog.dirents.count(ino) > 0
  if (isFull || catalog.dirents.get(parent, name)?.ino !== ino) return
  catalog.dirents.set(parent, name, undefined, undefined)
  addLinks(context, ino, -1)
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
