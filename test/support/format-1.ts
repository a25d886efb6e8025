import { contentKey, fileId } from '../../src/catalog/index.ts'
import { CHUNK_BYTES, decodeFileObject, HOLE, listedObjects, sha256 } from '../../src/content/index.ts'
import type { MemoryStore } from '../../src/store/memory/store.ts'

// As format 1 had them: a manifest lists up to so many chunks itself, a page so many.
const EMBEDDED_CHUNKS = 1024
const PAGE_CHUNKS = 8192
const CHUNK_VERSION = { epoch: 0, version: 0 }

/**
 * Lists the chunks of all files in the store as format 1 did: one hash for each, holes included. No chunk of them may have a
 * block of zeros: format 1 had whole chunks.
 */
export async function listAsFormat1(store: MemoryStore): Promise<void> {
  for await (const key of store.keys('files')) {
    const object = await store.get('files', key)
    const record = object && decodeFileObject(key, object)
    if (record?.content.kind !== 'list') continue
    const { size } = record.attributes
    const hashes: Buffer[] = Array.from({ length: Math.ceil(size / CHUNK_BYTES) }, () => HOLE)
    const gone: string[] = []
    const get = async (page: string): Promise<Buffer> =>
      (await store.get('chunks', page))?.value ?? Buffer.alloc(0)
    for await (const { level, index, hash, zeros } of listedObjects(record, record.content, size, get)) {
      if (zeros) throw new Error(`${key} has blocks of zeros in chunk ${index}`)
      if (level === 0) hashes[index] = hash
      else gone.push(contentKey(fileId(record), level, index, hash))
    }
    for (const page of gone) await store.delete('chunks', page, CHUNK_VERSION)
    const list =
      hashes.length <= EMBEDDED_CHUNKS
        ? { chunks: joined(hashes) }
        : { pages: joined(await pages(store, fileId(record), hashes)) }
    const value = Buffer.from(JSON.stringify({ format: 1, chunkBytes: CHUNK_BYTES, ...list }))
    const metadata = { ...object?.metadata, 'ferry-sha256': sha256(value).toString('hex') }
    const version = object?.version ?? CHUNK_VERSION
    await store.put('files', key, { value, metadata, version, contentType: 'application/json' })
  }
}

async function pages(store: MemoryStore, id: string, hashes: readonly Buffer[]): Promise<Buffer[]> {
  const names: Buffer[] = []
  for (let first = 0; first < hashes.length; first += PAGE_CHUNKS) {
    const value = Buffer.concat(hashes.slice(first, first + PAGE_CHUNKS))
    const hash = sha256(value)
    const key = contentKey(id, 1, names.length, hash)
    const object = { value, metadata: {}, version: CHUNK_VERSION, contentType: 'application/octet-stream' }
    await store.put('chunks', key, object)
    names.push(hash)
  }
  return names
}

const joined = (hashes: readonly Buffer[]): string => Buffer.concat([...hashes]).toString('base64')
