import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { idNumber, MOST_U32, timeText, xattrsText } from '../base/attribute-ranges.ts'
import { isDirectory, S_IFMT } from '../base/attributes.ts'
import { FsError, reasonOf } from '../base/errors.ts'
import { wrongName } from '../catalog/index.ts'
import { StoreCorrupt } from '../store/errors.ts'
import { printable } from '../sys/index.ts'
import { sha256 } from './hash.ts'
import { birth, guards, MOST_VERSION, RECORD_FORMAT } from './manifest.ts'

/** What the store keeps of a directory itself; its entries are in `shards` objects of their own. */
export interface DirectoryHeader {
  readonly ino: bigint
  readonly generation: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly nlink: number
  readonly atimeNs: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly xattrs: Buffer | undefined
  /** Time of birth; none if absent. */
  readonly btimeNs?: bigint
  /** Those that guard the directory (base/inode-flags.ts); none if absent. */
  readonly flags?: number
  readonly recordGeneration: number
  readonly shards: number
}

/** A place that a file had left when the record was written, while the record of that directory may still have named it. */
export interface FormerPlace {
  /** Id of the directory. */
  readonly directory: string
  readonly name: Buffer
}

/** One name in a directory. Without a key it is a directory with a record of its own. */
export interface RecordedEntry {
  readonly name: Buffer
  readonly ino: bigint
  readonly generation: number
  readonly key: string | undefined
  /** Names that the file had, where it had several. */
  readonly links?: number
  readonly from?: readonly FormerPlace[]
}

/** What one shard of a directory's record says. */
export interface DirectoryShard {
  readonly entries: readonly RecordedEntry[]
  /**
   * Names of files that are in the directory no more, but to which no other record was known to lead when this one was written.
   * Whoever finds such a file nowhere else finds it here.
   */
  readonly leaving: readonly RecordedEntry[]
}

/** What a record has in the place of an entry, and no directory can have. */
export interface RefusedEntry {
  readonly name: string
  readonly reason: string
}

/** Twice as many shards as before, all written anew, where one would get too long; but no more than these. */
export const MAX_SHARDS = 4096

// Bytes of a wrong name that a message shows.
const MOST_SHOWN = 64
const inodeNumber = z
  .string()
  .refine(
    (text) => /^\d{1,20}$/.test(text) && BigInt(text) > 0n && BigInt(text) < 2n ** 64n,
    'no inode number',
  )
const generationNumber = z.int().nonnegative().max(MOST_VERSION)
const headerSchema = z.object({
  format: z.literal(RECORD_FORMAT),
  ino: inodeNumber,
  generation: generationNumber,
  mode: z.int().nonnegative().refine(isDirectoryMode, 'no mode of a directory'),
  uid: idNumber,
  gid: idNumber,
  nlink: z.int().nonnegative().max(MOST_U32),
  atime: timeText,
  mtime: timeText,
  ctime: timeText,
  xattrs: xattrsText.optional(),
  btime: timeText.optional(),
  flags: z.int().nonnegative().max(MOST_U32).optional(),
  recordGeneration: z.int().positive().max(MOST_VERSION),
  shards: z.int().positive().max(MAX_SHARDS).refine(isPowerOfTwo, 'no power of two'),
})
/** A name as UTF-8 text, or `raw` in base64 where it is none. */
const nameFields = { name: z.string().optional(), raw: z.string().optional() }
const entrySchema = z.object({
  ...nameFields,
  ino: inodeNumber,
  generation: generationNumber,
  key: z.string().optional(),
  links: z.int().positive().optional(),
  from: z.array(z.object({ ...nameFields, directory: z.string() })).optional(),
})
// Each entry is looked at by itself: one that makes no sense takes none of the others with it.
const shardSchema = z.object({
  format: z.literal(RECORD_FORMAT),
  // Its own: one that a store has mixed up with another has a checksum that holds. Not there in the oldest.
  key: z.string().optional(),
  entries: z.array(z.unknown()),
  leaving: z.array(z.unknown()).optional(),
})

function isDirectoryMode(mode: number): boolean {
  return (mode & S_IFMT) === 0 ? mode <= 0o7777 : isDirectory(mode) && mode <= 0o177777
}

function isPowerOfTwo(value: number): boolean {
  return (value & (value - 1)) === 0
}

export const DIRECTORY_CONTENT_TYPE = 'application/json'
const CHECKSUM = 'ferry-sha256'

/** Key of a directory's header. */
export function headerKey(directoryId: string): string {
  return directoryId
}

/** Key of one shard of a directory's entries. */
export function shardKey(directoryId: string, recordGeneration: number, shard: number): string {
  return `${directoryId}/${recordGeneration}.${shard}`
}

/** What `shardKey` made a key of; `undefined` for another key. */
export function parseShardKey(
  key: string,
): { readonly id: string; readonly generation: number; readonly shard: number } | undefined {
  const [, id = '', generation, shard] = /^([^/]+)\/(\d+)\.(\d+)$/.exec(key) ?? []
  return id === '' ? undefined : { id, generation: Number(generation), shard: Number(shard) }
}

interface RecordObject {
  readonly value: Buffer
  readonly metadata: Record<string, string>
}

function sealed(json: unknown): RecordObject {
  const value = Buffer.from(JSON.stringify(json))
  return { value, metadata: { [CHECKSUM]: sha256(value).toString('hex') } }
}

function opened<T>(
  key: string,
  object: { value: Buffer; metadata: Readonly<Record<string, string>> },
  schema: z.ZodType<T>,
): T {
  if (sha256(object.value).toString('hex') !== object.metadata[CHECKSUM]) {
    throw new StoreCorrupt(
      `directory record ${key}: its bytes do not have the checksum they were stored with`,
    )
  }
  let json: unknown
  try {
    json = JSON.parse(object.value.toString('utf8'))
  } catch (cause) {
    throw new StoreCorrupt(`directory record ${key} is not JSON`, { cause })
  }
  const parsed = schema.safeParse(json)
  if (!parsed.success) {
    throw new StoreCorrupt(`directory record ${key} cannot be read: ${z.prettifyError(parsed.error)}`)
  }
  return parsed.data
}

export function encodeHeader(header: DirectoryHeader): RecordObject {
  return sealed({
    format: RECORD_FORMAT,
    ino: header.ino.toString(),
    generation: header.generation,
    mode: header.mode,
    uid: header.uid,
    gid: header.gid,
    nlink: header.nlink,
    atime: header.atimeNs.toString(),
    mtime: header.mtimeNs.toString(),
    ctime: header.ctimeNs.toString(),
    ...(header.btimeNs ? { btime: header.btimeNs.toString() } : {}),
    ...(header.flags ? { flags: header.flags } : {}),
    ...(header.xattrs ? { xattrs: header.xattrs.toString('base64') } : {}),
    recordGeneration: header.recordGeneration,
    shards: header.shards,
  })
}

/** A header that is what whoever needs it will read. @throws FsError EIO */
export function readableHeader(header: DirectoryHeader): RecordObject {
  const record = encodeHeader(header)
  if (
    !isDeepStrictEqual(
      readBack(() => decodeHeader('header', record)),
      header,
    )
  )
    throw unreadable()
  return record
}

/** Reads a part of a record as whoever needs it will, before it is written. @throws FsError EIO */
function readBack<T>(decode: () => T): T {
  try {
    return decode()
  } catch (cause) {
    throw new FsError('EIO', `it cannot be stored: ${reasonOf(cause)}`, { cause })
  }
}

const unreadable = (): FsError =>
  new FsError('EIO', 'it cannot be stored: its record would be read otherwise than it is')

/** @throws StoreCorrupt */
export function decodeHeader(
  key: string,
  object: { value: Buffer; metadata: Readonly<Record<string, string>> },
): DirectoryHeader {
  const {
    ino,
    atime,
    mtime,
    ctime,
    btime,
    xattrs,
    flags,
    format: _,
    ...rest
  } = opened(key, object, headerSchema)
  return {
    ...rest,
    ino: BigInt(ino),
    atimeNs: BigInt(atime),
    mtimeNs: BigInt(mtime),
    ctimeNs: BigInt(ctime),
    xattrs: xattrs === undefined ? undefined : Buffer.from(xattrs, 'base64'),
    ...birth(BigInt(btime ?? 0)),
    ...guards(flags),
  }
}

export function encodeShard(key: string, { entries, leaving }: DirectoryShard): RecordObject {
  return sealed({
    format: RECORD_FORMAT,
    key,
    entries: entries.map(encodeEntry),
    ...(leaving.length > 0 ? { leaving: leaving.map(encodeEntry) } : {}),
  })
}

/** A shard that is what whoever needs it will read. @throws FsError EIO */
export function readableShard(key: string, shard: DirectoryShard): RecordObject {
  const record = encodeShard(key, shard)
  const read = readBack(() => decodeShard(key, record))
  if (!encodeShard(key, read).value.equals(record.value)) throw unreadable()
  return record
}

/** @throws StoreCorrupt */
export function decodeShard(
  key: string,
  object: { value: Buffer; metadata: Readonly<Record<string, string>> },
): DirectoryShard & { readonly refused: readonly RefusedEntry[] } {
  const shard = opened(key, object, shardSchema)
  if (shard.key !== undefined && shard.key !== key)
    throw new StoreCorrupt(`directory record ${key}: it is another one, ${printable(Buffer.from(shard.key))}`)
  const refused: RefusedEntry[] = []
  const decode = (entry: unknown): RecordedEntry[] => {
    const parsed = entrySchema.safeParse(entry)
    if (!parsed.success) {
      refused.push({ name: '?', reason: `its record cannot be read: ${z.prettifyError(parsed.error)}` })
      return []
    }
    const decoded = decodeEntry(parsed.data)
    const wrong = wrongName(decoded.name)
    if (wrong === undefined) return [decoded]
    refused.push({ name: printable(decoded.name.subarray(0, MOST_SHOWN)), reason: wrong })
    return []
  }
  const { leaving = [] } = shard
  return { entries: shard.entries.flatMap(decode), leaving: leaving.flatMap(decode), refused }
}

function encodeEntry({ name, ino, generation, key, links, from }: RecordedEntry): unknown {
  return {
    ...encodeName(name),
    ino: ino.toString(),
    generation,
    ...(key === undefined ? {} : { key }),
    ...(links === undefined ? {} : { links }),
    ...(from
      ? { from: from.map((place) => ({ directory: place.directory, ...encodeName(place.name) })) }
      : {}),
  }
}

function decodeEntry({
  name,
  raw,
  ino,
  generation,
  key,
  links,
  from,
}: z.infer<typeof entrySchema>): RecordedEntry {
  return {
    name: decodeName({ name, raw }),
    ino: BigInt(ino),
    generation,
    key,
    ...(links === undefined ? {} : { links }),
    ...(from ? { from: from.map((place) => ({ directory: place.directory, name: decodeName(place) })) } : {}),
  }
}

interface NameFields {
  readonly name?: string | undefined
  readonly raw?: string | undefined
}

function encodeName(name: Buffer): NameFields {
  const text = name.toString('utf8')
  return Buffer.from(text).equals(name) ? { name: text } : { raw: name.toString('base64') }
}

function decodeName({ name, raw }: NameFields): Buffer {
  return name === undefined ? Buffer.from(raw ?? '', 'base64') : Buffer.from(name)
}
