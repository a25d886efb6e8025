import { closeSync, constants, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { isDirectory, isRegular, isSymlink } from '../../../src/base/attributes.ts'
import { isSystemError, reasonOf } from '../../../src/base/errors.ts'
import { CHUNK_BYTES } from '../../../src/content/index.ts'
import { xattrsOfPath } from '../../../src/sys/index.ts'
import { toStat } from '../../support/posix/structs.ts'
import type { Seen } from './kernel.ts'

/** Everything below a mount, by system calls. */
export function mountedTree(root: string): Map<string, Seen> {
  const found = new Map<string, Seen>()
  const visit = (path: string): void => {
    for (const name of readdirSync(join(root, path), { encoding: 'latin1' })) {
      const below = `${path}/${name}`
      const seen = look(join(root, below))
      found.set(below, seen)
      if (isDirectory(seen.attributes.mode)) visit(below)
    }
  }
  visit('')
  return found
}

function look(path: string): Seen {
  const attributes = toStat(lstatSync(path, { bigint: true }))
  const { mode, size } = attributes
  const lost = new Map<number, string>()
  const xattrs = new Map<string, string>()
  if (!isSymlink(mode)) {
    for (const name of xattrsOfPath.list(path)) {
      xattrs.set(name.toString('latin1'), xattrsOfPath.get(path, name).toString('latin1'))
    }
  }
  return {
    attributes,
    lost,
    xattrs,
    content: isRegular(mode) ? read(path, size, lost) : undefined,
    target: isSymlink(mode) ? readlinkSync(path, 'latin1') : undefined,
  }
}

/** Chunk by chunk: what cannot be read is listed. */
function read(path: string, size: number, lost: Map<number, string>): Buffer {
  const content = Buffer.alloc(size)
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    for (let at = 0; at < size; at += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, size - at)
      try {
        const got = readWhole(descriptor, content.subarray(at, at + length), at)
        if (got < length) lost.set(at / CHUNK_BYTES, `${got} bytes of ${length}`)
      } catch (error) {
        if (!isSystemError(error)) throw error
        content.fill(0, at, at + length)
        lost.set(at / CHUNK_BYTES, reasonOf(error))
      }
    }
  } finally {
    closeSync(descriptor)
  }
  return content
}

function readWhole(descriptor: number, buffer: Buffer, position: number): number {
  for (let done = 0; ; ) {
    const got = readSync(descriptor, buffer, done, buffer.length - done, position + done)
    if (got === 0) return done
    done += got
    if (done === buffer.length) return done
  }
}
