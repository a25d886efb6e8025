import { S_IFREG } from '../../../src/base/attributes.ts'
import { contentKey } from '../../../src/catalog/index.ts'
import { encodeFileObject, headerKey, sha256, shardKey } from '../../../src/content/index.ts'
import type { KeyValueStore, ObjectVersion } from '../../../src/store/contract.ts'

/** An inode number that no file of a test has. */
const NOBODY = 0xfffffn

/** A file's object as ferryfs writes it. */
export function fileObject(ino: bigint, version: ObjectVersion, text = 'nobody knows me') {
  const attributes = {
    ino,
    mode: S_IFREG | 0o644,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: text.length,
    blocks: 1,
    blksize: 4096,
    atimeNs: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
  }
  const record = { ino, generation: 7, attributes, xattrs: undefined }
  const { value, metadata } = encodeFileObject(record, { kind: 'inline', bytes: Buffer.from(text) })
  return { value, metadata, version, contentType: 'text/plain' }
}

/** Puts one object of each kind into the store that no catalog knows. Their names, as `space key`. */
export async function leaveStrays(store: KeyValueStore, epoch: number): Promise<string[]> {
  const id = `${NOBODY.toString(16)}-7`
  const other = { value: Buffer.from('x'), metadata: {}, contentType: 'application/octet-stream' }
  const version = { epoch, version: 1 }
  const chunk = contentKey(id, 0, 3, sha256(other.value))
  await store.put('files', 'd/lost%@9-9', fileObject(NOBODY, version))
  await store.put('chunks', chunk, { ...other, version: { epoch: 0, version: 0 } })
  await store.put('dirs', headerKey(id), { ...other, version })
  await store.put('dirs', shardKey(id, 1, 0), { ...other, version })
  return [
    'files d/lost%@9-9',
    `chunks ${chunk}`,
    `dirs ${headerKey(id)}`,
    `dirs ${shardKey(id, 1, 0)}`,
  ].sort()
}
