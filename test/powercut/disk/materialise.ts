import {
  chmodSync,
  closeSync,
  constants,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { closeDescriptor, mknodAt, O_PATH, openAt, setXattr, utimensAt } from '../../../src/sys/index.ts'
import type { Shim } from '../machine/shim.ts'
import { type FileImage, PAGE, type VolumeImage } from './image.ts'

const AT_FDCWD = -100
const { S_IFMT, S_IFDIR, S_IFREG, S_IFLNK } = constants
const SLASH = Buffer.from('/')

/** The index of a WAL is shared memory: every opening of the database makes it anew. */
const isVolatile = (name: string): boolean => name.endsWith('-shm')

interface Laid {
  readonly path: Buffer
  readonly file: FileImage
}

/**
 * Lays a volume out below a directory that is not there yet, and has the shim show its files as they were. `mapped`: what is in
 * files that are memory, by name, where that is still there.
 */
export function materialise(
  image: VolumeImage,
  path: string,
  shim: Shim,
  mapped: ReadonlyMap<string, Buffer> = new Map(),
): void {
  const laid: Laid[] = []
  const known = new Map<number, Buffer>()
  const lay = (ino: number, at: Buffer): void => {
    const file = image.files.get(ino)
    if (!file) throw new Error(`the image has no inode ${ino}`)
    const first = known.get(ino)
    if (first) {
      linkSync(first, at)
      return
    }
    known.set(ino, at)
    make(file, at)
    for (const [name, child] of file.children) {
      const below = Buffer.concat([at, SLASH, Buffer.from(name, 'latin1')])
      const kept = mapped.get(name)
      if (!isVolatile(name) || kept) lay(child, below)
      if (kept) writeFileSync(below, kept)
    }
    // Behind what is in it: making that moves its times.
    laid.push({ path: at, file })
  }
  lay(image.root, Buffer.from(path))
  for (const { path: at, file } of laid) describe(file, at)
  for (const { path: at, file } of laid) shim.showFile(at, file.ino, file.state.ctimeNs, file.state.btimeNs)
}

/** How many files an image has, those without a name included. */
export const filesOf = (image: VolumeImage): number => image.files.size

function make(file: FileImage, path: Buffer): void {
  const type = file.state.mode & S_IFMT
  if (type === S_IFDIR) mkdirSync(path, 0o700)
  else if (type === S_IFLNK) symlinkSync(Buffer.from(file.target ?? '', 'latin1'), path)
  else if (type === S_IFREG) write(file, path)
  else withDirectory(path, (directory, name) => mknodAt(directory, name, file.state.mode, file.state.rdev))
}

function write(file: FileImage, path: Buffer): void {
  const descriptor = openSync(path, 'wx', 0o600)
  for (const [page, bytes] of file.pages) {
    const length = Math.min(PAGE, file.size - page * PAGE)
    if (length > 0) writeSync(descriptor, bytes, 0, length, page * PAGE)
  }
  ftruncateSync(descriptor, file.size)
  closeSync(descriptor)
}

function describe({ state, xattrs }: FileImage, path: Buffer): void {
  lchownSync(path, state.uid, state.gid)
  if ((state.mode & S_IFMT) !== S_IFLNK) chmodSync(path, state.mode & 0o7777)
  withDirectory(path, (directory, name) => {
    for (const [xattr, value] of xattrs) setXattr(directory, name, Buffer.from(xattr, 'latin1'), value, 0)
    utimensAt(directory, name, state.atimeNs, state.mtimeNs)
  })
}

function withDirectory(path: Buffer, body: (directory: number, name: Buffer) => void): void {
  const text = path.toString('latin1')
  const descriptor = openAt(AT_FDCWD, Buffer.from(dirname(text), 'latin1'), O_PATH | constants.O_DIRECTORY)
  try {
    body(descriptor, path.subarray(path.lastIndexOf(0x2f) + 1))
  } finally {
    closeDescriptor(descriptor)
  }
}
