import { constants } from 'node:fs'
import { isRegular } from '../base/attributes.ts'
import { FsError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { OWNER_FILE, OWNER_FILE_UNFINISHED, OWNER_XATTR } from '../base/own-names.ts'
import { sealJson, unsealJson } from '../base/sealed-json.ts'
import {
  chmodDescriptor,
  closeDescriptor,
  openAt,
  readNow,
  renameAt,
  statAt,
  statDescriptor,
  syncNow,
  unlinkAt,
  UTIME_OMIT,
  utimensDescriptor,
  writeNow,
  xattrsOfOpen,
} from '../sys/index.ts'

/** Who knows where the files are that are not on a volume any more. */
export interface OwnerMark {
  /** Of the state directory: the owner under which its catalog holds the namespace. */
  readonly id: string
  readonly namespace: string
  readonly store: string
  readonly stateDir: string
  /** The path that the volume was served from. */
  readonly source: string
  /** Of the directory that was marked: one that was copied, mark and all, is another. */
  readonly root: RootIdentity
  /** Of the last mount that marked it. Marks of earlier states of the sources have none. */
  readonly epoch?: number
  /** Number of the state that its catalog had flushed when it was written. Marks of earlier ferryfs have none. */
  readonly state?: number
}

export interface RootIdentity {
  readonly ino: string
  /** Time of birth in nanoseconds, 0 where the file system keeps none. */
  readonly btimeNs: string
}

/** `short`: there was no room for more than the id; the machine's records may know the rest. `unreadable`: of another format. */
export type FoundMark =
  | { readonly kind: 'whole'; readonly id: string; readonly mark: OwnerMark }
  | { readonly kind: 'short'; readonly id: string }
  | { readonly kind: 'unreadable'; readonly id: string }

const XATTR = Buffer.from(OWNER_XATTR)
const FILE = Buffer.from(OWNER_FILE)
const UNFINISHED = Buffer.from(OWNER_FILE_UNFINISHED)
const FORMAT = 1
const MAX_BYTES = 32 * 1024
const XATTR_REPLACE_OR_CREATE = 0

// What a file system answers that has no such attributes, or keeps them from this user.
const NO_XATTRS: ReadonlySet<string> = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EPERM', 'EACCES', 'ENOSYS'])
const NOTHING: ReadonlySet<string> = new Set(['ENODATA', 'ENOENT'])
const NOT_OURS: ReadonlySet<string> = new Set(['ELOOP', 'EACCES', 'ENXIO'])
const NO_ROOM: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'E2BIG', 'ERANGE'])

// For people who look at the volume and wonder.
const WORDS =
  'ferryfs serves this directory; files that are not here are in its store. Do not remove this mark.'

export function rootIdentity(root: number): RootIdentity {
  const { ino, btimeNs } = statDescriptor(root)
  return { ino: String(ino), btimeNs: String(btimeNs) }
}

/** Whether this is the directory that was marked, and no copy of it. */
export function isSameRoot(a: RootIdentity, b: RootIdentity): boolean {
  return a.ino === b.ino && (a.btimeNs === b.btimeNs || a.btimeNs === '0' || b.btimeNs === '0')
}

/**
 * The mark of a volume, if it has one.
 * @param root a descriptor of its root, open for reading
 * @throws FsError if the volume does not say
 */
export function readMark(root: number): FoundMark | undefined {
  const bytes = readXattr(root) ?? readMarkFile(root)
  return bytes && parse(bytes)
}

/** Whether the mark is a file in the root, which has to be hidden. @throws FsError */
export function hasMarkFile(root: number): boolean {
  return readMarkFile(root) !== undefined
}

/**
 * Marks a volume for good: when this returns, the mark is on the medium. It is an extended attribute of the root; a file in
 * the root where the file system has none; and no more than the id where there is no room.
 * @throws FsError if it can be marked in none of these ways; then it has the mark that it had
 */
export function writeMark(root: number, mark: OwnerMark): void {
  const whole = Buffer.from(sealed(mark))
  const short = Buffer.from(JSON.stringify({ id: mark.id }))
  const there = readXattr(root) ?? readMarkFile(root)
  if (!there?.equals(whole)) {
    // One of an earlier mount says all but epoch and state, so that one stays where there is no room for another.
    const isKnown = there !== undefined && isOf(parse(there), mark)
    try {
      if (writeXattr(root, whole) || (!isKnown && writeXattr(root, short))) removeMarkFile(root)
      else if (!isKnown || hasMarkFile(root)) writeMarkFile(root, whole)
    } catch (error) {
      if (!isKnown || !isOneOf(error, NO_ROOM)) throw error
    }
  }
  faultPoint('legacy.mark.written')
  syncNow(root)
  // A file system may take what it does not keep.
  if (readMark(root)?.id !== mark.id) throw new FsError('EIO', 'the volume does not keep a mark')
}

const sealed = (mark: OwnerMark): string => sealJson({ ferryfs: WORDS, format: FORMAT, ...mark })

const isOf = (found: FoundMark, { id, namespace, store, stateDir, source, root }: OwnerMark): boolean =>
  found.kind === 'whole' &&
  found.id === id &&
  found.mark.namespace === namespace &&
  found.mark.store === store &&
  found.mark.stateDir === stateDir &&
  found.mark.source === source &&
  isSameRoot(found.mark.root, root)

/**
 * Has the mark of this mount say a later state; the caller syncs the root. One that is a file or has no room for more stays as it is.
 * @returns whether there is something to sync
 * @throws FsError
 */
export function renewMark(root: number, mark: OwnerMark): boolean {
  const there = readXattr(root)
  return there !== undefined && isOf(parse(there), mark) && writeXattr(root, Buffer.from(sealed(mark)))
}

/** Takes the mark away, for good. @throws FsError */
export function removeMark(root: number): void {
  try {
    xattrsOfOpen.remove(root, XATTR)
  } catch (error) {
    if (!isOneOf(error, NO_XATTRS) && !isOneOf(error, NOTHING)) throw error
  }
  removeMarkFile(root)
  syncNow(root)
}

function removeMarkFile(root: number): void {
  if (!hasMarkFile(root)) return
  const { mtimeNs } = statDescriptor(root)
  removeFile(root, FILE)
  keepTime(root, mtimeNs)
}

function isOneOf(error: unknown, codes: ReadonlySet<string>): boolean {
  return error instanceof FsError && codes.has(error.code)
}

function readXattr(root: number): Buffer | undefined {
  try {
    return xattrsOfOpen.get(root, XATTR)
  } catch (error) {
    if (isOneOf(error, NO_XATTRS) || isOneOf(error, NOTHING)) return undefined
    throw error
  }
}

/** False where this is no way to mark the volume. */
function writeXattr(root: number, value: Buffer): boolean {
  try {
    xattrsOfOpen.set(root, XATTR, value, XATTR_REPLACE_OR_CREATE)
    return true
  } catch (error) {
    if (isOneOf(error, NO_XATTRS) || isOneOf(error, NO_ROOM)) return false
    throw error
  }
}

/** Only what this user or root has put there is a mark: anybody who may write there could make a file of that name. */
function readMarkFile(root: number, name: Buffer = FILE): Buffer | undefined {
  let file: number
  try {
    file = openAt(root, name, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (isOneOf(error, NOTHING) || isOneOf(error, NOT_OURS)) return undefined
    throw error
  }
  try {
    const stat = statDescriptor(file)
    const isOurs = isRegular(stat.mode) && (stat.uid === 0 || stat.uid === process.geteuid?.())
    if (!isOurs || (stat.mode & 0o022) !== 0) return undefined
    const bytes = Buffer.alloc(Math.min(stat.size, MAX_BYTES))
    return bytes.subarray(0, readNow(file, bytes))
  } finally {
    closeDescriptor(file)
  }
}

/** @throws FsError EEXIST where somebody else has a file of that name */
function writeMarkFile(root: number, bytes: Buffer): void {
  const { mtimeNs } = statDescriptor(root)
  refuseForeign(root, FILE)
  refuseForeign(root, UNFINISHED)
  removeFile(root, UNFINISHED)
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  const file = openAt(root, UNFINISHED, flags, 0o600)
  try {
    chmodDescriptor(file, 0o600)
    writeNow(file, bytes)
    syncNow(file)
    renameAt(root, UNFINISHED, root, FILE, 0)
  } catch (error) {
    removeFile(root, UNFINISHED)
    throw error
  } finally {
    closeDescriptor(file)
  }
  keepTime(root, mtimeNs)
}

function refuseForeign(root: number, name: Buffer): void {
  if (readMarkFile(root, name)) return
  try {
    statAt(root, name)
  } catch (error) {
    if (isOneOf(error, NOTHING)) return
    throw error
  }
  throw new FsError('EEXIST', `${name} on the volume is not of ferryfs and in the way of its mark`)
}

function removeFile(root: number, name: Buffer): void {
  try {
    unlinkAt(root, name)
  } catch (error) {
    if (!isOneOf(error, NOTHING)) throw error
  }
}

/** Applications see the root's time: nothing of theirs has changed. */
function keepTime(root: number, mtimeNs: bigint): void {
  utimensDescriptor(root, UTIME_OMIT, mtimeNs)
}

function parse(bytes: Buffer): FoundMark {
  try {
    return parseMark(unsealJson(bytes))
  } catch {
    // Half a mark says that there was one.
    return { kind: 'unreadable', id: '' }
  }
}

/** A mark as JSON has it. */
export function parseMark(value: unknown): FoundMark {
  const fields: Readonly<Record<string, unknown>> =
    typeof value === 'object' && value !== null ? { ...value } : {}
  const { id, format, namespace, store, stateDir, source, root, epoch, state } = fields
  if (typeof id !== 'string') return { kind: 'unreadable', id: '' }
  if (Object.keys(fields).length === 1) return { kind: 'short', id }
  if (
    format !== FORMAT ||
    typeof namespace !== 'string' ||
    typeof store !== 'string' ||
    typeof stateDir !== 'string' ||
    typeof source !== 'string' ||
    !isRootIdentity(root)
  ) {
    return { kind: 'unreadable', id }
  }
  const known = {
    ...(typeof epoch === 'number' && { epoch }),
    ...(typeof state === 'number' && { state }),
  }
  return { kind: 'whole', id, mark: { id, namespace, store, stateDir, source, root, ...known } }
}

function isRootIdentity(value: unknown): value is RootIdentity {
  if (typeof value !== 'object' || value === null || !('ino' in value) || !('btimeNs' in value)) return false
  return typeof value.ino === 'string' && typeof value.btimeNs === 'string'
}
