import { constants, linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { FsError } from '../../src/base/errors.ts'
import {
  AT_FDCWD,
  closeDescriptor,
  mkdirAt,
  openAt,
  setXattr,
  symlinkAt,
  utimensAt,
} from '../../src/sys/index.ts'
import { writeSparse } from './sparse.ts'

/** How much of everything that an ordinary user can make to stall a file system; 0 for none of it. */
export interface HostileScale {
  /** Names of one file, in two directories. */
  readonly links: number
  /** Names in one directory. */
  readonly wide: number
  /** Directories in one another. */
  readonly deep: number
  /** Pieces of data in a file of 8 TiB that is a hole otherwise. */
  readonly pieces: number
  /** Bytes of extended attributes that a file is to get; as far as the file system goes. */
  readonly xattrs: number
}

/** What P6 speaks of. */
export const LARGE_HOSTILE: HostileScale = {
  links: 100_000,
  wide: 1_000_000,
  deep: 3000,
  pieces: 1000,
  xattrs: 1 << 20,
}

const GIANT_BYTES = 2 ** 43
const NAME_BYTES = 255
const CREATE = constants.O_CREAT | constants.O_WRONLY

/** Makes the tree below a directory that is there: links, width, depth, sparse giants, odd names, xattrs and times. */
export function growHostileTree(directory: string, scale: HostileScale): void {
  growLinks(join(directory, 'links'), scale.links)
  growWide(join(directory, 'wide'), scale.wide)
  growDeep(directory, scale.deep)
  growSparse(join(directory, 'sparse'), scale.pieces)
  growOdd(join(directory, 'odd'), scale.xattrs)
}

function growLinks(directory: string, count: number): void {
  if (count === 0) return
  mkdirSync(join(directory, 'other'), { recursive: true })
  const first = join(directory, 'first')
  writeFileSync(first, 'a file with many names')
  for (let index = 1; index < count; index += 1)
    linkSync(first, join(directory, index % 2 === 0 ? `l${index}` : join('other', `l${index}`)))
}

function growWide(directory: string, count: number): void {
  if (count === 0) return
  mkdirSync(directory)
  for (let index = 0; index < count; index += 1)
    writeFileSync(join(directory, `w${index}`), index % 100 === 0 ? String(index) : '')
}

/** Below PATH_MAX no system call reaches it by its path. */
function growDeep(directory: string, levels: number): void {
  let current = openAt(AT_FDCWD, Buffer.from(directory), constants.O_RDONLY | constants.O_DIRECTORY)
  for (let level = 0; level < levels; level += 1) {
    const name = Buffer.from(level === 0 ? 'deep' : `d${level}`)
    mkdirAt(current, name, 0o755)
    const next = openAt(current, name, constants.O_RDONLY | constants.O_DIRECTORY)
    closeDescriptor(current)
    current = next
  }
  if (levels > 0) closeDescriptor(openAt(current, Buffer.from('at the bottom'), CREATE, 0o644))
  closeDescriptor(current)
}

function growSparse(directory: string, pieces: number): void {
  if (pieces === 0) return
  mkdirSync(directory)
  writeSparse(join(directory, 'hole'), GIANT_BYTES, [])
  const step = Math.floor(GIANT_BYTES / pieces / 4096) * 4096
  const bytes = Buffer.alloc(4096, 0x61)
  writeSparse(
    join(directory, 'pieces'),
    GIANT_BYTES,
    Array.from({ length: pieces }, (_, index) => ({ at: index * step, bytes })),
  )
}

function growOdd(path: string, xattrBytes: number): void {
  mkdirSync(path)
  const directory = openAt(AT_FDCWD, Buffer.from(path), constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    for (const name of oddNames()) closeDescriptor(openAt(directory, name, CREATE, 0o644))
    symlinkAt(Buffer.alloc(4095, 0x74), directory, Buffer.from('long target'))
    growXattrs(directory, Buffer.from('xattrs'), xattrBytes)
    for (const [index, seconds] of [-(2n ** 31n), -1n, 0n, 2n ** 31n, 15_032_385_535n].entries()) {
      const name = Buffer.from(`time ${index}`)
      closeDescriptor(openAt(directory, name, CREATE, 0o644))
      const time = seconds * 1_000_000_000n + 999_999_999n
      utimensAt(directory, name, time, time)
    }
  } finally {
    closeDescriptor(directory)
  }
}

function oddNames(): Buffer[] {
  return [
    Buffer.alloc(NAME_BYTES, 0x6e),
    Buffer.concat([Buffer.alloc(NAME_BYTES - 1, 0x6e), Buffer.of(0xff)]),
    Buffer.from('a line\nand another'),
    Buffer.from('%2F%'),
    Buffer.from('-rf'),
    Buffer.from(' '),
    Buffer.from('\\'),
    Buffer.from([0x01, 0x7f, 0x80, 0xfe]),
    Buffer.from('e\u0301'),
    Buffer.from('\u00e9'),
  ]
}

function growXattrs(directory: number, name: Buffer, bytes: number): void {
  closeDescriptor(openAt(directory, name, CREATE, 0o644))
  const value = Buffer.alloc(2048, 0x78)
  for (let done = 0; done < bytes; done += value.length) {
    try {
      setXattr(directory, name, Buffer.from(`user.x${done}`), value, 0)
    } catch (error) {
      // No room for more, or a file system without.
      if (error instanceof FsError) return
      throw error
    }
  }
}
