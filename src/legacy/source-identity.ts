import type { Stat } from '../sys/index.ts'

// linux/magic.h: ext2 to ext4, and Btrfs. Their f_fsid of statfs(2) is made of a UUID; that of others may be another one tomorrow.
const KEEP_THEIR_ID: ReadonlySet<bigint> = new Set([0xef53n, 0x9123683en])

/**
 * What tells SOURCE from another directory, in one line: its inode number, the type of its file system, its birth and the file system's
 * id, as far as there are such. The number alone says nothing: the root of each ext4 is 2, and two may be born in one second.
 */
export function sourceIdentity(
  { ino, btimeNs }: Pick<Stat, 'ino' | 'btimeNs'>,
  type: bigint,
  fileSystemId: () => bigint,
): string {
  const id = KEEP_THEIR_ID.has(type) ? fileSystemId() : ''
  return `${ino}:${type}:${btimeNs === 0n ? '' : btimeNs}:${id}`
}

/** Whether they are of one directory, as far as both say: ferryfs before format 15 noted neither birth nor id. */
export function isSameSource(a: string, b: string): boolean {
  const theirs = b.split(':')
  return a.split(':').every((part, nth) => {
    const other = theirs[nth] ?? ''
    return part === other || part === '' || other === ''
  })
}
