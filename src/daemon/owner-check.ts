import { closeSync, existsSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { FsError, reasonOf, UsageError } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'
import type { MountConfig } from '../config/mount-config.ts'
import { mountCommand, type SettingTexts, settingTexts, shellWord } from '../config/mount-command.ts'
import { type FoundMark, isSameRoot, type OwnerMark, readMark, rootIdentity } from '../legacy/index.ts'
import { DIRECTORY_TO_READ } from '../sys/presence.ts'
import { ownerById, ownersOf, rememberedMounts } from './machine.ts'
import { CATALOG_FILE, type Identity, readIdentity, storePlace } from './state-dir.ts'

type Mount = Pick<MountConfig, 'source' | 'target' | 'stateDir' | 'namespace' | 'store'>

/**
 * Whether a mount is what the mark on SOURCE says, or what the machine has recorded of a SOURCE that is not written to.
 * @returns the id of the state directory whose place this mount takes; undefined if SOURCE is nobody else's
 * @throws UsageError in one line with the command that is right
 */
export function checkOwner(
  mount: Mount,
  takeOver: boolean,
  environment: NodeJS.ProcessEnv,
): string | undefined {
  refuseInsideOwned(mount)
  refuseAroundOwned(mount, environment)
  return withDirectory(mount.source, (root) => {
    const own = readIdentity(mount.stateDir)
    const ids = new Set([...(own?.id === undefined ? [] : [own.id]), ...(own?.replaces ?? [])])
    const found = markOf(mount.source, root, ids, environment)
    if (!found) return undefined
    const isCopy = found.kind === 'whole' && !isSameRoot(found.mark.root, rootIdentity(root))
    if (ids.has(found.id) && !isCopy) return takeOver ? found.id : undefined
    if (!isCopy && isRebuiltOf(found, own, mount)) return found.id
    // The catalog knows its id, whatever became of the record beside it; the worker asks it.
    const unknown = own?.id === undefined && found.kind === 'whole' && found.mark.stateDir === mount.stateDir
    if (unknown && !isCopy && existsSync(join(mount.stateDir, CATALOG_FILE))) return undefined
    if (takeOver) return found.id
    throw new UsageError(refusal(found, isCopy, mount))
  })
}

/** Whether SOURCE, or the machine of it, says that it is not complete by itself. */
export function isMarked(source: string, ids: ReadonlySet<string>, environment: NodeJS.ProcessEnv): boolean {
  return withDirectory(source, (root) => markOf(source, root, ids, environment) !== undefined) ?? false
}

function markOf(
  source: string,
  root: number,
  ids: ReadonlySet<string>,
  environment: NodeJS.ProcessEnv,
): FoundMark | undefined {
  return completed(readMark(root), environment) ?? recorded(source, rootIdentity(root), ids, environment)
}

/** Undefined where there is no such directory, or this user may not read it. */
function withDirectory<T>(path: string, look: (descriptor: number) => T): T | undefined {
  let descriptor: number
  try {
    descriptor = openSync(path, DIRECTORY_TO_READ)
  } catch {
    return undefined
  }
  try {
    return look(descriptor)
  } catch (error) {
    if (!(error instanceof FsError)) throw error
    throw new UsageError(`${path} does not say whether it is marked by ferryfs: ${reasonOf(error)}`, 1, {
      cause: error,
    })
  } finally {
    closeSync(descriptor)
  }
}

/** A mark that had no room for more than its id, with what the machine knows of that. */
function completed(found: FoundMark | undefined, environment: NodeJS.ProcessEnv): FoundMark | undefined {
  const mark = found?.kind === 'short' ? ownerById(found.id, environment) : undefined
  return mark ? { kind: 'whole', id: mark.id, mark } : found
}

/** The owner of a SOURCE without a mark, of several the one that asks. */
function recorded(
  source: string,
  root: OwnerMark['root'],
  ids: ReadonlySet<string>,
  environment: NodeJS.ProcessEnv,
): FoundMark | undefined {
  const owners = ownersOf(source, root, environment)
  const mark = owners.find(({ id }) => ids.has(id)) ?? owners[0]
  return mark && { kind: 'whole', id: mark.id, mark }
}

/** `rebuild` has made the catalog anew from the store that the mark names, and the old one is no more. */
function isRebuiltOf(found: FoundMark, own: Identity | undefined, { stateDir }: Mount): boolean {
  if (found.kind !== 'whole' || own?.source !== null) return false
  const { mark } = found
  const isLost = mark.stateDir === stateDir || !existsSync(join(mark.stateDir, CATALOG_FILE))
  // The store is there perhaps when the catalog is not.
  return isLost && mark.namespace === own.namespace && storePlace(storeOf(mark)) === storePlace(own.store)
}

function refuseInsideOwned({ source, target }: Mount): void {
  for (let path = source; dirname(path) !== path; ) {
    path = dirname(path)
    const mark = ownMarkOf(path)
    if (!mark) continue
    throw new UsageError(
      `SOURCE ${source} lies inside ${path}, whose files may be only in its store: ${rightCommand(mark, path, target)} mounts that, "ferryfs forget ${shellWord(path)}" forgets it`,
    )
  }
}

function refuseAroundOwned({ source, target }: Mount, environment: NodeJS.ProcessEnv): void {
  for (const inner of rememberedMounts(environment)) {
    if (inner.source === source || !isWithin(inner.source, source)) continue
    const mark = ownMarkOf(inner.source)
    if (!mark) continue
    throw new UsageError(
      `SOURCE ${source} holds ${inner.source}, whose files may be only in its store: ${rightCommand(mark, inner.source, target)} mounts that, "ferryfs forget ${shellWord(inner.source)}" forgets it`,
    )
  }
}

/** The mark of this very directory; a copy's says nothing about what is in it. */
function ownMarkOf(path: string): OwnerMark | undefined {
  return withDirectory(path, (root) => {
    const found = readMark(root)
    return found?.kind === 'whole' && isSameRoot(found.mark.root, rootIdentity(root)) ? found.mark : undefined
  })
}

/** One line: what is wrong, and the command that is right. */
export function refusal(found: FoundMark, isCopy: boolean, { source, target, stateDir }: Mount): string {
  const forget = `"ferryfs forget ${shellWord(source)}" forgets that`
  if (found.kind !== 'whole') {
    const which = found.kind === 'short' ? `the id ${found.id}` : 'nothing that this ferryfs can read'
    return `SOURCE ${source} is drained: its files are only where a state directory knows of which its mark says ${which}; give that --state-dir, or ${forget}`
  }
  const { mark } = found
  if (isCopy) {
    return `SOURCE ${source} is a copy of ${mark.source}, whose files are only where the state directory ${mark.stateDir} knows: ${rightCommand(mark, mark.source, target)} mounts that, ${forget}`
  }
  const what = `SOURCE ${source} is not complete by itself: its other files are where the state directory ${mark.stateDir} knows`
  const isThere = existsSync(join(mark.stateDir, CATALOG_FILE))
  if (isThere && mark.stateDir === stateDir) {
    return `${what}, and the catalog there does not know them any more; ${commandsAnew(mark, source, target)} (--take-over alone mounts without them, ${forget})`
  }
  if (isThere) {
    return `${what}; ${rightCommand(mark, source, target)} mounts it (--take-over mounts without them, ${forget})`
  }
  const rebuild = `ferryfs rebuild --store ${shellWord(mark.store)} --namespace ${mark.namespace} --state-dir ${shellWord(mark.stateDir)}`
  const remedy =
    mark.store === 'embedded:' ? 'bring it back' : `bring it back, or make it anew with "${rebuild}"`
  return `${what}, and that is not there (is its disk mounted?): ${remedy}, then ${rightCommand(mark, source, target)} mounts it (--take-over with another --namespace mounts without them, ${forget})`
}

/** One line about a state directory that SOURCE has left behind, with the store that went back with it. */
export function olderCopy({ source, stateDir }: Mount): string {
  return `the state directory ${stateDir} is an older copy of itself, and so is its store: SOURCE ${source} was served by a later one, and files that left it since are in neither; bring back the newest copy of both (--take-over alone mounts without what came later)`
}

/** One line about a SOURCE that says no more whose it is. */
export function lostMark({ source, stateDir }: Mount): string {
  return `SOURCE ${source} has lost the mark that the state directory ${stateDir} had put on it (by "ferryfs forget" or another --state-dir, or it is a copy): what was put there since may be hidden behind what the store has; a new --state-dir and --namespace serve SOURCE as it is, --take-over goes on with what this one knows`
}

/**
 * One line about a SOURCE without a mark, under a catalog that `rebuild` has made: it may be complete, and newer than what the store has.
 */
export function completeSource({ source, target, stateDir, store, namespace }: Mount): string {
  const settings = settingTexts({ store, namespace: otherName(namespace) })
  const anew = mountCommand({ source, target, stateDir: freeStateDir(stateDir), settings })
  const without = mountCommand({
    source: 'EMPTY-DIRECTORY',
    target,
    stateDir,
    settings: settingTexts({ store, namespace }),
  })
  return `SOURCE ${source} has no mark of ferryfs, so it may be complete by itself and newer than the store, out of which the state directory ${stateDir} was made anew: "${anew}" serves SOURCE as it is, "${without}" what the store has (--take-over serves what the store has, beside it what SOURCE alone has, and lists what is newer there)`
}

// A name has 63 characters at most.
const otherName = (namespace: string): string => `${namespace.slice(0, 61)}-2`

/** What to type where the state directory is there and its catalog has lost what it knew. What that has staged stays where it is. */
function commandsAnew(mark: OwnerMark, source: string, target: string): string {
  const stateDir = freeStateDir(mark.stateDir)
  const store = storeOf(mark)
  const words = ['rebuild', '--store', store, '--namespace', mark.namespace, '--state-dir', stateDir]
  const rebuild = `"ferryfs ${words.map(shellWord).join(' ')}"`
  const settings = { ...settingsOf(mark), store }
  const mount = `"${mountCommand({ source, target, stateDir, settings, takeOver: true })}"`
  return `${rebuild} makes one anew from the store, then ${mount} mounts them; what the store did not have yet is in ${mark.stateDir}: keep it`
}

function freeStateDir(besides: string): string {
  let stateDir = `${besides}.new`
  for (let nth = 2; existsSync(stateDir); nth += 1) stateDir = `${besides}.new${nth}`
  return stateDir
}

/** The default store lies in the state directory. */
const storeOf = ({ store, stateDir }: OwnerMark): string =>
  store === 'embedded:' ? `embedded:${join(stateDir, 'store')}` : store

/** What to type, with all that the last mount was told. */
function rightCommand(mark: OwnerMark, source: string, target: string): string {
  return `"${mountCommand({ source, target, stateDir: mark.stateDir, settings: settingsOf(mark) })}"`
}

function settingsOf({ stateDir, store, namespace }: OwnerMark): SettingTexts {
  try {
    const known = readIdentity(stateDir)?.settings
    if (known) return known
  } catch {
    // Of another version: what the mark says has to do.
  }
  return settingTexts({ store, namespace })
}
