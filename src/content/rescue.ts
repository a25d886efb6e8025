import { contentKey, fileId, type Inode, isStored } from '../catalog/index.ts'
import { compareVersions } from '../store/contract.ts'
import { StoreCorrupt, StoreError, StoreUnavailable } from '../store/errors.ts'
import { fileKey } from '../store/layout.ts'
import { lengthOf } from './chunk-length.ts'
import { CHUNK_BYTES, type ContentContext } from './context.ts'
import { sha256 } from './hash.ts'
import { listedObjects } from './listed.ts'
import { decodeFileObject } from './manifest.ts'
import { unpacked } from './zeros.ts'

/**
 * A staged chunk's bytes out of the store, where that has the file as it is staged: an upload whose record in the catalog a
 * crash or a power loss took back. `undefined` if the store has not, or does not answer.
 */
export async function bytesFromStore(
  context: ContentContext,
  inode: Inode,
  index: number,
): Promise<Buffer | undefined> {
  const { catalog, store } = context
  const path = catalog.links.pathOf(inode.ino)
  const key = inode.key ?? (path && fileKey(path))
  if (key === undefined || isStored(inode)) return undefined
  const known = { epoch: inode.epoch, version: inode.version }
  try {
    const object = await store.get('files', key, { expect: known })
    if (!object || compareVersions(object.version, known) <= 0) return undefined
    const record = decodeFileObject(key, object)
    const { size, mtimeNs } = record.attributes
    const isSame = record.ino === inode.ino && record.generation === inode.generation
    if (!isSame || size !== inode.size || mtimeNs !== inode.mtimeNs) return undefined
    return await chunkOf(context, record, index, lengthOf(inode, index))
  } catch (error) {
    if (error instanceof StoreError) return undefined
    throw error
  }
}

/** @throws StoreError */
async function chunkOf(
  { store }: ContentContext,
  record: ReturnType<typeof decodeFileObject>,
  index: number,
  length: number,
): Promise<Buffer> {
  if (record.content.kind === 'inline') {
    return record.content.bytes.subarray(index * CHUNK_BYTES, index * CHUNK_BYTES + length)
  }
  const get = async (key: string): Promise<Buffer> => {
    const object = await store.get('chunks', key, { expect: { epoch: 0, version: 0 } })
    if (!object) throw new StoreUnavailable(`object ${key} is not found`)
    return object.value
  }
  for await (const found of listedObjects(record, record.content, record.attributes.size, get)) {
    if (found.level > 0 || found.index !== index) continue
    const value = await get(contentKey(fileId(record), 0, index, found.hash))
    if (!sha256(value).equals(found.hash))
      throw new StoreCorrupt(`chunk ${index} has other bytes than its name says`)
    // Blocks of zeros are not in the object.
    const bytes = unpacked(value, found.zeros, length)
    if (!bytes) throw new StoreCorrupt(`chunk ${index} has other blocks than its list says`)
    return bytes.subarray(0, length)
  }
  return Buffer.alloc(length)
}
