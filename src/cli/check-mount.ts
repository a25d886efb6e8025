import { join, relative } from 'node:path'
import { UsageError } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'
import { loadSettings, type Sources } from '../config/load.ts'
import type { SettingTexts } from '../config/mount-command.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { defaultStateDir, runDirectory } from '../config/paths.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { isBelow, mountPath, realPathOfNew } from '../daemon/locate.ts'
import { MOUNT_TYPE } from '../daemon/mount-drivers.ts'
import { refuseNoStorage } from '../daemon/not-storage.ts'
import { checkOwner } from '../daemon/owner-check.ts'
import { isForState } from '../daemon/private-state-dir.ts'
import { probePath } from '../daemon/probe.ts'
import { findRegistration, registrations, supervisorAlive } from '../daemon/registry.ts'
import { requireRoom, sharesVolume } from '../daemon/reserve.ts'
import { SourceClaim } from '../daemon/source-claim.ts'
import { checkStateDir, readIdentity } from '../daemon/state-dir.ts'
import { leadsInto, mountsOf } from '../fuse/kernel/mountinfo.ts'
import { probeMount } from '../fuse/kernel/probe.ts'
import { hasEnded, isLeaving } from './leaving.ts'

// A directory that does not answer by then lies on a volume that hangs.
const LOOK_MS = 10_000

// What a daemon may take for the store work that is left (--op-timeout), and to end.
const LEAVING_MS = 60_000

/** What was typed, or is remembered of the last mount at TARGET. */
export interface MountToCheck {
  readonly source: string
  readonly target: string
  readonly stateDir?: string
  readonly remembered?: SettingTexts
}

interface MountSources extends Sources {
  /** Whatever SOURCE's mark says. */
  readonly takeOver: boolean
}

/**
 * Everything that `mount` can know beforehand, with nothing changed.
 * @throws UsageError in one line: what is wrong, with what, what to do
 */
export async function checkMount(wanted: MountToCheck, sources: MountSources): Promise<MountConfig> {
  const { source, target, remembered } = wanted
  const settings = loadSettings({ ...sources, remembered })
  const { environment } = sources
  const [legacy, mountPoint] = await Promise.all([
    // Without --mode the one that the state directory records is in force; the worker knows whether it needs SOURCE.
    checkSource(source, settings.mode === undefined || settings.mode === 'store-only'),
    checkTarget(target, runDirectory(environment)),
  ])
  refuseNesting('SOURCE', legacy.path, 'TARGET', mountPoint)
  await whenLeft(runDirectory(environment), {
    source: legacy.path,
    target: mountPoint,
    stateDir: settings.stateDir ?? wanted.stateDir,
  })
  // Looked at only; the daemon does it again, for good. Here it is said before anything is made.
  const claim = await SourceClaim.take(legacy.path, runDirectory(environment))
  claim.release()
  const stateDir = await realPathOfNew(
    settings.stateDir ?? wanted.stateDir ?? defaultStateDir(legacy.path, mountPoint, environment),
  )
  const kept: [name: string, path: string][] = [['the state directory', stateDir]]
  const storePath = settings.store.replace(/^embedded:/, '')
  if (storePath.startsWith('/')) {
    const storeDir = await realPathOfNew(storePath)
    refuseMixing(stateDir, join(storeDir, settings.namespace))
    kept.push(['the store', storeDir])
  }
  for (const [name, path] of kept) {
    refuseNoStorage(name, path)
    // In TARGET the daemon would wait for itself, in SOURCE it would migrate its own files.
    refuseInside(name, path, 'TARGET', mountPoint)
    refuseInside(name, path, 'SOURCE', legacy.path)
    await refuseLeadingInto(name, path, legacy.path)
  }
  const mount = { ...settings, source: legacy.path, target: mountPoint, stateDir }
  if (legacy.detached && readIdentity(stateDir)?.source !== legacy.path) {
    // The state directory does not know it either: a typing error, not a volume that was detached.
    throw new UsageError(`SOURCE ${source} does not exist; give the directory to migrate`)
  }
  const shares = sharesVolume(legacy.path, stateDir)
  if (shares) requireRoom(stateDir)
  const { takeOver } = sources
  const takesFrom = checkOwner(mount, takeOver, environment)
  checkStateDir(stateDir, mount)
  if (settings.transport === 'fuse-native' && settings.options?.split(',').includes('nosymfollow')) {
    throw new UsageError('--options nosymfollow cannot be had with --transport fuse-native; leave one out')
  }
  if (settings.transport === 'kernel' && process.geteuid?.() !== 0) {
    throw new UsageError(
      'mounting needs root; be root, or use --transport fuse-native with fusermount',
      EXIT.failed,
    )
  }
  return { ...mount, takesFrom, takeOver, sharesVolume: shares }
}

/** A daemon whose mount was taken off has settled and ended in a while: then the same can be mounted again. */
async function whenLeft(
  runDir: string,
  { source, target, stateDir }: { source: string; target: string; stateDir: string | undefined },
): Promise<void> {
  for (const registration of registrations(runDir)) {
    const isConcerned =
      registration.source === source || registration.target === target || registration.stateDir === stateDir
    if (isConcerned && isLeaving(registration)) await hasEnded(registration, LEAVING_MS, isLeaving)
  }
}

interface Legacy {
  readonly path: string
  /** The volume is not there, as `store-only` allows. */
  readonly detached: boolean
}

async function checkSource(source: string, mayBeDetached: boolean): Promise<Legacy> {
  const found = await probePath(source, LOOK_MS)
  if (found.kind === 'directory') return { path: found.realPath, detached: false }
  if (found.kind === 'error' && found.code === 'ENOENT' && mayBeDetached) {
    return { path: await mountPath(source), detached: true }
  }
  throw new UsageError(`SOURCE ${source} ${problemOf(found)}; give the directory to migrate`)
}

/** The real path of a directory that is free to be mounted on, or holds what a killed daemon left. */
async function checkTarget(target: string, runDir: string): Promise<string> {
  const path = await mountPath(target)
  if (await isFree(path, runDir)) return path
  const found = await probePath(path, LOOK_MS)
  if (found.kind !== 'directory') {
    throw new UsageError(`TARGET ${target} ${problemOf(found)}; give an existing directory to mount on`)
  }
  // TARGET may be a symlink to a mount point.
  if (found.realPath !== path) await isFree(found.realPath, runDir)
  return found.realPath
}

/** True if a stale mount of ours is there, which will be replaced; false if nothing is. @throws UsageError */
async function isFree(path: string, runDir: string): Promise<boolean> {
  const top = mountsOf(path).at(-1)
  if (!top) return false
  if (top.type !== MOUNT_TYPE) {
    throw new UsageError(
      `TARGET ${path} is in use: ${top.source} (${top.type}) is mounted there; unmount it, or give another directory`,
    )
  }
  const state = await probeMount(path)
  if (state === 'stale') return true
  const registration = findRegistration(runDir, path)
  const alive = registration !== undefined && supervisorAlive(registration)
  throw new UsageError(
    state === 'answers' || alive
      ? `TARGET ${path} is in use: ferryfs serves ${top.source} there; "ferryfs status ${path}" shows it, ` +
          `"ferryfs unmount ${path}" ends it`
      : `TARGET ${path} is in use: a ferryfs mount there does not answer; "ferryfs unmount --force ${path}" ends it`,
  )
}

function problemOf(found: Awaited<ReturnType<typeof probePath>>): string {
  if (found.kind === 'hung') return 'does not answer'
  if (found.kind !== 'error') return 'is not a directory'
  if (found.code === 'EILSEQ') return 'leads to a name that is not valid UTF-8'
  return found.code === 'ENOENT' ? 'does not exist' : `cannot be used (${found.code})`
}

function refuseNesting(name: string, path: string, otherName: string, other: string): void {
  refuseInside(name, path, otherName, other)
  refuseInside(otherName, other, name, path)
}

function refuseInside(name: string, path: string, otherName: string, other: string): void {
  if (!isWithin(path, other)) return
  throw new UsageError(
    path === other
      ? `${name} and ${otherName} are the same directory ${path}; give two`
      : `${name} ${path} lies inside ${otherName} ${other}; give a directory outside`,
  )
}

/** The paths alone do not tell: a bind mount shows under one what lies under another, and names may be the same in any case. */
async function refuseLeadingInto(name: string, path: string, source: string): Promise<void> {
  const how = leadsInto(path, source)
    ? 'by a bind mount'
    : (await isBelow(path, source))
      ? 'by another path to it'
      : undefined
  if (how === undefined) return
  throw new UsageError(`${name} ${path} lies inside SOURCE ${source}, ${how}; give a directory outside`)
}

/** An embedded store has a directory for each namespace. In a state directory, some names are for something else. */
function refuseMixing(stateDir: string, namespaceDir: string): void {
  const [first = ''] = relative(stateDir, namespaceDir).split('/')
  const isMixed = isWithin(stateDir, namespaceDir) || (isWithin(namespaceDir, stateDir) && isForState(first))
  if (!isMixed) return
  throw new UsageError(
    `the store would have its namespace in ${namespaceDir}, where the state directory ${stateDir} has files of its own; ` +
      'give another --store, --namespace or --state-dir',
  )
}
