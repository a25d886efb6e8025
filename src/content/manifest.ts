import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { MOST_BYTES, MOST_ID, MOST_U32, timeText, xattrsText } from '../base/attribute-ranges.ts'
import { type Attributes, S_IFMT } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { GUARDS } from '../base/inode-flags.ts'
import { BLOCK_BYTES } from '../catalog/index.ts'
import type { ObjectVersion } from '../store/contract.ts'
import { StoreCorrupt } from '../store/errors.ts'
import { CHUNK_BYTES, chunkCount } from './context.ts'
import { HASH_BYTES, sha256 } from './hash.ts'
import { decodeList, type Entry, encodeList, ListDamaged, levelsFor, slotsOf } from './list.ts'

/** Format of file objects and directory records. */
export const RECORD_FORMAT = 1

/** Above every version and generation that is ever reached, and far enough below what a number is exact to. */
export const MOST_VERSION = 2 ** 50

/** Format of manifests that list what is not a hole. Those of format 1 name every chunk. */
const RUNS_FORMAT = 2

/** Format of a namespace as a whole: the highest of what may lie in it. A higher one was written by a newer ferryfs. */
export const NAMESPACE_FORMAT = 2

/** Chunk hashes in one page object of format 1 (256 KiB). */
export const PAGE_CHUNKS = 8192

/** Stands for the hash of a chunk of zeros, which has no object in the store. */
export const HOLE = Buffer.alloc(HASH_BYTES)

export function isHole(hash: Buffer): boolean {
  return hash.equals(HOLE)
}

/** Extended attributes up to this many bytes travel in the object's metadata, larger ones in a manifest. */
export const METADATA_XATTR_BYTES = 3072

/** Everything that a file's object in the store says beside the bytes. */
export interface FileRecord {
  readonly ino: bigint
  readonly generation: number
  readonly attributes: Attributes
  readonly xattrs: Buffer | undefined
}

/** Value and metadata of a file's object. */
export interface FileObject {
  readonly value: Buffer
  readonly metadata: Record<string, string>
  readonly digest: Buffer
}

const upTo = (most: bigint) =>
  z.string().refine((text) => /^\d{1,20}$/.test(text) && BigInt(text) <= most, `no number up to ${most}`)
const u32 = upTo(BigInt(MOST_U32))
const id = upTo(BigInt(MOST_ID))
const FILE_TYPES: ReadonlySet<number> = new Set([1, 2, 4, 6, 8, 10, 12].map((type) => type << 12))
const metadataSchema = z.object({
  'ferry-format': z.literal(String(RECORD_FORMAT)),
  'ferry-layout': z.enum(['inline', 'chunked']),
  'ferry-ino': upTo(2n ** 64n - 1n),
  'ferry-generation': upTo(BigInt(MOST_VERSION)),
  'ferry-mode': z.string().regex(/^[0-7]{1,7}$/),
  'ferry-nlink': u32,
  'ferry-uid': id,
  'ferry-gid': id,
  'ferry-rdev': u32,
  'ferry-size': upTo(BigInt(MOST_BYTES)),
  'ferry-atime': timeText,
  'ferry-mtime': timeText,
  'ferry-ctime': timeText,
  'ferry-sha256': z.string().regex(/^[0-9a-f]{64}$/),
  'ferry-xattrs': xattrsText.optional(),
  'ferry-btime': timeText.optional(),
  'ferry-flags': u32.optional(),
})

const manifestSchema = z.discriminatedUnion('format', [
  z.object({
    format: z.literal(RECORD_FORMAT),
    chunkBytes: z.literal(CHUNK_BYTES),
    xattrs: xattrsText.optional(),
    inline: z.string().optional(),
    chunks: z.string().optional(),
    pages: z.string().optional(),
  }),
  z.object({
    format: z.literal(RUNS_FORMAT),
    chunkBytes: z.literal(CHUNK_BYTES),
    blockBytes: z.literal(BLOCK_BYTES),
    xattrs: xattrsText.optional(),
    list: z.string(),
  }),
])

function metadataOf(
  record: FileRecord,
  layout: 'inline' | 'chunked',
  digest: Buffer,
): Record<string, string> {
  const { attributes } = record
  return {
    'ferry-format': String(RECORD_FORMAT),
    'ferry-layout': layout,
    'ferry-ino': record.ino.toString(),
    'ferry-generation': String(record.generation),
    'ferry-mode': attributes.mode.toString(8),
    'ferry-nlink': String(attributes.nlink),
    'ferry-uid': String(attributes.uid),
    'ferry-gid': String(attributes.gid),
    'ferry-rdev': String(attributes.rdev),
    'ferry-size': String(attributes.size),
    'ferry-atime': attributes.atimeNs.toString(),
    'ferry-mtime': attributes.mtimeNs.toString(),
    'ferry-ctime': attributes.ctimeNs.toString(),
    'ferry-sha256': digest.toString('hex'),
    ...(attributes.btimeNs ? { 'ferry-btime': attributes.btimeNs.toString() } : {}),
    ...(attributes.flags ? { 'ferry-flags': String(attributes.flags) } : {}),
  }
}

/** `list`: the top of the lists, one of pages if there are more chunks than a list has entries. */
export type NewChunkList =
  | { readonly kind: 'inline'; readonly bytes: Buffer }
  | { readonly kind: 'list'; readonly entries: readonly Entry[] }

/** `chunks`, `pages`: as format 1 has them, a hash for every chunk or for every page of them. */
export type ChunkList =
  | NewChunkList
  | { readonly kind: 'chunks'; readonly hashes: readonly Buffer[] }
  | { readonly kind: 'pages'; readonly hashes: readonly Buffer[] }

/**
 * The object of a file. With inline content the value is the file itself (a symlink's target, nothing for a device), so
 * that any client of the store sees it as it was; otherwise the value is a manifest.
 */
export function encodeFileObject(record: FileRecord, content: NewChunkList): FileObject {
  const large = (record.xattrs?.length ?? 0) > METADATA_XATTR_BYTES
  if (content.kind === 'inline' && !large) {
    const digest = sha256(content.bytes)
    const metadata = metadataOf(record, 'inline', digest)
    if (record.xattrs) metadata['ferry-xattrs'] = record.xattrs.toString('base64')
    return { value: content.bytes, metadata, digest }
  }
  const listed =
    content.kind === 'inline'
      ? { format: RECORD_FORMAT, chunkBytes: CHUNK_BYTES, inline: content.bytes.toString('base64') }
      : {
          format: RUNS_FORMAT,
          chunkBytes: CHUNK_BYTES,
          blockBytes: BLOCK_BYTES,
          list: encodeList(content.entries).toString('base64'),
        }
  const xattrs = record.xattrs ? { xattrs: record.xattrs.toString('base64') } : {}
  const value = Buffer.from(JSON.stringify({ ...listed, ...xattrs }))
  const digest = sha256(value)
  return { value, metadata: metadataOf(record, 'chunked', digest), digest }
}

/**
 * Reads a file's object back, checked against its own checksum.
 * @throws StoreCorrupt
 */
export function decodeFileObject(
  key: string,
  object: {
    readonly value: Buffer
    readonly metadata: Readonly<Record<string, string>>
    readonly version: ObjectVersion
  },
): FileRecord & { readonly content: ChunkList; readonly digest: Buffer } {
  const parsed = metadataSchema.safeParse(object.metadata)
  if (!parsed.success) {
    throw new StoreCorrupt(`object ${key}: its metadata cannot be read: ${z.prettifyError(parsed.error)}`)
  }
  const metadata = parsed.data
  const digest = sha256(object.value)
  if (digest.toString('hex') !== metadata['ferry-sha256']) {
    throw new StoreCorrupt(`object ${key}: its bytes do not have the checksum they were stored with`)
  }
  const mode = Number.parseInt(metadata['ferry-mode'], 8)
  if (!FILE_TYPES.has(mode & S_IFMT) || mode > 0o177777)
    throw new StoreCorrupt(`object ${key}: no file type in mode ${metadata['ferry-mode']}`)
  const size = Number(metadata['ferry-size'])
  const attributes: Attributes = {
    ino: BigInt(metadata['ferry-ino']),
    mode,
    nlink: Number(metadata['ferry-nlink']),
    uid: Number(metadata['ferry-uid']),
    gid: Number(metadata['ferry-gid']),
    rdev: Number(metadata['ferry-rdev']),
    size,
    blocks: Math.ceil(size / 512),
    blksize: 4096,
    atimeNs: BigInt(metadata['ferry-atime']),
    mtimeNs: BigInt(metadata['ferry-mtime']),
    ctimeNs: BigInt(metadata['ferry-ctime']),
    ...birth(BigInt(metadata['ferry-btime'] ?? 0)),
    ...guards(Number(metadata['ferry-flags'] ?? 0)),
  }
  const common = { ino: attributes.ino, generation: Number(metadata['ferry-generation']), attributes, digest }
  if (metadata['ferry-layout'] === 'inline') {
    const xattrs = metadata['ferry-xattrs']
    return {
      ...common,
      xattrs: xattrs === undefined ? undefined : Buffer.from(xattrs, 'base64'),
      content: { kind: 'inline', bytes: object.value },
    }
  }
  return { ...common, ...decodeManifest(key, object.value, size) }
}

/**
 * Reads an object as whoever needs the file will, before it is written: what cannot be read back must not count as stored.
 * @throws FsError EIO if it is not what it was made of
 */
export function requireReadable(
  key: string,
  { value, metadata }: FileObject,
  record: FileRecord,
  content: NewChunkList,
): void {
  let read: ReturnType<typeof decodeFileObject>
  try {
    read = decodeFileObject(key, { value, metadata, version: { epoch: 0, version: 0 } })
  } catch (cause) {
    throw new FsError('EIO', `it cannot be stored: ${reasonOf(cause)}`, { cause })
  }
  const layout = metadata['ferry-layout'] === 'inline' ? 'inline' : 'chunked'
  const sameXattrs = read.xattrs ? record.xattrs?.equals(read.xattrs) === true : record.xattrs === undefined
  const isSame =
    sameXattrs &&
    isSameList(read.content, content) &&
    isDeepStrictEqual(metadataOf(read, layout, read.digest), metadataOf(record, layout, read.digest))
  if (!isSame) throw new FsError('EIO', 'it cannot be stored: its object would be read otherwise than it is')
}

function isSameList(read: ChunkList, given: NewChunkList): boolean {
  if (read.kind === 'inline') return given.kind === 'inline' && read.bytes.equals(given.bytes)
  return (
    read.kind === 'list' &&
    given.kind === 'list' &&
    encodeList(read.entries).equals(encodeList(given.entries))
  )
}

/** Objects of an earlier ferryfs have none. */
export function birth(btimeNs: bigint | undefined): { readonly btimeNs?: bigint } {
  return btimeNs ? { btimeNs } : {}
}

/** Others than those that ferryfs keeps count for nothing. */
export function guards(flags: number | undefined): { readonly flags?: number } {
  const known = (flags ?? 0) & GUARDS
  return known === 0 ? {} : { flags: known }
}

function decodeManifest(
  key: string,
  value: Buffer,
  size: number,
): { xattrs: Buffer | undefined; content: ChunkList } {
  let json: unknown
  try {
    json = JSON.parse(value.toString('utf8'))
  } catch (cause) {
    throw new StoreCorrupt(`object ${key}: its manifest is not JSON`, { cause })
  }
  const parsed = manifestSchema.safeParse(json)
  if (!parsed.success) {
    throw new StoreCorrupt(`object ${key}: its manifest cannot be read: ${z.prettifyError(parsed.error)}`)
  }
  const encoded = parsed.data.xattrs
  const xattrs = encoded === undefined ? undefined : Buffer.from(encoded, 'base64')
  if (parsed.data.format === RUNS_FORMAT) {
    const chunks = chunkCount(size)
    const slots = slotsOf(chunks, levelsFor(chunks))
    return { xattrs, content: { kind: 'list', entries: entriesOf(key, parsed.data.list, slots) } }
  }
  const { inline, chunks, pages } = parsed.data
  if (inline !== undefined)
    return { xattrs, content: { kind: 'inline', bytes: Buffer.from(inline, 'base64') } }
  if (chunks !== undefined) return { xattrs, content: { kind: 'chunks', hashes: splitHashes(key, chunks) } }
  if (pages !== undefined) return { xattrs, content: { kind: 'pages', hashes: splitHashes(key, pages) } }
  throw new StoreCorrupt(`object ${key}: its manifest lists no content`)
}

function entriesOf(key: string, base64: string, slots: number): Entry[] {
  return splitList(key, Buffer.from(base64, 'base64'), slots)
}

/** The entries of a list, of a manifest or a page. @throws StoreCorrupt */
export function splitList(key: string, bytes: Buffer, slots: number): Entry[] {
  try {
    return decodeList(bytes, slots)
  } catch (error) {
    if (!(error instanceof ListDamaged)) throw error
    throw new StoreCorrupt(`object ${key}: its list of chunks cannot be used: ${error.message}`, {
      cause: error,
    })
  }
}

function splitHashes(key: string, base64: string): Buffer[] {
  return splitPage(key, Buffer.from(base64, 'base64'))
}

/** The hashes of a page object. @throws StoreCorrupt */
export function splitPage(key: string, page: Buffer): Buffer[] {
  if (page.length % HASH_BYTES !== 0) throw new StoreCorrupt(`object ${key}: its list of chunks is cut off`)
  return Array.from({ length: page.length / HASH_BYTES }, (_, index) =>
    page.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES),
  )
}
