import { isDirectory } from '../../../src/base/attributes.ts'
import { type Catalog, contentKey, fileId } from '../../../src/catalog/index.ts'
import { headerKey, MOST_LEVELS, shardKey } from '../../../src/content/index.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'

/** Every object that the catalog says the store has, as `space key`: of files with a name, or of those without one. */
function recordedObjects(catalog: Catalog, nameless: boolean): Set<string> {
  const keys = new Set<string>()
  for (const inode of catalog.scan()) {
    if (inode.orphan !== nameless) continue
    const id = fileId(inode)
    if (isDirectory(inode.mode)) {
      if (inode.dirShards > 0) keys.add(`dirs ${headerKey(id)}`)
      for (let shard = 0; shard < inode.dirShards; shard += 1) {
        keys.add(`dirs ${shardKey(id, inode.dirGeneration, shard)}`)
      }
      continue
    }
    if (inode.version > 0) keys.add(`files ${inode.key}`)
    for (let level = 0; level <= MOST_LEVELS; level += 1) {
      for (const { index, hash } of catalog.content.hashesFrom(inode.generation, level, 0))
        keys.add(`chunks ${contentKey(id, level, index, hash)}`)
    }
  }
  return keys
}

/** Every object that the store has, the lease aside. */
async function storedObjects(store: KeyValueStore): Promise<Set<string>> {
  const keys = new Set<string>()
  for (const space of ['files', 'chunks', 'dirs'] as const) {
    for await (const key of store.keys(space)) keys.add(`${space} ${key}`)
  }
  return keys
}

/** Objects of files without a name, which may be in use. */
export const namelessObjects = (catalog: Catalog): Set<string> => recordedObjects(catalog, true)

/** Objects that are missing, and objects that no name leads to. */
export async function accountFor(
  catalog: Catalog,
  store: KeyValueStore,
): Promise<{ missing: string[]; unowned: string[] }> {
  const recorded = recordedObjects(catalog, false)
  const stored = await storedObjects(store)
  return {
    missing: [...recorded].filter((key) => !stored.has(key)),
    unowned: [...stored].filter((key) => !recorded.has(key)),
  }
}
