import { createHash } from 'node:crypto'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { isDirectory, isRegular, isSymlink } from '../../../src/base/attributes.ts'
import { CHUNK_BYTES } from '../../../src/content/index.ts'
import { namesIn } from '../../../src/migration/restore/leftovers.ts'
import {
  closeDescriptor,
  O_PATH,
  openAt,
  readlinkAt,
  SEEK_DATA,
  seek,
  statDescriptor,
} from '../../../src/sys/index.ts'
import type { MemoryFile, MemoryTree } from './memory-tree.ts'

/** Everything of a file that a restore has to bring back, by the file's path. */
export type Described = Record<string, Record<string, unknown>>

const text = (name: Buffer): string => JSON.stringify(name.toString('latin1'))

function numbers(attributes: MemoryFile['file']['attributes']): Record<string, unknown> {
  const { mode, nlink, uid, gid, atimeNs, mtimeNs } = attributes
  // Who reads a symlink's target moves its time of access, which its next name then shows.
  const atime = isSymlink(mode) && nlink > 1 ? {} : { atimeNs }
  return { mode: mode.toString(8), owner: `${uid}:${gid}`, ...atime, mtimeNs }
}

/** Which names are one file: each gets the first of them all, in the order of the text. */
function group(all: Described, names: ReadonlyMap<bigint, string[]>): Described {
  for (const paths of names.values()) {
    const [first] = paths.sort()
    for (const path of paths) all[path] = { ...all[path], sameAs: first }
  }
  return all
}

function note(names: Map<bigint, string[]>, ino: bigint, path: string): void {
  const known = names.get(ino)
  if (known) known.push(path)
  else names.set(ino, [path])
}

const digest = (parts: Iterable<readonly [number, Buffer]>): string => {
  const hash = createHash('sha256')
  for (const [index, bytes] of parts)
    if (bytes.some((byte) => byte !== 0)) hash.update(`${index}:`).update(bytes)
  return hash.digest('hex')
}

/** What a tree in memory is, as a directory of the disk is described. */
export function describeTree(tree: MemoryTree): Described {
  const all: Described = {}
  const names = new Map<bigint, string[]>()
  const visit = (of: MemoryFile, path: string): void => {
    const { attributes, target } = of.file
    const { size, rdev, mode, nlink } = attributes
    if (!isDirectory(mode)) note(names, nlink > 1 ? of.ref.ino : BigInt(-names.size - 1), path)
    const whole = [...of.chunks]
      .sort(([a], [b]) => a - b)
      .map(
        ([index, bytes]) =>
          [index, Buffer.concat([bytes], Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES))] as const,
      )
    all[path] = {
      ...numbers(attributes),
      ...(isDirectory(mode) ? {} : { rdev }),
      ...(isRegular(mode) ? { size, sum: digest(whole) } : {}),
      ...(isSymlink(mode) ? { target: target?.toString('latin1') } : {}),
    }
    for (const [name, below] of of.entries)
      if (typeof below !== 'string') visit(below, `${path}/${text(name)}`)
  }
  visit(tree.top, '')
  return group(all, names)
}

/** Holes are not read: a file may be larger than any disk. */
function sumOf(path: number, size: number): string {
  const descriptor = openSync(`/proc/self/fd/${path}`, constants.O_RDONLY | constants.O_NOATIME)
  const parts: Array<readonly [number, Buffer]> = []
  try {
    for (let at = 0; at < size; ) {
      let data: number
      try {
        data = seek(descriptor, at, SEEK_DATA)
      } catch {
        break
      }
      const index = Math.floor(data / CHUNK_BYTES)
      const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, size - index * CHUNK_BYTES))
      readSync(descriptor, buffer, 0, buffer.length, index * CHUNK_BYTES)
      parts.push([index, buffer])
      at = (index + 1) * CHUNK_BYTES
    }
  } finally {
    closeSync(descriptor)
  }
  return digest(parts)
}

/** What is on the disk; of any depth. Nothing is followed and no time is moved. */
export function describeDirectory(root: string): Described {
  const all: Described = {}
  const names = new Map<bigint, string[]>()
  const visit = (descriptor: number, path: string, parent: number, name: Buffer): void => {
    const stat = statDescriptor(descriptor)
    if (!isDirectory(stat.mode)) note(names, stat.ino, path)
    all[path] = {
      ...numbers(stat),
      ...(isDirectory(stat.mode) ? {} : { rdev: stat.rdev }),
      ...(isRegular(stat.mode) ? { size: stat.size, sum: sumOf(descriptor, stat.size) } : {}),
      ...(isSymlink(stat.mode) ? { target: readlinkAt(parent, name).toString('latin1') } : {}),
    }
    if (!isDirectory(stat.mode)) return
    for (const child of namesIn(descriptor)) {
      const flags = constants.O_NOFOLLOW | O_PATH
      const found = openAt(descriptor, child, flags)
      try {
        visit(found, `${path}/${text(child)}`, descriptor, child)
      } finally {
        closeDescriptor(found)
      }
    }
  }
  const top = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY)
  visit(top, '', top, Buffer.from('.'))
  closeSync(top)
  return group(all, names)
}
