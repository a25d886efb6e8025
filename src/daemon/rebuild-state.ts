import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { removeDatabase } from '../base/database.ts'
import { FsError, UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { metaOfUnused } from '../catalog/index.ts'
import { NamespaceLease, Rebuild, timesTaken } from '../migration/index.ts'
import { createMetrics } from '../observe/metrics.ts'
import { openStore } from '../store/index.ts'
import type { RebuildState } from './connection.ts'
import type { RebuildReport } from './engine.ts'
import { putInPlace, removeFile } from './files.ts'
import { openCatalog, openResilientStore } from './opening.ts'
import { CATALOG_FILE, readIdentity, recordIdentity } from './state-dir.ts'
import { UNSEEN } from './unseen-source.ts'

// A catalog gets its name when it is whole: a rebuild that was killed is run again.
const UNFINISHED_FILE = 'rebuild.db'
const SURVEY_FILE = 'rebuild-survey.db'

/** The catalog out of the store. */
export const rebuildState: RebuildState = (request, run) => rebuildOutOf(openStore, request, run)

/** The same out of a store that is opened in this way. */
export async function rebuildOutOf(
  open: typeof openStore,
  request: Parameters<RebuildState>[0],
  run: Parameters<RebuildState>[1],
): ReturnType<RebuildState> {
  const path = join(request.stateDir, CATALOG_FILE)
  const unfinished = join(request.stateDir, UNFINISHED_FILE)
  if (existsSync(path) && !isUnused(request.stateDir, path)) {
    throw new UsageError(`${path} exists: rebuild makes a new state directory and never writes into another`)
  }
  const store = await openResilientStore(
    { ...request },
    request.log,
    createMetrics(),
    { mustExist: true },
    open,
  )
  try {
    const lease = new NamespaceLease(store, request.namespace)
    const before = await lease.read()
    if (!before) {
      throw new FsError('ENOENT', `the store holds no namespace ${request.namespace}`)
    }
    removeDatabase(unfinished)
    const catalog = openCatalog(unfinished, { check: false, bulk: true })
    let result: RebuildReport
    try {
      const surveyPath = join(request.stateDir, SURVEY_FILE)
      const { acceptLosses } = request
      const how = { ...run, surveyPath, acceptLosses, timesTaken: timesTaken(before) }
      const rebuild = new Rebuild(catalog, store, request.log, how)
      result = await rebuild.run(request.concurrency)
      faultPoint('migration.rebuild.filled')
      catalog.transaction(() => {
        catalog.meta.set('mode', 'store-only')
        catalog.meta.set(UNSEEN, 'yes')
      })
      // One that a rebuild had made before goes while it has the namespace: without that it is in the way of the next.
      removeFile(path)
      await lease.acquire(catalog, true)
      // Only what is on the medium, all of it, gets its name.
      await catalog.flush()
    } finally {
      await catalog.close()
    }
    faultPoint('migration.rebuild.leased')
    // Whose it is comes first: a catalog with its name is one that a mount takes.
    const { namespace, store: url } = request
    recordIdentity(request.stateDir, { source: null, target: null, namespace, store: url })
    faultPoint('migration.rebuild.identified')
    // Of a catalog that was there before.
    removeDatabase(path)
    putInPlace(unfinished, path)
    faultPoint('migration.rebuild.named')
    removeDatabase(unfinished)
    return result
  } catch (error) {
    // Half a catalog is of no use, and may be what fills the disk.
    removeDatabase(unfinished)
    throw error
  } finally {
    await store.close()
  }
}

/**
 * Whether a rebuild has made the catalog and no mount has used it: nothing is in it but what the store says, so it may be made again,
 * by who does not know whether the last rebuild ended, or hopes that what was lost is back.
 */
function isUnused(stateDir: string, path: string): boolean {
  const identity = readIdentity(stateDir)
  if (identity && identity.source !== null) return false
  const meta = metaOfUnused(path)
  return meta?.get(UNSEEN) === 'yes' && !meta.has('source')
}
