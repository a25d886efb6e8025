import { isId } from '../../base/attribute-ranges.ts'
import { isSymlink } from '../../base/attributes.ts'
import { OWNER_XATTR, RESTORE_XATTR } from '../../base/own-names.ts'
import { decodeXattrs } from '../../content/index.ts'
import { byDescriptor, printable, statDescriptor } from '../../sys/index.ts'
import { inWords } from './findings.ts'
import type { TreeFile } from './tree.ts'

// What a file may get from DEST by itself, by inheritance for one, and must not keep unless it had it. Labels of the security
// modules of the kernel are not among it.
const OURS = /^(user\.|trusted\.|system\.posix_acl_|security\.capability$)/

// What ferryfs says there: a DEST that is somebody's SOURCE stays so until the whole tree is in it.
const KEPT: ReadonlySet<string> = new Set([OWNER_XATTR, RESTORE_XATTR])

const PERMISSIONS = 0o7777

/**
 * Makes owner, mode, extended attributes and times of an open file what they were; any descriptor will do. Each by itself: what DEST
 * cannot hold is in the answer, in words, and the rest is as it should be.
 */
export function dress(descriptor: number, file: Pick<TreeFile, 'attributes' | 'xattrs'>): string[] {
  const { mode, uid, gid, atimeNs, mtimeNs } = file.attributes
  const lacks: string[] = []
  const failed = new Set<string>()
  const attempt = (what: string, body: () => void): void => {
    try {
      body()
    } catch (error) {
      failed.add(what)
      lacks.push(`${what}: ${inWords(error)}`)
    }
  }
  let xattrs: ReadonlyMap<string, Buffer> = new Map()
  attempt('extended attributes', () => {
    xattrs = decodeXattrs(file.xattrs)
  })
  removeForeign(descriptor, xattrs)
  // In this order: a change of the owner clears set-id bits and capabilities, an ACL is part of the mode.
  const before = statDescriptor(descriptor)
  if (!isId(uid) || !isId(gid)) {
    failed.add('owner')
    lacks.push(`owner: ${uid}:${gid} is none`)
  } else if (before.uid !== uid || before.gid !== gid)
    attempt('owner', () => byDescriptor.chown(descriptor, uid, gid))
  if (!isSymlink(mode)) attempt('mode', () => byDescriptor.chmod(descriptor, mode & PERMISSIONS))
  for (const [name, value] of xattrs) {
    const bytes = Buffer.from(name, 'latin1')
    if (storedValue(descriptor, bytes)?.equals(value)) continue
    attempt(`extended attribute ${printable(bytes)}`, () => byDescriptor.setXattr(descriptor, bytes, value))
  }
  attempt('times', () => byDescriptor.utimens(descriptor, atimeNs, mtimeNs))
  return [...lacks, ...differences(descriptor, file, failed)]
}

/** What DEST took without a word and keeps otherwise: a time out of its range, for one. `failed`: what it did not take. */
function differences(
  descriptor: number,
  { attributes }: Pick<TreeFile, 'attributes'>,
  failed: ReadonlySet<string>,
): string[] {
  const now = statDescriptor(descriptor)
  const found: string[] = []
  const compare = (what: string, wanted: string, kept: string, of = what): void => {
    if (wanted !== kept && !failed.has(of)) found.push(`${what}: DEST keeps ${kept} instead of ${wanted}`)
  }
  compare('owner', `${attributes.uid}:${attributes.gid}`, `${now.uid}:${now.gid}`)
  const octal = (mode: number): string => (mode & PERMISSIONS).toString(8).padStart(4, '0')
  if (!isSymlink(attributes.mode)) compare('mode', octal(attributes.mode), octal(now.mode))
  compare('mtime', inSeconds(attributes.mtimeNs), inSeconds(now.mtimeNs), 'times')
  compare('atime', inSeconds(attributes.atimeNs), inSeconds(now.atimeNs), 'times')
  return found
}

/** Seconds since the epoch with their nanoseconds, as stat(1) prints them. */
function inSeconds(ns: bigint): string {
  const seconds = (ns - (((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n
  return `@${seconds}.${String(ns - seconds * 1_000_000_000n).padStart(9, '0')}`
}

function removeForeign(descriptor: number, wanted: ReadonlyMap<string, Buffer>): void {
  let names: Buffer[]
  try {
    names = byDescriptor.listXattrs(descriptor)
  } catch {
    // DEST has none at all.
    return
  }
  for (const name of names) {
    const text = name.toString('latin1')
    if (!OURS.test(text) || wanted.has(text) || KEPT.has(text)) continue
    try {
      byDescriptor.removeXattr(descriptor, name)
    } catch {
      // Some file systems list what they only show.
    }
  }
}

function storedValue(descriptor: number, name: Buffer): Buffer | undefined {
  try {
    return byDescriptor.getXattr(descriptor, name)
  } catch {
    return undefined
  }
}

/** Nothing of the tree is anywhere else any more, so that DEST needs no mark that says where. */
export function forgetOwner(descriptor: number): void {
  const name = Buffer.from(OWNER_XATTR)
  if (storedValue(descriptor, name) !== undefined) byDescriptor.removeXattr(descriptor, name)
}

/** Takes what the rights of others could come from, from a directory: they get theirs when it is done. */
export function closeToOthers(descriptor: number): void {
  const uid = process.geteuid?.() ?? 0
  const gid = process.getegid?.() ?? 0
  byDescriptor.chown(descriptor, uid, gid)
  removeForeign(descriptor, new Map())
  byDescriptor.chmod(descriptor, 0o700)
}
