import { isDirectory, isRegular } from '../../base/attributes.ts'
import { FsError } from '../../base/errors.ts'
import { giveWay } from '../../base/pace.ts'
import {
  DIRTY_CONTENT,
  type Incoming,
  type Inode,
  isStored,
  LAYOUT_INLINE,
  noteLost,
} from '../../catalog/index.ts'
import { ALL_ZEROS, legacyStat, listedObjects, MOST_LEVELS, takeOver, zerosOf } from '../../content/index.ts'
import { newInode, type OverlayContext } from '../../overlay/index.ts'
import { blocksIn, type FoundFile, readFile } from '../rebuild/file-record.ts'
import type { StoreReader } from '../rebuild/store-reader.ts'
import { StoreCorrupt } from '../../store/errors.ts'
import type { Stat } from '../../sys/index.ts'
import { isGoneFromVolume } from './gone.ts'

const ROWS_AT_ONCE = 256

/**
 * Takes a file from the store where the catalog has lost a newer version of it. It is newer for certain where the catalog, as it is,
 * owed the store nothing of the file; else where its ctime is later than that of what the catalog has. What was staged of an older
 * state is given up: a copy of it was kept. What the volume still has is as good as the store's, unless that was changed later: by
 * somebody in a mode that changes the store alone.
 * @param key of its object where the catalog knows none
 * @returns whether it was taken
 * @throws StoreError; of a file that is gone from the volume also where the store has none, or an older one than it has had
 */
export async function mendFile(
  context: OverlayContext,
  reader: StoreReader,
  ino: bigint,
  key?: string,
): Promise<boolean> {
  const { catalog } = context
  const known = catalog.get(ino)
  const at = known?.key ?? key
  if (!known || known.orphan || isDirectory(known.mode)) return false
  const isGone = isGoneFromVolume(context, known)
  const stat = isGone ? undefined : statOnVolume(context, known)
  if (known.authority === 'legacy' && !isGone && (!stat || at === undefined)) return false
  if (at === undefined) {
    if (!isGone) return false
    throw new StoreCorrupt('no record says under which key the store has it')
  }
  const found = await readFile(reader, known, at)
  if (stat ? !isLaterThanVolume(known, found, stat) : !isNewer(context, known, found)) {
    if (!isGone) return false
    const { version } = found.inode
    throw new StoreCorrupt(`object ${at}: the store has version ${version}, and has had ${known.version}`)
  }
  const blocks = await noteContent(context, reader, found)
  catalog.transaction(() => {
    if (stat) takeOver(context, ino)
    take(context, known, found, blocks)
  })
  return true
}

/** What the volume has of a file that is its own, where changes go to the store. */
function statOnVolume(context: OverlayContext, known: Inode): Stat | undefined {
  if (known.authority !== 'legacy' || context.policy().writeTo !== 'store' || !context.legacy())
    return undefined
  try {
    return legacyStat(context, known)
  } catch (error) {
    // On a disk that is missing.
    if (error instanceof FsError) return undefined
    throw error
  }
}

/**
 * A mode that writes to the volume copies from there, times included: so what is later in the store was changed there alone. Names that
 * `drain` has removed since move the time of change of what is left.
 */
function isLaterThanVolume(known: Inode, { inode }: FoundFile, stat: Stat): boolean {
  const { version = 0, ctimeNs = 0n, mtimeNs = 0n } = inode
  if (version <= known.version) return false
  return stat.nlink < known.nlink ? mtimeNs > stat.mtimeNs : ctimeNs > stat.ctimeNs
}

/** A file of which the catalog knows nothing. Its name is put by `place`, in the same transaction. @throws StoreError */
export async function adoptFile(
  context: OverlayContext,
  reader: StoreReader,
  file: Pick<Inode, 'ino' | 'generation'>,
  key: string,
  place: () => void,
): Promise<void> {
  const found = await readFile(reader, file, key)
  const blocks = await noteContent(context, reader, found)
  const { catalog } = context
  catalog.transaction(() => {
    if (catalog.get(file.ino)) return
    catalog.save({ ...newInode(file.ino, file.generation), nlink: 0 })
    take(context, file, found, blocks)
    place()
  })
}

function isNewer({ catalog }: OverlayContext, known: Inode, { inode }: FoundFile): boolean {
  const { version = 0, ctimeNs = 0n } = inode
  if (known.authority === 'legacy') return version >= known.version
  if (version <= known.version) return false
  const owesNothing = known.dirty === 0 && known.staged === 0 && !catalog.outbox.find('upload', known.ino)
  return (owesNothing && isStored(known)) || ctimeNs > known.ctimeNs
}

/**
 * Notes beside what the catalog has what the newer version is made of, and what it has no more.
 * @returns the blocks of 512 bytes that it takes
 */
async function noteContent(context: OverlayContext, reader: StoreReader, found: FoundFile): Promise<number> {
  const { catalog } = context
  const { content } = catalog
  const { record } = found
  const { generation, attributes } = record
  while (catalog.transaction(() => content.dropIncoming(generation))) await giveWay()
  let blocks = 0
  let rows: Incoming[] = []
  const note = (): void => {
    catalog.transaction(() => {
      for (const row of rows) content.setIncoming(generation, row)
    })
    rows = []
  }
  if (record.content.kind !== 'inline' && isRegular(attributes.mode)) {
    const get = async (key: string): Promise<Buffer> => (await reader.newest('chunks', key)).value
    for await (const row of listedObjects(record, record.content, attributes.size, get)) {
      if (row.level === 0) blocks += blocksIn(row.zeros, row.index, attributes.size)
      if (rows.push(row) < ROWS_AT_ONCE) continue
      note()
      await giveWay()
    }
    note()
  } else if (isRegular(attributes.mode) && record.content.kind === 'inline') {
    blocks = blocksIn(zerosIn(record.content.bytes), 0, attributes.size)
  }
  for (let level = 0; level <= MOST_LEVELS; level += 1) {
    for (const { index } of content.hashesFrom(generation, level, 0)) {
      if (content.incoming(generation, level, index, 1)[0]?.index === index) continue
      if (rows.push({ level, index, hash: undefined, zeros: undefined }) < ROWS_AT_ONCE) continue
      note()
      await giveWay()
    }
    note()
  }
  return blocks
}

const zerosIn = (bytes: Buffer): Buffer | undefined => {
  const zeros = zerosOf(bytes)
  return zeros === 'all' ? ALL_ZEROS : zeros
}

/** All of the change in one transaction: nobody is served yet, and half of it would be a mixture of two versions. */
function take(
  { catalog, staging }: OverlayContext,
  { ino }: Pick<Inode, 'ino'>,
  { record, inode: taken }: FoundFile,
  blocks: number,
): void {
  const inode = catalog.get(ino)
  if (!inode) return
  const { content } = catalog
  const { generation } = inode
  const other = taken.key === undefined ? undefined : catalog.byKey(taken.key)
  if (other && other.ino !== ino) {
    // The object under its key is this file's: the other one was removed, and its object deleted.
    other.key = undefined
    if (other.authority === 'catalog') noteLost(other, 'the store has another file under its key')
    else other.dirty |= DIRTY_CONTENT
    catalog.save(other)
    if (other.authority === 'legacy' && !other.orphan) catalog.outbox.add('upload', other.ino)
  }
  // What another state of the catalog has given up may be in use again.
  if (taken.key !== undefined) catalog.outbox.keep('files', taken.key)
  const isInline = taken.layout === LAYOUT_INLINE
  if (!isInline || !content.isPlain(generation)) {
    for (let isMore = true; isMore; ) {
      isMore = content.hasMuchIncoming(generation)
      content.moveIncoming(inode)
    }
  }
  if (isInline && record.content.kind === 'inline' && isRegular(record.attributes.mode))
    content.setInline(generation, zerosIn(record.content.bytes))
  const { nlink, staged } = inode
  Object.assign(inode, taken, {
    blocks,
    nlink,
    staged: 0,
    truncating: undefined,
    dirty: 0,
    failure: undefined,
    fingerprint: undefined,
    superseded: undefined,
  })
  while (!catalog.staged.drop(ino, 0)) continue
  const owed = catalog.outbox.find('upload', ino)
  if (owed) catalog.outbox.done(owed)
  catalog.save(inode)
  catalog.afterCommit(() => staging.release(inode, staged))
}
