import { FsError } from '../base/errors.ts'

/** Names of the xattrs that hold POSIX ACLs. */
export const ACL_ACCESS = 'system.posix_acl_access'
export const ACL_DEFAULT = 'system.posix_acl_default'

// linux/posix_acl_xattr.h: u32 version 2, then entries of u16 tag, u16 permissions, u32 id.
const VERSION = 2
const USER_OBJ = 0x01
const USER = 0x02
const GROUP_OBJ = 0x04
const GROUP = 0x08
const MASK = 0x10
const OTHER = 0x20

interface AclEntry {
  readonly tag: number
  permissions: number
  readonly id: number
}

/** @throws FsError EINVAL for bytes that are no valid ACL (posix_acl_valid in fs/posix_acl.c) */
export function decodeAcl(value: Buffer): AclEntry[] {
  if (value.length < 4 || (value.length - 4) % 8 !== 0) throw new FsError('EINVAL', 'not a POSIX ACL')
  if (value.readUInt32LE(0) !== VERSION) throw new FsError('EOPNOTSUPP', 'a POSIX ACL of another version')
  const entries: AclEntry[] = []
  for (let offset = 4; offset < value.length; offset += 8) {
    entries.push({
      tag: value.readUInt16LE(offset),
      permissions: value.readUInt16LE(offset + 2),
      id: value.readUInt32LE(offset + 4),
    })
  }
  const count = (tag: number): number => entries.filter((entry) => entry.tag === tag).length
  const named = count(USER) + count(GROUP) > 0
  const complete = count(USER_OBJ) === 1 && count(GROUP_OBJ) === 1 && count(OTHER) === 1 && count(MASK) <= 1
  if (entries.length > 0 && (!complete || (named && count(MASK) === 0))) {
    throw new FsError('EINVAL', 'an incomplete POSIX ACL')
  }
  if (entries.some((entry) => (entry.permissions & ~7) !== 0)) throw new FsError('EINVAL', 'not a POSIX ACL')
  return entries
}

function encodeAcl(entries: readonly AclEntry[]): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8)
  value.writeUInt32LE(VERSION, 0)
  for (const [index, { tag, permissions, id }] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + index * 8)
    value.writeUInt16LE(permissions, 6 + index * 8)
    value.writeUInt32LE(id, 8 + index * 8)
  }
  return value
}

const isMinimal = (entries: readonly AclEntry[]): boolean =>
  entries.every(({ tag }) => tag === USER_OBJ || tag === GROUP_OBJ || tag === OTHER)

/** The entry that the group bits of the mode stand for. */
const groupClass = (entries: readonly AclEntry[]): AclEntry | undefined =>
  entries.find(({ tag }) => tag === MASK) ?? entries.find(({ tag }) => tag === GROUP_OBJ)

/** Permission bits after setting an access ACL; `keep` is false if the bits say all of it (posix_acl_update_mode). */
export function modeOfAcl(value: Buffer, mode: number): { mode: number; keep: boolean } {
  const entries = decodeAcl(value)
  if (entries.length === 0) return { mode, keep: false }
  const bits = (tag: number): number => entries.find((entry) => entry.tag === tag)?.permissions ?? 0
  const permissions = (bits(USER_OBJ) << 6) | ((groupClass(entries)?.permissions ?? 0) << 3) | bits(OTHER)
  return { mode: (mode & ~0o777) | permissions, keep: !isMinimal(entries) }
}

/** The access ACL after chmod (posix_acl_chmod in fs/posix_acl.c). */
export function chmodAcl(value: Buffer, mode: number): Buffer {
  const entries = decodeAcl(value)
  const group = groupClass(entries)
  for (const entry of entries) {
    if (entry.tag === USER_OBJ) entry.permissions = (mode >> 6) & 7
    if (entry.tag === OTHER) entry.permissions = mode & 7
  }
  if (group) group.permissions = (mode >> 3) & 7
  return encodeAcl(entries)
}

/** Mode and ACLs of a file made in a directory with a default ACL (posix_acl_create in fs/posix_acl.c). */
export function inheritAcl(
  defaults: Buffer,
  mode: number,
  directory: boolean,
): { mode: number; xattrs: Map<string, Buffer> } {
  const entries = decodeAcl(defaults)
  const group = groupClass(entries)
  let result = mode & ~0o777
  for (const entry of entries) {
    if (entry.tag === USER_OBJ) {
      entry.permissions &= (mode >> 6) & 7
      result |= entry.permissions << 6
    } else if (entry.tag === OTHER) {
      entry.permissions &= mode & 7
      result |= entry.permissions
    }
  }
  if (group) {
    group.permissions &= (mode >> 3) & 7
    result |= group.permissions << 3
  }
  const xattrs = new Map<string, Buffer>()
  if (!isMinimal(entries)) xattrs.set(ACL_ACCESS, encodeAcl(entries))
  if (directory) xattrs.set(ACL_DEFAULT, defaults)
  return { mode: result, xattrs }
}
