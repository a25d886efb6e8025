import { isDirectory, isRegular, isSymlink } from '../base/attributes.ts'
import { BoundedList } from '../base/bounded-list.ts'
import { Semaphore } from '../base/concurrency.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import { fileId, type Inode, isChunked, isLost, isStored, lacksNames, ROOT_INO } from '../catalog/index.ts'
import {
  CHUNK_BYTES,
  chunkCount,
  type DirectoryWriter,
  decodeFileObject,
  decodeHeader,
  decodeShard,
  entriesToRecord,
  headerKey,
  legacyStat,
  listedObjects,
  matches,
  type RecordedEntry,
  type StoredContent,
  shardKey,
} from '../content/index.ts'
import { isMissingDisk, NOT_MOUNTED, REMOVED } from '../legacy/index.ts'
import { firstHiding, HIDDEN, isOnMissingDisk, type OverlayContext } from '../overlay/index.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../store/errors.ts'
import { printable } from '../sys/index.ts'
import { CHANGED_ON_BOTH_SIDES, isChangedOnBothSides } from './both-sides.ts'
import { writeAgain } from './lost.ts'
import { ProgressMeter, type RunProgress } from './progress.ts'

export interface FoundDifference {
  readonly path: string
  readonly kind: 'missing' | 'corrupt' | 'differs' | 'unreadable' | 'pending' | 'doubtful'
  readonly detail: string
}

const AT_ONCE = 8
// The catalog says that it is there, not which version: what a quorum does not find is looked for everywhere.
const ANY_VERSION = { expect: { epoch: 0, version: 0 } }

export const noDifferences = (): BoundedList<FoundDifference> =>
  new BoundedList(({ path, detail }) => path.length + detail.length)

/**
 * Reads every stored object back and compares it with its checksum, with the catalog and, where there is one that should
 * be equal, with the legacy copy byte for byte. Files that are waiting to be stored are not part of it. What is damaged or
 * lost is listed, and written again where it can be had without the store.
 * @param differences what was found before, with which the list begins
 */
export async function verify(
  context: OverlayContext,
  parts: { readonly directories: DirectoryWriter; readonly stored: StoredContent },
  run: { onProgress: (progress: RunProgress) => void; signal: AbortSignal },
  differences = noDifferences(),
): Promise<{
  files: number
  bytes: number
  differences: readonly FoundDifference[]
  differenceCount: number
}> {
  const { catalog } = context
  const totals = catalog.lists.totals()
  const meter = new ProgressMeter('verifying', run.onProgress)
  meter.filesTotal = totals.stored
  meter.bytesTotal = totals.storedBytes
  const slots = new Semaphore(AT_ONCE)
  const underWay = new Set<Promise<void>>()
  for (const { ino, mode } of catalog.scan()) {
    run.signal.throwIfAborted()
    await giveWay()
    await slots.acquire()
    const check = isDirectory(mode)
      ? verifyDirectory(context, parts.directories, ino)
      : verifyFile(context, parts.stored, ino, meter)
    const task = check
      .then((found) => {
        if (found) differences.add({ path: differences.hasRoom ? shownPath(context, ino) : '', ...found })
      })
      .finally(() => {
        slots.release()
        underWay.delete(task)
      })
    underWay.add(task)
  }
  await Promise.all(underWay)
  meter.tick(true)
  for (const one of doubtful(context)) {
    differences.add(one)
    await giveWay()
  }
  const { items, count } = differences
  return { files: meter.files, bytes: meter.bytes, differences: items, differenceCount: count }
}

// What is beyond is told by the line about the loss.
const DOUBTFUL_LISTED = 10_000

/** What is said of a file that may be older than what was acknowledged. */
export const IN_DOUBT = {
  not: 'it may be older than what was acknowledged, and the store could not be asked yet: mount again when it answers',
  'nothing newer': 'it may be older than what was acknowledged; the store has nothing newer',
  taken:
    'taken from the store, which had it newer than the catalog; it may still be older than what was acknowledged',
} as const

/** What may be older than what was acknowledged, since the store or the catalog has lost some of it. */
function* doubtful(context: OverlayContext): Generator<FoundDifference> {
  const { doubts } = context.catalog
  const { damage } = context.store.capabilities
  if (damage !== undefined) yield { path: '.', kind: 'doubtful', detail: damage }
  const losses = doubts.losses()
  for (const { since, detail } of losses)
    yield {
      path: '.',
      kind: 'doubtful',
      detail: `${since.toISOString()}: ${detail}; compare, then 'ferryfs verify --accept-losses'`,
    }
  for (const { ino, compared } of losses.length > 0 ? doubts.files(DOUBTFUL_LISTED) : [])
    yield { path: shownPath(context, ino), kind: 'doubtful', detail: doubtOf(context, ino, compared) }
}

/** With what to look for in the store, where that has no answer. */
function doubtOf({ catalog }: OverlayContext, ino: bigint, compared: keyof typeof IN_DOUBT): string {
  const inode = compared === 'not' ? catalog.get(ino) : undefined
  const key = inode && (isDirectory(inode.mode) ? headerKey(fileId(inode)) : inode.key)
  if (key === undefined) return IN_DOUBT[compared]
  return `${IN_DOUBT[compared]}; if it has no answer for this alone: its object there is ${key}, which is lost once it is deleted`
}

type Finding = Omit<FoundDifference, 'path'>
type FailedCheck = Finding & { readonly error?: unknown }

async function verifyFile(
  context: OverlayContext,
  stored: StoredContent,
  ino: bigint,
  meter: ProgressMeter,
): Promise<Finding | undefined> {
  const inode = context.catalog.get(ino)
  if (!inode || inode.orphan) return undefined
  const finding = await verifyStored(context, stored, inode, meter)
  if (finding) return finding
  // What the store has may be older than what nobody can look at.
  if (isOnMissingDisk(context, inode)) return { kind: 'unreadable', detail: NOT_MOUNTED }
  const now = context.catalog.get(ino)
  if (now && isChangedOnBothSides(context, now)) return { kind: 'differs', detail: CHANGED_ON_BOTH_SIDES }
  return undefined
}

async function verifyStored(
  context: OverlayContext,
  stored: StoredContent,
  inode: Inode,
  meter: ProgressMeter,
): Promise<Finding | undefined> {
  const { ino } = inode
  // It waits to be stored; what it has so far has to be there.
  try {
    if (inode.staged) await context.writer.check(ino)
    await context.reader.requireBase(ino)
  } catch (error) {
    const now = context.catalog.get(ino)
    return now && !now.orphan ? findingOf(error) : undefined
  }
  if (isLost(inode)) return { kind: 'missing', detail: inode.failure ?? 'it was lost' }
  if (!isStored(inode)) return undefined
  const { version } = inode
  const finding = await compare(context, stored, ino)
  const now = context.catalog.get(ino)
  // Written again while it was compared: the next run will see it.
  if (!now || now.orphan || now.version !== version || now.dirty !== 0) return undefined
  meter.files += 1
  meter.bytes += inode.size
  meter.tick()
  return finding && repaired(context, ino, finding)
}

async function compare(
  context: OverlayContext,
  stored: StoredContent,
  ino: bigint,
): Promise<FailedCheck | undefined> {
  const inode = context.catalog.get(ino)
  if (!inode) return undefined
  const { version } = inode
  try {
    await compareObject(context, inode)
    // Others have their answer in this turn as well.
    await giveWay()
    let legacy = comparesWithLegacy(context, inode)
    if (legacy === 'changed') {
      return {
        kind: 'pending',
        detail: 'the legacy file was changed past the overlay and is to be copied again',
      }
    }
    if (!isRegular(inode.mode)) return undefined
    for await (const index of chunksToCompare(context, inode, legacy === 'equal')) {
      await giveWay()
      const now = context.catalog.get(ino)
      // Written again meanwhile, and perhaps shorter: the next run will see it.
      if (now?.version !== version) return undefined
      const bytes = await stored.readBack(now, index)
      if (legacy !== 'equal') continue
      if (await isOnVolume(context, ino, index, bytes)) continue
      // Changed or removed while it was read: no difference to the one that was copied.
      legacy = comparesWithLegacy(context, inode)
      if (legacy === 'changed') return undefined
      if (legacy === 'equal')
        return {
          kind: 'differs',
          detail: `the legacy copy has other bytes from offset ${index * CHUNK_BYTES} on`,
        }
    }
    return undefined
  } catch (error) {
    return findingOf(error)
  }
}

/**
 * Chunks with something in them, ascending: in the store, and on the volume if that has to be the same. Where neither has
 * anything both have a hole.
 */
async function* chunksToCompare(
  context: OverlayContext,
  { ino, generation, layout, storedSize }: Inode,
  withLegacy: boolean,
): AsyncGenerator<number> {
  const inStore = storedChunks(context.catalog, { generation, layout, storedSize })
  let stored = inStore.next()
  if (withLegacy) {
    for await (const onVolume of context.legacyFiles.dataChunks(ino, chunkCount(storedSize))) {
      for (; !stored.done && stored.value < onVolume; stored = inStore.next()) yield stored.value
      if (!stored.done && stored.value === onVolume) stored = inStore.next()
      yield onVolume
    }
  }
  for (; !stored.done; stored = inStore.next()) yield stored.value
}

/** Chunks of the stored version that are not holes, ascending from one on. */
export function* storedChunks(
  catalog: OverlayContext['catalog'],
  { generation, layout, storedSize }: Pick<Inode, 'generation' | 'layout' | 'storedSize'>,
  from = 0,
): Generator<number, undefined> {
  if (isChunked({ layout })) {
    for (const { index } of catalog.content.hashesFrom(generation, 0, from)) yield index
  } else if (storedSize > 0 && from === 0) {
    yield 0
  }
}

/** @throws FsError if the legacy copy cannot be read though it is there */
async function isOnVolume(
  context: OverlayContext,
  ino: bigint,
  index: number,
  bytes: Buffer,
): Promise<boolean> {
  // One more than there has to be: most files are small, and are many.
  const copy = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, bytes.length + 1))
  try {
    const length = await context.legacyFiles.read(ino, copy, index * CHUNK_BYTES)
    return copy.subarray(0, length).equals(bytes)
  } catch (error) {
    const now = context.catalog.get(ino)
    if (error instanceof FsError && now && comparesWithLegacy(context, now) !== 'equal') return false
    throw error
  }
}

function findingOf(error: unknown): FailedCheck {
  const detail = reasonOf(error)
  if (error instanceof StoreCorrupt) return { kind: 'corrupt', detail, error }
  if (error instanceof StoreUnavailable) return { kind: 'missing', detail, error }
  if (error instanceof StoreError || error instanceof FsError) return { kind: 'unreadable', detail, error }
  throw error
}

/** What can be had without the store is written to it again. */
async function repaired(context: OverlayContext, ino: bigint, failed: FailedCheck): Promise<Finding> {
  const { error, ...finding } = failed
  if (!(await writeAgain(context, ino, error))) return finding
  return { ...finding, detail: `${finding.detail}; it is written again` }
}

/** The file's object, and the pages that it lists, are what the catalog recorded. @throws StoreError */
export async function compareObject(context: OverlayContext, inode: Inode): Promise<void> {
  const { key, digest, epoch, version } = inode
  if (key === undefined || digest === undefined) throw new StoreCorrupt('no object is recorded')
  const object = await context.store.get('files', key, { expect: { epoch, version } })
  if (!object)
    throw new StoreUnavailable(`object ${key} is recorded as stored, but the store does not find it`)
  const record = decodeFileObject(key, object)
  if (!record.digest.equals(digest))
    throw new StoreCorrupt(`object ${key}: not the one that the catalog recorded`)
  if (isSymlink(inode.mode) && inode.target && record.content.kind === 'inline') {
    if (!record.content.bytes.equals(inode.target))
      throw new StoreCorrupt(`object ${key}: another link target`)
  }
  if (!isChunked(inode)) return
  const getPage = async (page: string): Promise<Buffer> => {
    const found = await context.store.get('chunks', page, ANY_VERSION)
    if (!found) throw new StoreUnavailable(`page ${page} of object ${key} is not found`)
    return found.value
  }
  for await (const _ of listedObjects(record, record.content, inode.storedSize, getPage)) {
    // Every page has been read and compared with its hash; the chunks are compared one by one.
    await giveWay()
  }
}

/** Whether there is a legacy copy that has to be equal, one that was changed, or none. */
function comparesWithLegacy(context: OverlayContext, inode: Inode): 'equal' | 'changed' | 'none' {
  if (!context.legacy() || inode.legacyIno === undefined || inode.fingerprint === undefined) return 'none'
  if (!isRegular(inode.mode)) return 'none'
  try {
    return matches(inode.fingerprint, legacyStat(context, inode)) ? 'equal' : 'changed'
  } catch (error) {
    // Told apart from what is in the store.
    if (isMissingDisk(error)) return 'none'
    if (error instanceof FsError && error.code === 'ENOENT')
      return inode.authority === 'legacy' ? 'changed' : 'none'
    throw error
  }
}

/** The record of a directory that is not to be written anyway says what the catalog says. */
async function verifyDirectory(
  context: OverlayContext,
  directories: DirectoryWriter,
  ino: bigint,
): Promise<Finding | undefined> {
  const inode = context.catalog.get(ino)
  if (inode && lacksNames(inode))
    return { kind: 'missing', detail: inode.failure ?? 'a part of its record was lost' }
  if (inode && isBelowMissingDisk(context, inode)) return { kind: 'unreadable', detail: NOT_MOUNTED }
  const failing = ino === ROOT_INO ? failureOfVolume(context) : undefined
  if (failing !== undefined) return { kind: 'unreadable', detail: failing }
  const hiding = await nameHiding(context, ino)
  if (hiding) return { kind: 'unreadable', detail: `'${printable(hiding)}' in it: ${HIDDEN}` }
  if (!isRecorded(context, ino)) return undefined
  // Nobody writes the record meanwhile: what changes in the catalog is still to be written afterwards.
  const failed = await directories.exclusively(ino, () => compareRecord(context, ino))
  return failed && isRecorded(context, ino) ? repaired(context, ino, failed) : undefined
}

/** A name in it that hides what was put on the volume past the overlay. What cannot be listed is told by others. */
async function nameHiding(context: OverlayContext, ino: bigint): Promise<Buffer | undefined> {
  try {
    return await firstHiding(context, ino)
  } catch (error) {
    if (error instanceof FsError) return undefined
    throw error
  }
}

/** Why nobody can say what else is in SOURCE, where it belongs to the tree. */
function failureOfVolume({ legacy }: OverlayContext): string | undefined {
  try {
    const tree = legacy()
    tree?.rootNow()
    return tree?.isRemoved ? REMOVED : undefined
  } catch (error) {
    return reasonOf(error)
  }
}

/** What is in it the volume cannot say: the file system below SOURCE that it is on is not mounted. */
function isBelowMissingDisk({ legacy }: OverlayContext, { ino, orphan, legacyIno }: Inode): boolean {
  const tree = legacy()
  if (orphan || legacyIno === undefined || !tree?.hasMounts) return false
  try {
    tree.directory(ino)
    return false
  } catch (error) {
    return isMissingDisk(error)
  }
}

function isRecorded({ catalog }: OverlayContext, ino: bigint): boolean {
  const inode = catalog.get(ino)
  return inode !== undefined && !inode.orphan && inode.dirShards > 0 && !catalog.outbox.find('directory', ino)
}

async function compareRecord(context: OverlayContext, ino: bigint): Promise<FailedCheck | undefined> {
  const { catalog, store } = context
  const inode = catalog.get(ino)
  if (!inode || !isRecorded(context, ino)) return undefined
  const { dirGeneration, dirShards } = inode
  const id = fileId(inode)
  try {
    const header = await store.get('dirs', headerKey(id), ANY_VERSION)
    if (!header) throw new StoreUnavailable(`directory record ${id} is not found`)
    const { recordGeneration, shards } = decodeHeader(id, header)
    if (recordGeneration !== dirGeneration || shards !== dirShards)
      throw new StoreCorrupt(`directory record ${id}: not the one that the catalog recorded`)
    for (let shard = 0; shard < dirShards; shard += 1) {
      await giveWay()
      const key = shardKey(id, dirGeneration, shard)
      const object = await store.get('dirs', key, ANY_VERSION)
      if (!object) throw new StoreUnavailable(`directory record ${key} is not found`)
      const { entries, refused } = decodeShard(key, object)
      for (const { name, reason } of refused)
        throw new StoreCorrupt(`directory record ${key}: it has "${name}": ${reason}`)
      const recorded = new Set(entries.map(textOf))
      const wanted = new Set(entriesToRecord(catalog, ino, shard, dirShards).map(textOf))
      const more = [...recorded].find((entry) => !wanted.has(entry))
      if (more !== undefined)
        throw new StoreCorrupt(`directory record ${key}: it has ${more}, the catalog has not`)
      const less = [...wanted].find((entry) => !recorded.has(entry))
      if (less !== undefined) throw new StoreCorrupt(`directory record ${key}: it does not have ${less}`)
    }
    return undefined
  } catch (error) {
    return findingOf(error)
  }
}

const textOf = ({ name, ino, generation, key }: RecordedEntry): string =>
  `"${printable(name)}" (inode ${ino}, generation ${generation}${key === undefined ? '' : `, object ${key}`})`

export function shownPath(context: OverlayContext, ino: bigint): string {
  const path = context.catalog.links.pathOf(ino)
  return path === undefined ? `(inode ${ino})` : printableBelow(path)
}

/** A path below the root of the tree, which is `.` itself. */
export const printableBelow = (path: Buffer): string => (path.length === 0 ? '.' : printable(path))
