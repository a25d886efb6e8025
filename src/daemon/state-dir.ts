import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isMountFlag, type MountFlag } from '../config/mount-flags.ts'
import { type SettingTexts, settingTextsIn } from '../config/mount-command.ts'
import { reasonOf, UsageError } from '../base/errors.ts'
import { FileLock, LockHeld } from '../base/file-lock.ts'
import { makeDirectories, makePrivateDirectory } from '../base/private.ts'
import { lockHolders } from '../sys/presence.ts'
import { readJsonObject, replaceFile } from './files.ts'
import { checkKinds, checkPrivate, makePrivate } from './private-state-dir.ts'

/** Whose state a directory holds, in its `mount.json`. After `rebuild` it has no source and target until it is mounted. */
export interface Identity {
  readonly source: string | null
  /** The last one; another is as good. */
  readonly target: string | null
  readonly namespace: string
  readonly store: string
  /** By which a SOURCE's mark names this state; absent before the first mount, and from an older ferryfs. */
  readonly id?: string | undefined
  /** Of states whose place this one has taken: their marks are its own. */
  readonly replaces?: readonly string[] | undefined
  /** What the last mount was told, as `mount` takes it. */
  readonly settings?: SettingTexts | undefined
  /** With what options SOURCE was mounted when it was seen last. */
  readonly sourceFlags?: readonly MountFlag[] | undefined
}

const IDENTITY_FILE = 'mount.json'
// A directory of its own, made with no rights for others: nobody else can ever have opened a lock in it.
const LOCKS = 'locks'
const SUPERVISOR_LOCK = 'supervisor.lock'
const WORKER_LOCK = 'worker.lock'
export const LOG_FILE = 'daemon.log'
export const CATALOG_FILE = 'catalog.db'

// A supervisor that was killed a moment ago lets go of its lock when its last thread has died.
const DYING_MS = 1_000

/** @throws UsageError if there is one that this ferryfs cannot read */
export function readIdentity(stateDir: string): Identity | undefined {
  const path = join(stateDir, IDENTITY_FILE)
  if (!existsSync(path)) return undefined
  checkKinds(stateDir, [IDENTITY_FILE])
  let why = 'it is of another format'
  try {
    const { format, source, target, namespace, store, ...rest } = readJsonObject(path)
    if (
      format === 1 &&
      (source === null || typeof source === 'string') &&
      (target === null || typeof target === 'string') &&
      typeof namespace === 'string' &&
      typeof store === 'string'
    ) {
      return { source, target, namespace, store, ...additions(rest) }
    }
  } catch (error) {
    why = reasonOf(error)
  }
  throw new UsageError(
    `${path} cannot be read (${why}); give another --state-dir, or the ferryfs that wrote it`,
  )
}

/** What a state directory of an older ferryfs does not have. */
function additions({
  id,
  replaces,
  settings,
  sourceFlags,
}: Readonly<Record<string, unknown>>): Pick<Identity, 'id' | 'replaces' | 'settings' | 'sourceFlags'> {
  return {
    ...(typeof id === 'string' ? { id } : {}),
    ...(Array.isArray(replaces) ? { replaces: replaces.filter((each) => typeof each === 'string') } : {}),
    ...(settings === undefined ? {} : { settings: settingTextsIn(settings) }),
    ...(Array.isArray(sourceFlags) ? { sourceFlags: sourceFlags.map(String).filter(isMountFlag) } : {}),
  }
}

/** The part of a store URL without which the objects that the catalog knows are not there. */
export function storePlace(url: string): string {
  return url.startsWith('embedded:') ? url : `${url.split(':')[0]}:`
}

/** @throws UsageError if the directory belongs to another mount, or to no mount and is not empty */
function checkIdentity(stateDir: string, wanted: Identity): void {
  const found = readIdentity(stateDir)
  if (!found) {
    refuseForeign(stateDir)
    return
  }
  const differs = (['source', 'namespace'] as const).find(
    (key) => found[key] !== null && wanted[key] !== null && found[key] !== wanted[key],
  )
  if (differs) {
    throw new UsageError(
      `the state directory ${stateDir} belongs to another mount: its ${differs} is ${found[differs]}, ` +
        `not ${wanted[differs]}; give another --state-dir, or the same ${differs}`,
    )
  }
  if (storePlace(found.store) !== storePlace(wanted.store)) {
    throw new UsageError(
      `the state directory ${stateDir} knows what lies in the store ${found.store}, ` +
        `not in ${wanted.store}; give that --store, or another --state-dir`,
    )
  }
}

function refuseForeign(stateDir: string): void {
  if (!existsSync(stateDir)) return
  const entries = readdirSync(stateDir)
  // A start that was killed before mount.json leaves a log and a lock; a volume of its own has a lost+found.
  if (entries.includes(LOCKS) || entries.includes(SUPERVISOR_LOCK)) return
  const foreign = entries.find((name) => name !== 'lost+found' && !name.startsWith(LOG_FILE))
  if (foreign !== undefined) {
    throw new UsageError(
      `the state directory ${stateDir} is not empty and not of ferryfs (it holds ${foreign}); give an empty one`,
    )
  }
}

function inUse(stateDir: string, cause: unknown): UsageError {
  const target = readIdentity(stateDir)?.target
  return new UsageError(
    `the state directory ${stateDir} is held by a running ferryfs${target ? ` that serves ${target}` : ''}; ` +
      `unmount that first, or give another --state-dir`,
    2,
    { cause },
  )
}

function makeLockDirectory(stateDir: string): void {
  try {
    makePrivateDirectory(join(stateDir, LOCKS))
  } catch (error) {
    throw new UsageError(`the state directory ${stateDir} cannot be locked: ${reasonOf(error)}`, 2, {
      cause: error,
    })
  }
}

function acquireSupervisorLock(stateDir: string): FileLock {
  makeLockDirectory(stateDir)
  try {
    return FileLock.acquire(join(stateDir, LOCKS, SUPERVISOR_LOCK), DYING_MS)
  } catch (error) {
    if (error instanceof LockHeld) throw inUse(stateDir, error)
    throw new UsageError(`the state directory ${stateDir} cannot be locked: ${reasonOf(error)}`, 2, {
      cause: error,
    })
  }
}

/**
 * Whether the directory could be claimed now, with nothing changed.
 * @throws UsageError as `claimStateDir`
 */
export function checkStateDir(stateDir: string, wanted: Identity): void {
  checkKinds(stateDir)
  checkIdentity(stateDir, wanted)
  checkPrivate(stateDir)
  refuseOldDaemon(stateDir)
  if (existsSync(join(stateDir, LOCKS, SUPERVISOR_LOCK))) acquireSupervisorLock(stateDir).release()
}

/** An older ferryfs had its locks beside everything else, where others may have been able to open and hold them. */
function refuseOldDaemon(stateDir: string): void {
  for (const path of oldLocks(stateDir)) {
    const own = process.geteuid?.()
    const ours = lockHolders(path).find(({ uid }) => uid === own || uid === 0)
    if (ours) throw inUse(stateDir, new LockHeld(path))
  }
}

function oldLocks(stateDir: string): string[] {
  return [SUPERVISOR_LOCK, WORKER_LOCK].map((name) => join(stateDir, name)).filter((path) => existsSync(path))
}

/** @throws UsageError if it cannot be made */
function makeStateDir(stateDir: string): void {
  try {
    makeDirectories(stateDir, 0o700)
  } catch (error) {
    throw new UsageError(`the state directory ${stateDir} cannot be created: ${reasonOf(error)}`, 2, {
      cause: error,
    })
  }
}

/**
 * Makes the directory where needed and locks it for as long as this process lives or until `release`.
 * @throws UsageError if it is another mount's, held by a live daemon, or cannot be written
 */
export function claimStateDir(stateDir: string, wanted: Identity): FileLock {
  makeStateDir(stateDir)
  // Before the lock file is made, which afterwards says that the directory is ours.
  checkKinds(stateDir)
  checkIdentity(stateDir, wanted)
  checkPrivate(stateDir)
  refuseOldDaemon(stateDir)
  const lock = acquireSupervisorLock(stateDir)
  try {
    // Again under the lock: another start may have recorded itself in between.
    checkIdentity(stateDir, wanted)
    makePrivate(stateDir)
    for (const path of oldLocks(stateDir))
      for (const suffix of ['', '-journal']) rmSync(`${path}${suffix}`, { force: true })
    return lock
  } catch (error) {
    lock.release()
    throw error
  }
}

/**
 * Records whose the claimed directory is. Not before there is something to own: a start that failed for a mistyped store
 * must not bind the directory to it.
 */
export function recordIdentity(stateDir: string, wanted: Identity): void {
  const found = readIdentity(stateDir)
  const identity = {
    format: 1,
    source: wanted.source ?? found?.source ?? null,
    target: wanted.target ?? found?.target ?? null,
    namespace: wanted.namespace,
    store: wanted.store,
    id: wanted.id ?? found?.id,
    replaces: wanted.replaces ?? found?.replaces,
    settings: wanted.settings ?? found?.settings,
    sourceFlags: wanted.sourceFlags ?? found?.sourceFlags,
  }
  replaceFile(join(stateDir, IDENTITY_FILE), identity)
}

/**
 * Taken by a worker before it opens the catalog. When supervisor and worker are killed together, the supervisor's lock
 * may vanish a moment before the worker does; this one makes the next worker wait for the last one's end.
 * @throws LockHeld after `waitMs`
 */
export function acquireWorkerLock(stateDir: string, waitMs: number): FileLock {
  makeLockDirectory(stateDir)
  return FileLock.acquire(join(stateDir, LOCKS, WORKER_LOCK), waitMs)
}
