import { type Attributes, isDirectory, isRegular, isSymlink } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { giveWay } from '../base/pace.ts'
import {
  attributesOf,
  fileId,
  type Inode,
  isStored,
  LAYOUT_INLINE,
  lacksNames,
  ROOT_INO,
} from '../catalog/index.ts'
import {
  CHUNK_BYTES,
  decodeFileObject,
  decodeHeader,
  headerKey,
  legacyStat,
  placeOf,
  readLegacyXattrs,
  requireLegacy,
  type StoredContent,
} from '../content/index.ts'
import type { Overlay, OverlayContext, Resolved } from '../overlay/index.ts'
import { namesIn } from '../overlay/unfinished.ts'
import { StoreError, StoreUnavailable } from '../store/errors.ts'
import { SEEK_DATA, type Stat } from '../sys/index.ts'
import {
  type FileRef,
  type FileState,
  SourceError,
  type SourceTree,
  type TreeChunk,
  type TreeChunks,
  type TreeEntry,
  type TreeFile,
  type TreePage,
  type TreeTotals,
} from './restore/tree.ts'
import { candidatesFrom } from './tree-listing.ts'
import { IN_DOUBT, storedChunks } from './verify.ts'

// What one request may take of a turn of the event loop, and what it answers with at most (P6).
const TURN_MS = 4
const BYTES_AT_ONCE = 512 * 1024
const CHUNKS_AT_ONCE = 256
const DOT = Buffer.from('.')
// Position behind the names that are known, in a directory that may have more.
const AFTER_ALL = 'lost'

/** The tree as the overlay shows it, for whoever writes it out. Every request is a small step; applications go on in between. */
export class TreeView implements SourceTree {
  readonly #context: OverlayContext
  readonly #overlay: Overlay
  readonly #stored: StoredContent

  constructor(context: OverlayContext, overlay: Overlay, stored: StoredContent) {
    this.#context = context
    this.#overlay = overlay
    this.#stored = stored
  }

  async totals(): Promise<TreeTotals> {
    const { catalog, store } = this.#context
    const { files, bytes } = catalog.lists.totals()
    const { damage } = store.capabilities
    const losses = catalog.doubts
      .losses()
      .map(
        ({ since, detail }) =>
          `${since.toISOString()}: ${detail}; compare, then 'ferryfs verify --accept-losses', and do this again`,
      )
    if (damage !== undefined) losses.push(`${damage}, and do this again`)
    return { files, bytes, ...(losses.length > 0 && { losses }) }
  }

  async root(): Promise<TreeFile> {
    const inode = this.#overlay.names.inode(ROOT_INO)
    return this.#describe({ inode, stat: this.#volumeStat(inode) })
  }

  async list(directory: FileRef, from?: string): Promise<TreePage> {
    const inode = this.#require(directory)
    if (!isDirectory(inode.mode)) throw new FsError('ENOTDIR')
    if (from === AFTER_ALL) throw new FsError('EIO', inode.failure)
    this.#overlay.unfinished.tryToConclude(namesIn(directory.ino))
    const candidates = candidatesFrom(this.#context, this.#overlay, inode, from)
    const deadline = performance.now() + TURN_MS
    const described: Array<TreeEntry | Promise<TreeEntry>> = []
    let next = candidates.next
    let bytes = 0
    for (const candidate of candidates.names) {
      const entry = this.#entry(directory.ino, candidate.name)
      if (entry) described.push(entry)
      if (entry && 'file' in entry) bytes += entry.file?.xattrs?.length ?? 0
      if (performance.now() < deadline && bytes < BYTES_AT_ONCE) continue
      next = candidate.next === candidates.names.at(-1)?.next ? candidates.next : candidate.next
      break
    }
    if (lacksNames(inode)) next ??= AFTER_ALL
    await giveWay()
    return { entries: await Promise.all(described), next }
  }

  async look(directory: FileRef, name: Buffer): Promise<TreeEntry | undefined> {
    this.#require(directory)
    this.#overlay.unfinished.tryToConclude(namesIn(directory.ino))
    return this.#entry(directory.ino, name)
  }

  async chunks(file: FileState, from: number): Promise<TreeChunks> {
    const chunks: TreeChunk[] = []
    let next: number | undefined = from
    while (next !== undefined && chunks.length < CHUNKS_AT_ONCE) {
      const index: number | undefined = await this.#nextData(file, next)
      if (index !== undefined) chunks.push({ index, hash: this.#knownHash(this.#require(file), index) })
      next = index === undefined ? undefined : index + 1
      await giveWay()
    }
    await this.#requireState(file)
    return { chunks, next }
  }

  async read(file: FileState, index: number, signal?: AbortSignal): Promise<Buffer> {
    const inode = this.#require(file)
    const length = lengthOfChunk(this.#sizeOf(inode), index)
    if (length <= 0) throw new SourceError('changed', 'the file is shorter than it was')
    const bytes = await this.#bytes(inode, index, length, signal)
    await this.#requireState(file)
    if (bytes.length === length) return bytes
    throw new FsError(
      'EIO',
      `${bytes.length} bytes are there from offset ${index * CHUNK_BYTES} on, not ${length}`,
    )
  }

  async stamp(file: FileRef): Promise<string | undefined> {
    const inode = this.#context.catalog.get(file.ino)
    if (inode?.generation !== file.generation) return undefined
    const activity = this.#context.activity.peek(file.ino)
    if (activity && (activity.changing > 0 || activity.volumeWrites > 0)) return undefined
    if (inode.authority === 'catalog') return stampOf(inode, inode)
    const stat = this.#volumeStat(inode)
    return stat ? stampOf(inode, stat) : storedStampOf(inode)
  }

  async ping(): Promise<void> {
    await this.#context.store.ping()
  }

  /** @throws SourceError if the file is gone, also where another one has its number */
  #require({ ino, generation }: FileRef): Inode {
    const inode = this.#context.catalog.get(ino)
    if (inode?.generation === generation) return inode
    throw new SourceError('changed', 'it is not there any more')
  }

  /** What was read belongs to the state that was asked for. @throws SourceError */
  async #requireState(file: FileState): Promise<void> {
    if ((await this.stamp(file)) === file.stamp) return
    throw new SourceError('changed', 'it was changed while it was read')
  }

  // ---- what a file is

  #entry(directory: bigint, name: Buffer): TreeEntry | Promise<TreeEntry> | undefined {
    const failed = (error: unknown): TreeEntry => ({ name, reason: reasonOf(error) })
    try {
      const found = this.#overlay.names.find(directory, name)
      if (!found) return undefined
      const file = this.#describe(found)
      return file instanceof Promise ? file.then((file) => ({ name, file }), failed) : { name, file }
    } catch (error) {
      return failed(error)
    }
  }

  #describe({ inode, stat }: Resolved): TreeFile | Promise<TreeFile> {
    if (inode.authority === 'legacy' && !stat) return this.#describeWithoutVolume(inode)
    const attributes = stat ?? attributesOf(inode)
    return {
      ino: inode.ino,
      generation: inode.generation,
      attributes: { ...attributes, ino: inode.ino },
      xattrs: stat ? this.#volumeXattrs(inode) : inode.xattrs,
      target: isSymlink(attributes.mode) ? this.#overlay.readTarget(inode.ino) : undefined,
      stamp: stampOf(inode, attributes),
      chunks: this.#onlyChunk(inode, attributes),
      doubt: this.#doubtOf(inode),
    }
  }

  #doubtOf({ ino }: Pick<Inode, 'ino'>): string | undefined {
    const compared = this.#context.catalog.doubts.comparedOf(ino)
    return compared && IN_DOUBT[compared]
  }

  /** Most files are small: nobody has to ask where they have data. */
  #onlyChunk(inode: Inode, { mode, size }: Attributes): TreeChunk[] | undefined {
    if (!isRegular(mode) || size > CHUNK_BYTES) return undefined
    if (size === 0) return []
    const isHole =
      this.#isFromStore(inode, 0) &&
      inode.layout !== LAYOUT_INLINE &&
      !this.#context.catalog.content.chunk(inode, 0)
    return isHole ? [] : [{ index: 0, hash: this.#knownHash(inode, 0) }]
  }

  /** The volume does not answer: what it had the authority on is as it was copied to the store. @throws StoreError, FsError */
  async #describeWithoutVolume({ ino, generation, ...inode }: Inode): Promise<TreeFile> {
    const of = (attributes: Attributes, xattrs: Buffer | undefined, target?: Buffer): TreeFile => ({
      ino,
      generation,
      attributes: { ...attributes, ino },
      xattrs,
      target,
      stamp: storedStampOf({ ino, generation, ...inode }),
      doubt: this.#doubtOf({ ino }),
    })
    const known = attributesOf({ ino, generation, ...inode })
    if (isDirectory(inode.mode)) {
      if (inode.dirShards === 0) return of(known, undefined)
      const key = headerKey(fileId({ ino, generation, ...inode }))
      return of(known, decodeHeader(key, await this.#object('dirs', key, { epoch: 0, version: 0 })).xattrs)
    }
    const { key, epoch, version } = inode
    if (key === undefined)
      throw new FsError('EIO', 'the legacy volume does not answer, and the store does not have it')
    const record = decodeFileObject(key, await this.#object('files', key, { epoch, version }))
    const { content } = record
    const target = isSymlink(record.attributes.mode) && content.kind === 'inline' ? content.bytes : undefined
    return of(record.attributes, record.xattrs, target)
  }

  async #object(space: 'files' | 'dirs', key: string, expect: { epoch: number; version: number }) {
    const object = await this.#context.store.get(space, key, { expect })
    if (!object)
      throw new StoreUnavailable(`object ${key} is recorded as stored, but the store does not find it`)
    return object
  }

  #volumeXattrs(inode: Inode): Buffer | undefined {
    const place =
      inode.ino === ROOT_INO
        ? { parent: ROOT_INO, name: DOT }
        : placeOf(this.#context.catalog, inode.ino, this.#context.legacy())
    return place && readLegacyXattrs(requireLegacy(this.#context), place)
  }

  /** What the volume says of a file that it has the authority on; undefined where the store serves in its place. @throws FsError */
  #volumeStat(inode: Inode): Stat | undefined {
    if (inode.authority === 'catalog') return undefined
    try {
      return legacyStat(this.#context, inode)
    } catch (error) {
      if (error instanceof FsError && error.code === 'EIO' && servesFromStore(inode)) return undefined
      throw error
    }
  }

  #sizeOf(inode: Inode): number {
    if (inode.authority === 'catalog') return inode.size
    // Without the volume it is what was copied; its row remembers what was seen, which may be older.
    return this.#volumeStat(inode)?.size ?? inode.storedSize
  }

  // ---- its content

  /** The first chunk with data at or after an index. @throws FsError */
  async #nextData(file: FileRef, from: number): Promise<number | undefined> {
    const inode = this.#require(file)
    if (from * CHUNK_BYTES >= this.#sizeOf(inode)) return undefined
    if (inode.authority === 'legacy' && !this.#volumeStat(inode)) {
      for (const index of storedChunks(this.#context.catalog, inode, from)) return index
      return undefined
    }
    try {
      const offset = await this.#context.reader.seek(file.ino, from * CHUNK_BYTES, SEEK_DATA)
      return Math.floor(offset / CHUNK_BYTES)
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENXIO') return undefined
      // A volume that cannot tell: it may be data.
      if (error instanceof FsError && inode.authority === 'legacy') return from
      throw error
    }
  }

  /** The hash of a chunk whose bytes are in the store alone, as they are: an object without the chunk's zeros has another. */
  #knownHash(inode: Inode, index: number): Buffer | undefined {
    if (!this.#isFromStore(inode, index)) return undefined
    if (lengthOfChunk(inode.storedSize, index) !== lengthOfChunk(inode.size, index)) return undefined
    if (inode.layout === LAYOUT_INLINE) return inode.digest
    const { content } = this.#context.catalog
    return content.zeros(inode.generation, index) ? undefined : content.chunk(inode, index)
  }

  #isFromStore(inode: Inode, index: number): boolean {
    const { ino, authority, base, baseLimit, storedSize } = inode
    if (authority === 'legacy' || base !== 'store' || index >= baseLimit) return false
    return index * CHUNK_BYTES < storedSize && !this.#context.catalog.staged.has(ino, index)
  }

  async #bytes(
    inode: Inode,
    index: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const { ino, authority } = inode
    const { reader } = this.#context
    if (authority === 'legacy') return this.#legacyBytes(inode, index, length, signal)
    if (!this.#isFromStore(inode, index)) return reader.chunk(ino, index, signal)
    try {
      // Past the caches, which belong to the applications.
      const bytes = await this.#stored.readBack(inode, index, signal)
      return bytes.length < length ? Buffer.concat([bytes], length) : bytes.subarray(0, length)
    } catch (error) {
      if (!(error instanceof StoreError) || signal?.aborted) throw error
      // A cache may have it, or a legacy copy that is still there.
      return reader.chunk(ino, index, signal)
    }
  }

  async #legacyBytes(
    inode: Inode,
    index: number,
    length: number,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length)
    try {
      const count = await this.#context.legacyFiles.read(inode.ino, buffer, index * CHUNK_BYTES)
      return buffer.subarray(0, count)
    } catch (error) {
      const now = this.#context.catalog.get(inode.ino)
      if (!(error instanceof FsError && error.code === 'EIO') || !now || !servesFromStore(now)) throw error
      return this.#stored.readBack(now, index, signal)
    }
  }
}

/** Whether the store's copy is the file as far as anybody knows. */
const servesFromStore = (inode: Inode): boolean => isDirectory(inode.mode) || isStored(inode)

const lengthOfChunk = (size: number, index: number): number =>
  Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES)

type Changing = Pick<Attributes, 'size' | 'mtimeNs' | 'ctimeNs'>

function stampOf(
  { generation }: { readonly generation: number },
  { size, mtimeNs, ctimeNs }: Changing,
): string {
  return `${generation}.${size}.${mtimeNs}.${ctimeNs}`
}

/** Of a file as it was copied, where the volume does not answer. */
const storedStampOf = ({ generation, epoch, version }: Inode): string => `${generation}.@${epoch}.${version}`
