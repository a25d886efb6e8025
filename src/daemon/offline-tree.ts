import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { copyDatabase, DatabaseDamaged } from '../base/database.ts'
import { FsError, reasonOf, UsageError } from '../base/errors.ts'
import { FailedSyncs } from '../base/failed-syncs.ts'
import { LockHeld } from '../base/file-lock.ts'
import { isMode, type Mode, type Policy, policyOf } from '../base/modes.ts'
import { Catalog, ROOT_INO } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import type { Settings } from '../config/options.ts'
import { KeptCache, KeptStaging } from '../content/index.ts'
import { hasMarkFile, type LegacyTree } from '../legacy/index.ts'
import {
  type Finding,
  mend,
  NamespaceLease,
  Rebuild,
  type RebuildFailure,
  type SourceTree,
  TreeView,
} from '../migration/index.ts'
import { createMetrics } from '../observe/metrics.ts'
import { type OverlayContext, recoverToRead } from '../overlay/index.ts'
import type { KeyValueStore } from '../store/contract.ts'
import { closeDescriptor } from '../sys/index.ts'
import { build, CACHE_DIRECTORY, contentSettings } from './build.ts'
import { openResilientStore } from './opening.ts'
import type { Connection } from './connection.ts'
import type { LongRunning } from './engine.ts'
import { acquireWorkerLock, CATALOG_FILE, claimStateDir, type Identity, readIdentity } from './state-dir.ts'
import { Volume } from './volume.ts'

// How long a worker of a killed daemon may take to be gone from the state directory.
const PREDECESSOR_MS = 10_000
// A tree is gone through once, a directory after the other.
const CACHE_ENTRIES = 5000

/** A tree without a daemon. */
export interface OfflineTree {
  readonly tree: SourceTree
  readonly namespace: string
  readonly source: string | null
  /** Its URL. */
  readonly store: string
  /** What of it cannot be had, as known already. */
  readonly known: readonly Finding[]
  close(): Promise<void>
}

interface Request {
  readonly settings: Settings
  readonly log: Logger
}

type Closing = Array<() => Promise<void> | void>

/**
 * The tree that a state directory knows, read without a mount. Nothing changes there, in the store or on the legacy volume: what has to be
 * decided is decided in a copy of the catalog. The directory is locked meanwhile.
 * @throws UsageError if it is no state directory, or a daemon serves it
 */
export function treeOfState(stateDir: string, request: Request): Promise<OfflineTree> {
  return opened(async (closing) => {
    const identity = lockState(stateDir, closing)
    const scratch = scratchDirectory(closing)
    const path = join(scratch, CATALOG_FILE)
    const catalog = await copyOfCatalog(join(stateDir, CATALOG_FILE), path)
    closing.push(() => catalog.close())
    const { namespace, store: url, source } = identity
    const store = await openResilientStore(
      { ...request.settings, namespace, store: url, stateDir },
      request.log,
      createMetrics(),
      { readOnly: true },
    )
    closing.push(() => store.close())
    await new NamespaceLease(store, namespace).noteOlder(catalog)
    const config = { ...request.settings, namespace, store: url, stateDir, source: source ?? '', target: '' }
    const { context, tree, known } = compose({ config, catalog, store, log: request.log }, closing)
    await mend(context)
    return { tree, namespace, source, store: url, known }
  })
}

/**
 * The tree as the store alone has it: its catalog is made anew in a directory for temporary files, and the namespace stays whose it is.
 * @throws StoreError if the store does not hold the namespace, or cannot say now what it has
 */
export function treeOfStore({ settings, log }: Request, run: LongRunning): Promise<OfflineTree> {
  return opened(async (closing) => {
    const { namespace } = settings
    const scratch = scratchDirectory(closing)
    const options = { ...settings, stateDir: scratch }
    const store = await openResilientStore(options, log, createMetrics(), { readOnly: true })
    closing.push(() => store.close())
    if (!(await new NamespaceLease(store, namespace).read()))
      throw new FsError('ENOENT', `the store holds no namespace ${namespace}`)
    const path = join(scratch, CATALOG_FILE)
    const failures = await rebuildAt(
      path,
      store,
      { settings, log },
      {
        ...run,
        surveyPath: join(scratch, 'survey.db'),
      },
    )
    const catalog = Catalog.open(path, { check: false, cacheEntries: CACHE_ENTRIES })
    closing.push(() => catalog.close())
    const config = { ...options, source: '', target: '' }
    const { tree } = compose({ config, catalog, store, log }, closing)
    // What is lost is met in the tree again, and that the store is damaged is said of all of it.
    const known = failures
      .filter(({ kind }) => kind !== 'lost' && kind !== 'older')
      .map(({ path, reason, kind }): Finding => ({ path, reason, kind: kind === 'doubt' ? kind : 'missing' }))
    return { tree, namespace, source: null, store: settings.store, known }
  })
}

/** Makes a catalog that is closed again: what makes it in bulk is no way to use it. */
async function rebuildAt(
  path: string,
  store: KeyValueStore,
  { settings, log }: Request,
  run: ConstructorParameters<typeof Rebuild>[3],
): Promise<readonly RebuildFailure[]> {
  const catalog = Catalog.open(path, { check: false, bulk: true })
  try {
    const { failures } = await new Rebuild(catalog, store, log, run).run(settings.concurrency)
    catalog.transaction(() => catalog.meta.set('mode', 'store-only'))
    return failures
  } finally {
    await catalog.close()
  }
}

/** Runs `open`; what it had opened is closed, the last first, if it fails or when the tree is closed. */
async function opened(open: (closing: Closing) => Promise<Omit<OfflineTree, 'close'>>): Promise<OfflineTree> {
  const closing: Closing = []
  const close = async (): Promise<void> => {
    for (const each of closing.splice(0).reverse()) await each()
  }
  try {
    return { ...(await open(closing)), close }
  } catch (error) {
    await close()
    throw error
  }
}

function lockState(stateDir: string, closing: Closing): Identity {
  const identity = existsSync(stateDir) ? readIdentity(stateDir) : undefined
  if (!identity) throw new UsageError(`${stateDir} is no state directory of ferryfs: it has no mount.json`)
  try {
    const lock = claimStateDir(stateDir, identity)
    closing.push(() => lock.release())
    const worker = acquireWorkerLock(stateDir, PREDECESSOR_MS)
    closing.push(() => worker.release())
  } catch (error) {
    const isHeld = error instanceof LockHeld || (error instanceof Error && error.cause instanceof LockHeld)
    if (!isHeld) throw error
    const target = identity.target ?? 'TARGET'
    throw new UsageError(
      `the state directory ${stateDir} is held by a running ferryfs; "ferryfs restore ${target} DEST" reads through it`,
    )
  }
  return identity
}

function scratchDirectory(closing: Closing): string {
  const directory = mkdtempSync(join(tmpdir(), 'ferryfs-restore-'))
  closing.push(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

async function copyOfCatalog(from: string, to: string): Promise<Catalog> {
  if (!existsSync(from)) throw new UsageError(`${from} is missing; ${WITHOUT_STATE}`)
  try {
    await copyDatabase(from, to)
    return Catalog.open(to, { check: true, cacheEntries: CACHE_ENTRIES })
  } catch (error) {
    if (!(error instanceof DatabaseDamaged)) throw error
    throw new UsageError(
      `${reasonOf(error)}; ${WITHOUT_STATE}, and TMPDIR names a directory with room for a copy of it`,
      1,
      { cause: error },
    )
  }
}

const WITHOUT_STATE = '"ferryfs restore --store URL --namespace NS DEST" does without it'

interface Parts {
  readonly config: MountConfig
  readonly catalog: Catalog
  readonly store: KeyValueStore
  readonly log: Logger
}

function compose(
  { config, catalog, store, log }: Parts,
  closing: Closing,
): { context: OverlayContext; tree: TreeView; known: Finding[] } {
  const recorded = catalog.meta.get('mode')
  const mode = recorded !== undefined && isMode(recorded) ? recorded : 'mirror'
  const volume = new Volume(config.source, catalog, hideOwnFiles, { files: true, directories: true })
  closing.push(() => volume.detach())
  const known = attach(volume, catalog, mode)
  const policy = policyToRead(mode, known.length > 0)
  const { context, overlay, stored } = build(config, nobody(log), {
    catalog,
    store,
    modes: { policy },
    volume,
    epoch: 0,
    failedSyncs: new FailedSyncs(() => undefined),
    kept: {
      staging: new KeptStaging(contentSettings(config), catalog),
      cache: new KeptCache(join(config.stateDir, CACHE_DIRECTORY)),
    },
  })
  closing.push(() => {
    context.legacyFiles.close()
    context.staging.close()
  })
  recoverToRead(context)
  return { context, tree: new TreeView(context, overlay, stored), known }
}

/** Attaches the legacy volume where the tree needs it. What is wrong where that cannot be had. */
function attach(volume: Volume, catalog: Catalog, mode: Mode): Finding[] {
  if (!policyOf(mode, false).needsLegacy && catalog.lists.onVolumeCount() === 0) return []
  try {
    volume.attach()
    return []
  } catch (error) {
    volume.attach({ mayFail: true })
    const reason = `${reasonOf(error)}: what is not in the store is missing, and the rest is as it was when it was copied`
    return [{ path: '.', kind: 'missing', reason }]
  }
}

/** Nothing is changed, whatever the mode would have changed; a volume that is not there is not asked first. */
function policyToRead(mode: Mode, withoutVolume: boolean): Policy {
  const policy = policyOf(mode, false)
  const readFrom = withoutVolume ? 'store' : policy.readFrom
  return { ...policy, readFrom, copies: false, removesLegacy: false }
}

function hideOwnFiles(tree: LegacyTree): void {
  const root = tree.openDirectory(ROOT_INO)
  try {
    tree.hidesOwnFiles = hasMarkFile(root)
  } finally {
    closeDescriptor(root)
  }
}

/** In the place of a supervisor. */
function nobody(log: Logger): Connection {
  return {
    supervisorPid: process.pid,
    workerStarts: 1,
    startedAt: new Date().toISOString(),
    takesOver: false,
    log,
    held: new Map(),
    notes: undefined,
    attach: () => Promise.reject(new Error('nothing is mounted')),
    useSource: () => undefined,
    saveState: () => undefined,
    closed: () => undefined,
    hold: () => Promise.reject(new FsError('EROFS', 'nothing is kept')),
    drop: () => undefined,
  }
}
