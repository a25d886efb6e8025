import { z } from 'zod'
import { StoreCorrupt } from '../store/errors.ts'
import { sha256 } from './hash.ts'
import { RECORD_FORMAT } from './manifest.ts'

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

const decimal = z.string().regex(/^\d{1,20}$/)
const headerSchema = z.object({
  format: z.literal(RECORD_FORMAT),
  ino: decimal,
  generation: z.int().nonnegative(),
  mode: z.int().nonnegative(),
  uid: z.int().nonnegative(),
  gid: z.int().nonnegative(),
  nlink: z.int().nonnegative(),
  atime: z.string().regex(/^-?\d{1,20}$/),
  mtime: z.string().regex(/^-?\d{1,20}$/),
  ctime: z.string().regex(/^-?\d{1,20}$/),
  xattrs: z.string().optional(),
  recordGeneration: z.int().positive(),
  shards: z.int().positive(),
})
/** A name as UTF-8 text, or `raw` in base64 where it is none. */
const nameFields = { name: z.string().optional(), raw: z.string().optional() }
const entrySchema = z.object({
  ...nameFields,
  ino: decimal,
  generation: z.int().nonnegative(),
  key: z.string().optional(),
  links: z.int().positive().optional(),
  from: z.array(z.object({ ...nameFields, directory: z.string() })).optional(),
})
const shardSchema = z.object({
  format: z.literal(RECORD_FORMAT),
  entries: z.array(entrySchema),
  leaving: z.array(entrySchema).optional(),
})

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
    ...(header.xattrs ? { xattrs: header.xattrs.toString('base64') } : {}),
    recordGeneration: header.recordGeneration,
    shards: header.shards,
  })
}

/** @throws StoreCorrupt */
export function decodeHeader(
  key: string,
  object: { value: Buffer; metadata: Readonly<Record<string, string>> },
): DirectoryHeader {
  const { ino, atime, mtime, ctime, xattrs, format: _, ...rest } = opened(key, object, headerSchema)
  return {
    ...rest,
    ino: BigInt(ino),
    atimeNs: BigInt(atime),
    mtimeNs: BigInt(mtime),
    ctimeNs: BigInt(ctime),
    xattrs: xattrs === undefined ? undefined : Buffer.from(xattrs, 'base64'),
  }
}

export function encodeShard({ entries, leaving }: DirectoryShard): RecordObject {
  return sealed({
    format: RECORD_FORMAT,
    entries: entries.map(encodeEntry),
    ...(leaving.length > 0 ? { leaving: leaving.map(encodeEntry) } : {}),
  })
}

/** @throws StoreCorrupt */
export function decodeShard(
  key: string,
  object: { value: Buffer; metadata: Readonly<Record<string, string>> },
): DirectoryShard {
  const { entries, leaving = [] } = opened(key, object, shardSchema)
  return { entries: entries.map(decodeEntry), leaving: leaving.map(decodeEntry) }
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
