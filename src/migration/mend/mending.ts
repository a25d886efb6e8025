import { isDirectory } from '../../base/attributes.ts'
import { FsError, reasonOf } from '../../base/errors.ts'
import { faultPoint } from '../../base/faults.ts'
import type { OverlayContext } from '../../overlay/index.ts'
import { StoreError } from '../../store/errors.ts'
import { isOfNoUse, StoreReader } from '../rebuild/store-reader.ts'
import { mendDirectory } from './mend-directory.ts'
import { mendFile } from './mend-file.ts'

const AT_ONCE = 64

// Nobody is served meanwhile.
const LONGEST_MS = 60_000

/**
 * After the catalog has lost transactions: compares what is in doubt with the store, by version, and takes what is newer there. Before
 * anybody is served. All of it stays in doubt: what was changed last may never have reached the store. Nothing is written to the
 * store, and nothing goes from it. Cut short, the next start goes on.
 * @param signal ends it; without one it ends after a minute
 */
export async function mend(
  context: OverlayContext,
  signal: AbortSignal = AbortSignal.timeout(LONGEST_MS),
): Promise<void> {
  const { catalog, log, store } = context
  if (catalog.doubts.toCompare(1).length === 0) return
  const reader = new StoreReader(store)
  const counts = { compared: 0, taken: 0 }
  try {
    for (;;) {
      const some = catalog.doubts.toCompare(AT_ONCE)
      if (some.length === 0) break
      for (const ino of some) {
        signal.throwIfAborted()
        const taken = await mendOne(context, reader, ino)
        catalog.transaction(() => catalog.doubts.note(ino, taken ? 'taken' : 'nothing newer'))
        faultPoint('migration.mend.compared')
        counts.compared += 1
        if (taken) counts.taken += 1
      }
    }
    log.warn(
      counts,
      'what the catalog may have lost was compared with the store: what is newer there was taken',
    )
  } catch (error) {
    if (!signal.aborted && !(error instanceof StoreError || error instanceof FsError)) throw error
    log.error(
      { err: error, ...counts },
      'what the catalog may have lost could not all be compared with the store: the next start goes on',
    )
  }
}

/** Whether something of it was taken from the store. @throws StoreError where the store cannot say now; FsError */
async function mendOne(context: OverlayContext, reader: StoreReader, ino: bigint): Promise<boolean> {
  const { catalog, log } = context
  const inode = catalog.get(ino)
  if (!inode) return false
  try {
    if (!isDirectory(inode.mode)) return await mendFile(context, reader, ino)
    const { came, refused } = await mendDirectory(context, reader, ino)
    for (const why of refused)
      log.warn({ ino: ino.toString(), why }, 'a name that only the store has could not be put where it was')
    return came > 0
  } catch (error) {
    if (!isOfNoUse(error)) throw error
    log.warn(
      { ino: ino.toString(), why: reasonOf(error) },
      'what the store has of a file in doubt cannot be used',
    )
    return false
  }
}
