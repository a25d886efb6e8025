import { isDirectory } from '../base/attributes.ts'
import { contentKey, fileId, type Inode } from '../catalog/index.ts'
import { headerKey, MOST_LEVELS, renew, shardKey } from '../content/index.ts'
import type { OverlayContext } from '../overlay/index.ts'
import type { KeySpace } from '../store/contract.ts'
import { StoreCorrupt, StoreUnavailable } from '../store/errors.ts'

/**
 * What the store has damaged, or lost for good, is owed to it again if it can be had without it. An object that is only not to
 * be had now comes back with its nodes. True if it is written again.
 */
export async function writeAgain(context: OverlayContext, ino: bigint, error: unknown): Promise<boolean> {
  const { copies, writeTo } = context.policy()
  if (context.carrier.fenced || !(copies || writeTo === 'store')) return false
  await context.catalog.ready()
  if (error instanceof StoreCorrupt) return renew(context, ino)
  return error instanceof StoreUnavailable && (await isAnyLost(context, ino)) && renew(context, ino)
}

/** Whether all who would have one of the objects were asked, and none has it. */
async function isAnyLost({ catalog, store }: OverlayContext, ino: bigint): Promise<boolean> {
  const inode = catalog.get(ino)
  if (!inode) return false
  try {
    for (const [space, key] of objectsOf(catalog, inode)) {
      if ((await store.get(space, key, { everywhere: true })) === undefined) return true
    }
  } catch {
    // Somebody cannot say: not known to be lost.
  }
  return false
}

function* objectsOf(catalog: OverlayContext['catalog'], inode: Inode): Generator<[KeySpace, string]> {
  const id = fileId(inode)
  if (isDirectory(inode.mode)) {
    yield ['dirs', headerKey(id)]
    for (let shard = 0; shard < inode.dirShards; shard += 1)
      yield ['dirs', shardKey(id, inode.dirGeneration, shard)]
    return
  }
  if (inode.key !== undefined) yield ['files', inode.key]
  for (let level = 0; level <= MOST_LEVELS; level += 1) {
    for (const { index, hash } of catalog.content.hashesFrom(inode.generation, level, 0))
      yield ['chunks', contentKey(id, level, index, hash)]
  }
}
