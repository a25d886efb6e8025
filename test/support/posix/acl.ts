/** Entries of a POSIX access control list as the kernel's attribute holds them (linux/posix_acl_xattr.h). */
export interface AclEntry {
  readonly tag: number
  /** 0 to 7 */
  readonly permissions: number
  /** User or group of a named entry. */
  readonly id: number
}

const TAG = { owner: 1, user: 2, group: 4, namedGroup: 8, mask: 16, other: 32 }
const NO_ID = 0xffffffff
const VERSION = 2

function bits(text: string): number {
  return (text.includes('r') ? 4 : 0) | (text.includes('w') ? 2 : 0) | (text.includes('x') ? 1 : 0)
}

/** Entries in the order that the kernel demands: owner, users, group, groups, mask, others. */
export function aclEntries(
  owner: string,
  group: string,
  other: string,
  named: { users?: Record<number, string>; groups?: Record<number, string>; mask?: string } = {},
): AclEntry[] {
  const list = (tag: number, entries: Record<number, string> = {}) =>
    Object.entries(entries).map(([id, text]) => ({ tag, permissions: bits(text), id: Number(id) }))
  return [
    { tag: TAG.owner, permissions: bits(owner), id: NO_ID },
    ...list(TAG.user, named.users),
    { tag: TAG.group, permissions: bits(group), id: NO_ID },
    ...list(TAG.namedGroup, named.groups),
    ...(named.mask === undefined ? [] : [{ tag: TAG.mask, permissions: bits(named.mask), id: NO_ID }]),
    { tag: TAG.other, permissions: bits(other), id: NO_ID },
  ]
}

export function encodeAcl(entries: readonly AclEntry[]): Buffer {
  const bytes = Buffer.alloc(4 + entries.length * 8)
  bytes.writeUInt32LE(VERSION, 0)
  entries.forEach(({ tag, permissions, id }, index) => {
    bytes.writeUInt16LE(tag, 4 + index * 8)
    bytes.writeUInt16LE(permissions, 6 + index * 8)
    bytes.writeUInt32LE(id, 8 + index * 8)
  })
  return bytes
}

export function decodeAcl(bytes: Buffer): AclEntry[] {
  return Array.from({ length: (bytes.length - 4) / 8 }, (_, index) => ({
    tag: bytes.readUInt16LE(4 + index * 8),
    permissions: bytes.readUInt16LE(6 + index * 8),
    id: bytes.readUInt32LE(8 + index * 8),
  }))
}
