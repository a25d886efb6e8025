import fc from 'fast-check'
import { aclEntries, encodeAcl } from './acl.ts'
import {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
} from './constants.ts'
import type { Time } from './structs.ts'

const KINDS = [
  ...Array<'create'>(5).fill('create'),
  ...Array<'mkdir'>(4).fill('mkdir'),
  ...Array<'rename'>(6).fill('rename'),
  ...Array<'write'>(3).fill('write'),
  ...Array<'unlink'>(2).fill('unlink'),
  ...Array<'link'>(2).fill('link'),
  ...Array<'symlink'>(2).fill('symlink'),
  ...Array<'chmod'>(2).fill('chmod'),
  ...Array<'utimens'>(2).fill('utimens'),
  ...Array<'setxattr'>(2).fill('setxattr'),
  ...Array<'open'>(3).fill('open'),
  ...Array<'useOpen'>(4).fill('useOpen'),
  'exchange',
  'rmdir',
  'chown',
  'removexattr',
  'truncate',
  'list',
  'stat',
  'access',
  'read',
  'close',
  'mkfifo',
] as const

/** One step. `a` and `b` choose paths among those there are at that moment, the others choose from short lists. */
export interface TreeOperation {
  readonly kind: (typeof KINDS)[number]
  readonly who: number
  readonly a: number
  readonly b: number
  readonly value: number
  readonly flags: number
}

const RANGE = 1 << 20
export const NAMES = ['a', 'b', 'c', 'd\xc3\xa9', '\xff', 'long-name-'.repeat(20)] as const
export const MODES = [
  0o666, 0o644, 0o755, 0o777, 0o600, 0o2777, 0o1777, 0o2755, 0o6775, 0o4755, 0o700, 0o444, 0,
] as const
/** Mostly open to all, so that the three users get in each other's way. */
export const DIRECTORY_MODES = [0o777, 0o777, 0o777, 0o2777, 0o1777, 0o755, 0o2755, 0o700] as const
export const TARGETS = [
  'a',
  'b',
  '../a',
  'a/b',
  'nowhere',
  '.',
  '..',
  'a/../c',
  '\xfe',
  'x'.repeat(300),
] as const
export const IDS = [-1, 4001, 4002, 4010, 0] as const
/** Long past: what a file system sets by itself is later, so the two are told apart by their years. */
export const MOMENTS: readonly Time[] = [
  1n,
  123_456_789_012_345_678n,
  1_000_000_000_999_999_999n,
  'omit',
  'now',
]
export const XATTR_NAMES = [
  'user.a',
  'user.b',
  'user.\xff',
  'trusted.t',
  'system.posix_acl_default',
  'system.posix_acl_access',
]
export const OPEN_FLAGS = [
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  O_RDWR | O_TRUNC,
  O_RDWR | O_APPEND,
  O_RDONLY | O_DIRECTORY,
  O_RDONLY | O_NOFOLLOW,
  O_RDWR | O_CREAT,
] as const
export const ACLS = [
  encodeAcl(aclEntries('rwx', 'r-x', 'r-x')),
  encodeAcl(aclEntries('rwx', 'r-x', '---', { users: { 4001: 'rwx' }, mask: 'rwx' })),
  encodeAcl(
    aclEntries('rwx', '---', '---', { users: { 4002: 'rw-' }, groups: { 4010: 'r-x' }, mask: 'r-x' }),
  ),
] as const
/** Explicit times lie before this moment. */
export const RECENT_NS = 1_500_000_000_000_000_000n
export const SLOTS = 4
export const LINKABLE = [S_IFREG, S_IFLNK, S_IFIFO]
export const CHANGEABLE = [S_IFREG, S_IFDIR]

/** Operations of every kind but those that the file system does not offer. */
export function operationArbitrary(without: readonly string[]): fc.Arbitrary<TreeOperation> {
  return fc.record({
    kind: fc.constantFrom(...KINDS.filter((kind) => !without.includes(kind))),
    who: fc.nat(14),
    a: fc.nat(RANGE),
    b: fc.nat(RANGE),
    value: fc.nat(RANGE),
    flags: fc.nat(RANGE),
  })
}
