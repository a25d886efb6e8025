import { createHash } from 'node:crypto'
import { O_NOFOLLOW, O_RDONLY, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './constants.ts'
import { SyscallError } from './libc.ts'
import { posix } from './posix.ts'

/** One file of a tree, with everything about it that a copy or a migration has to keep. */
export interface SnapshotEntry {
  /** Relative to the tree's root, its bytes as Latin-1; '' is the root itself. */
  readonly path: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly nlink: number
  readonly ino: bigint
  readonly size: number
  readonly rdev: number
  readonly mtimeNs: bigint
  /** Target of a symbolic link, its bytes as Latin-1. */
  readonly target?: string
  /** SHA-256 of a regular file's content. */
  readonly sha256?: string
  /** Name and value (hex) of each extended attribute that a file system keeps for its users. */
  readonly xattrs: readonly (readonly [string, string])[]
}

/** Namespaces that applications own; `security.` only as far as the kernel does not fill it by itself. */
const KEPT_XATTRS = /^(user\.|trusted\.|system\.posix_acl_|security\.capability$)/

function xattrsOf(path: Buffer): [string, string][] {
  try {
    return posix
      .listxattr(path)
      .filter((name) => KEPT_XATTRS.test(name.toString('latin1')))
      .map((name) => [name.toString('latin1'), posix.getxattr(path, name).toString('hex')])
  } catch (error) {
    if (error instanceof SyscallError && error.code === 'EOPNOTSUPP') return []
    throw error
  }
}

function sha256Of(path: Buffer, size: number): string {
  const hash = createHash('sha256')
  const fd = posix.open(path, O_RDONLY | O_NOFOLLOW)
  try {
    for (;;) {
      // One byte more than there should be, so that a small file is read by one call that is not short.
      const part = posix.read(fd, Math.min(size + 1, 1 << 20))
      if (part.length === 0) return hash.digest('hex')
      hash.update(part)
    }
  } finally {
    posix.close(fd)
  }
}

/** A whole tree in the order of its paths, its root first. The caller can read everything in it. */
export function snapshot(
  root: string,
  options: { content?: boolean; xattrs?: boolean } = {},
): SnapshotEntry[] {
  const entries: SnapshotEntry[] = []
  const visit = (absolute: Buffer, path: string) => {
    const stat = posix.lstat(absolute)
    const type = stat.mode & S_IFMT
    entries.push({
      path,
      mode: stat.mode,
      uid: stat.uid,
      gid: stat.gid,
      nlink: stat.nlink,
      ino: stat.ino,
      size: stat.size,
      rdev: stat.rdev,
      mtimeNs: stat.mtimeNs,
      ...(type === S_IFLNK && { target: posix.readlink(absolute).toString('latin1') }),
      ...(type === S_IFREG && options.content !== false && { sha256: sha256Of(absolute, stat.size) }),
      xattrs: options.xattrs === false ? [] : xattrsOf(absolute),
    })
    if (type !== S_IFDIR) return
    const names = posix.list(absolute).map(({ name }) => name)
    for (const name of names.sort(Buffer.compare)) {
      const text = name.toString('latin1')
      visit(Buffer.concat([absolute, Buffer.from('/'), name]), path === '' ? text : `${path}/${text}`)
    }
  }
  visit(Buffer.from(root), '')
  return entries
}
