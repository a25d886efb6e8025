import { isRegular, isSymlink, S_IFDIR, S_IFMT } from '../../base/attributes.ts'
import { giveWay } from '../../base/pace.ts'
import {
  BLOCK_BYTES,
  type Catalog,
  type Incoming,
  type Inode,
  LAYOUT_CHUNKED,
  LAYOUT_INLINE,
  LAYOUT_RUNS,
} from '../../catalog/index.ts'
import {
  ALL_ZEROS,
  CHUNK_BYTES,
  chunkCount,
  dataBlocks,
  decodeFileObject,
  decodeXattrs,
  listedObjects,
  zerosOf,
} from '../../content/index.ts'
import { StoreCorrupt } from '../../store/errors.ts'
import type { StoreReader } from './store-reader.ts'

const ROWS_AT_ONCE = 256
const MOST_TARGET = 4095

/** A file as its object says it is. */
export interface FoundFile {
  readonly record: ReturnType<typeof decodeFileObject>
  /** All that the inode has from it but the blocks that it takes, and its names. */
  readonly inode: Partial<Inode>
}

/** The object under a file's key is another file's. */
export class OtherFile extends StoreCorrupt {}

/** Reads the object that a record names for a file. @throws StoreError if it is not there, damaged, or another file's */
export async function readFile(
  reader: StoreReader,
  name: Pick<Inode, 'ino' | 'generation'>,
  key: string,
): Promise<FoundFile> {
  const object = await reader.newest('files', key)
  const record = decodeFileObject(key, object)
  const { ino, generation, attributes, xattrs, content, digest } = record
  if (ino !== name.ino || generation !== name.generation)
    throw new OtherFile(`object ${key} is of inode ${ino}, generation ${generation}: another file's`)
  requireWhole(key, record)
  const regular = isRegular(attributes.mode)
  const listed = content.kind === 'list' ? LAYOUT_RUNS : LAYOUT_CHUNKED
  const { ino: _, blksize: __, nlink: ___, ...rest } = attributes
  const inode: Partial<Inode> = {
    ...rest,
    btimeNs: attributes.btimeNs ?? 0n,
    flags: attributes.flags ?? 0,
    xattrs,
    authority: 'catalog',
    base: regular ? 'store' : 'none',
    baseLimit: regular ? chunkCount(attributes.size) : 0,
    layout: content.kind === 'inline' ? LAYOUT_INLINE : listed,
    digest,
    storedSize: attributes.size,
    key,
    epoch: object.version.epoch,
    version: object.version.version,
    ...(isSymlink(attributes.mode) && content.kind === 'inline'
      ? { target: Buffer.from(content.bytes) }
      : {}),
  }
  return { record, inode }
}

/** The checksum says that the object is what somebody wrote, not that it makes sense. @throws StoreCorrupt */
function requireWhole(key: string, { attributes, content, xattrs }: FoundFile['record']): void {
  const refuse = (why: string): never => {
    throw new StoreCorrupt(`object ${key}: ${why}`)
  }
  const { mode, size } = attributes
  if ((mode & S_IFMT) === S_IFDIR) refuse('it says that it is a directory')
  if (isSymlink(mode)) {
    if (content.kind !== 'inline') refuse('a symlink without a target')
    else if (content.bytes.length === 0 || content.bytes.length > MOST_TARGET || content.bytes.includes(0))
      refuse('no symlink has such a target')
  }
  if (isRegular(mode) && content.kind === 'inline' && content.bytes.length !== size)
    refuse(`it says that it has ${size} bytes, and has ${content.bytes.length}`)
  try {
    decodeXattrs(xattrs)
  } catch (cause) {
    throw new StoreCorrupt(`object ${key}: its extended attributes cannot be read`, { cause })
  }
}

/**
 * Lists what the content of a file is made of, under the generation, which is the file's alone.
 * @returns the blocks of 512 bytes that it takes @throws StoreError
 */
export async function listContent(
  catalog: Catalog,
  reader: StoreReader,
  { record }: FoundFile,
): Promise<number> {
  const { content } = catalog
  const { generation, attributes } = record
  const { size } = attributes
  if (!isRegular(attributes.mode) || size === 0) return 0
  if (!content.isPlain(generation))
    throw new StoreCorrupt(`it says that it is generation ${generation}, and so does another file`)
  if (record.content.kind === 'inline') {
    const found = zerosOf(record.content.bytes)
    const zeros = found === 'all' ? ALL_ZEROS : found
    if (zeros) catalog.transaction(() => content.setInline(generation, zeros))
    return blocksIn(zeros, 0, size)
  }
  return listChunks(catalog, reader, record)
}

async function listChunks(
  catalog: Catalog,
  reader: StoreReader,
  record: FoundFile['record'],
): Promise<number> {
  const { content } = catalog
  const { generation, attributes } = record
  let blocks = 0
  let rows: Incoming[] = []
  const file = (): void => {
    catalog.transaction(() => {
      content.begin(generation)
      content.list(generation, rows)
    })
    rows = []
  }
  const get = async (key: string): Promise<Buffer> => (await reader.newest('chunks', key)).value
  for await (const row of listedObjects(record, record.content, attributes.size, get)) {
    if (row.level === 0) blocks += blocksIn(row.zeros, row.index, attributes.size)
    if (rows.push(row) < ROWS_AT_ONCE) continue
    file()
    await giveWay()
  }
  file()
  return blocks
}

/** The blocks of 512 bytes that a chunk takes of a file of this size. */
export function blocksIn(zeros: Buffer | undefined, chunk: number, size: number): number {
  const length = Math.min(CHUNK_BYTES, size - chunk * CHUNK_BYTES)
  return (dataBlocks(zeros, Math.ceil(length / BLOCK_BYTES)) * BLOCK_BYTES) / 512
}
