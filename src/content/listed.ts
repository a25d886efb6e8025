import { contentKey, fileId, type Incoming, type Owner } from '../catalog/index.ts'
import { StoreCorrupt } from '../store/errors.ts'
import { chunkCount } from './context.ts'
import { sha256 } from './hash.ts'
import { LIST_ENTRIES, levelsFor, slotsOf } from './list.ts'
import { type ChunkList, isHole, PAGE_CHUNKS, splitList, splitPage } from './manifest.ts'

/** An object of a file's content that its lists name. */
export type ListedObject = Incoming & { readonly hash: Buffer }

/** Bytes of the object under a key of the chunks, as the store has them. @throws StoreError */
export type GetValue = (key: string) => Promise<Buffer>

/**
 * All chunks and pages that the lists of a file name, each page before what it lists, ascending within a level. Pages are read with
 * `get` and checked; chunks are not. @throws StoreError
 */
export async function* listedObjects(
  owner: Owner,
  content: ChunkList,
  size: number,
  get: GetValue,
): AsyncGenerator<ListedObject> {
  const count = chunkCount(size)
  if (content.kind === 'list') {
    yield* below(owner, { level: levelsFor(count), first: 0, entries: content.entries, count }, get)
  } else if (content.kind === 'chunks') {
    yield* allOf(content.hashes, 0, count)
  } else if (content.kind === 'pages') {
    yield* oldPages(owner, content.hashes, count, get)
  }
}

interface List {
  /** Of its entries. */
  readonly level: number
  /** Index of the entry in slot 0. */
  readonly first: number
  readonly entries: Extract<ChunkList, { kind: 'list' }>['entries']
  readonly count: number
}

async function* below(owner: Owner, list: List, get: GetValue): AsyncGenerator<ListedObject> {
  const { level, first, entries, count } = list
  for (const { slot, hash, zeros } of entries) {
    const index = first + slot
    yield { level, index, hash, zeros: level === 0 ? zeros : undefined }
    if (level === 0) continue
    const key = contentKey(fileId(owner), level, index, hash)
    const start = index * LIST_ENTRIES
    const slots = Math.min(LIST_ENTRIES, slotsOf(count, level - 1) - start)
    const inside = splitList(key, await getPage(key, hash, get), slots)
    if (inside.length === 0) throw new StoreCorrupt(`object ${key}: a page that lists nothing`)
    yield* below(owner, { level: level - 1, first: start, entries: inside, count }, get)
  }
}

async function getPage(key: string, hash: Buffer, get: GetValue): Promise<Buffer> {
  const value = await get(key)
  if (!sha256(value).equals(hash))
    throw new StoreCorrupt(`object ${key}: it has other bytes than its name says`)
  return value
}

/** A list of format 1: one hash for every chunk, be it a hole. */
function* allOf(hashes: readonly Buffer[], first: number, count: number): Generator<ListedObject> {
  if (hashes.length !== count) throw new StoreCorrupt('its list of chunks does not fit its size')
  for (const [slot, hash] of hashes.entries()) {
    if (!isHole(hash)) yield { level: 0, index: first + slot, hash, zeros: undefined }
  }
}

async function* oldPages(
  owner: Owner,
  pages: readonly Buffer[],
  count: number,
  get: GetValue,
): AsyncGenerator<ListedObject> {
  if (pages.length !== Math.ceil(count / PAGE_CHUNKS))
    throw new StoreCorrupt('its list of pages does not fit its size')
  for (const [index, hash] of pages.entries()) {
    if (isHole(hash)) continue
    yield { level: 1, index, hash, zeros: undefined }
    const key = contentKey(fileId(owner), 1, index, hash)
    const first = index * PAGE_CHUNKS
    yield* allOf(splitPage(key, await getPage(key, hash, get)), first, Math.min(PAGE_CHUNKS, count - first))
  }
}
