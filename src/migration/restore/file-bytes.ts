import { fsync, read, write } from 'node:fs'
import { FsError } from '../../base/errors.ts'
import { CHUNK_BYTES, sha256 } from '../../content/index.ts'
import { dropCached, SEEK_DATA, SEEK_HOLE, seek } from '../../sys/index.ts'
import { codeOf } from './findings.ts'

// What a file system allocates at once, most of them; a smaller stretch of zeros is no hole.
const BLOCK_BYTES = 4096
const ZEROS = Buffer.alloc(CHUNK_BYTES)

const isZero = (bytes: Buffer, start: number, end: number): boolean =>
  bytes.compare(ZEROS, 0, end - start, start, end) === 0

/**
 * Writes a chunk's bytes where there is nothing yet, all of them or an error. Blocks of zeros are left out: they stay holes.
 * @throws FsError ENOSPC where the disk took a part, as if it had refused the rest
 */
export async function writeSparse(descriptor: number, bytes: Buffer, position: number): Promise<void> {
  for (let start = 0; start < bytes.length; ) {
    let end = Math.min(bytes.length, start + BLOCK_BYTES)
    if (isZero(bytes, start, end)) {
      start = end
      continue
    }
    while (end < bytes.length) {
      const next = Math.min(bytes.length, end + BLOCK_BYTES)
      if (isZero(bytes, end, next)) break
      end = next
    }
    await writeAll(descriptor, bytes.subarray(start, end), position + start)
    start = end
  }
}

async function writeAll(descriptor: number, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const count = await new Promise<number>((resolve, reject) =>
      write(descriptor, bytes, done, bytes.length - done, position + done, (error, written) =>
        error ? reject(error) : resolve(written),
      ),
    )
    if (count === 0) throw new FsError('ENOSPC', 'write: nothing was written')
    done += count
  }
}

/** As many bytes as the file has from a position on, at most `length`. */
async function readUpTo(descriptor: number, length: number, position: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  let done = 0
  while (done < length) {
    const count = await new Promise<number>((resolve, reject) =>
      read(descriptor, buffer, done, length - done, position + done, (error, bytesRead) =>
        error ? reject(error) : resolve(bytesRead),
      ),
    )
    if (count === 0) break
    done += count
  }
  return buffer.subarray(0, done)
}

/** Resolves when the file, bytes and attributes, is on the medium; what is read of it from then on comes from there. */
export async function settle(descriptor: number): Promise<void> {
  await new Promise<void>((resolve, reject) =>
    fsync(descriptor, (error) => (error ? reject(error) : resolve())),
  )
  dropCached(descriptor)
}

/** SHA-256 of a chunk as DEST has it. */
export async function hashOfChunk(descriptor: number, index: number, length: number): Promise<Buffer> {
  return sha256(await readUpTo(descriptor, length, index * CHUNK_BYTES))
}

/** Whether a stretch of a file reads as zeros; looks only at what is allocated of it. */
export async function readsAsZeros(descriptor: number, from: number, to: number): Promise<boolean> {
  for (let at = from; at < to; ) {
    const data = next(descriptor, at, SEEK_DATA)
    if (data === undefined || data >= to) return true
    const end = Math.min(to, next(descriptor, data, SEEK_HOLE) ?? to)
    for (at = data; at < end; at += CHUNK_BYTES) {
      const bytes = await readUpTo(descriptor, Math.min(CHUNK_BYTES, end - at), at)
      if (!isZero(bytes, 0, bytes.length)) return false
    }
    at = end
  }
  return true
}

function next(descriptor: number, offset: number, whence: number): number | undefined {
  try {
    return seek(descriptor, offset, whence)
  } catch (error) {
    if (codeOf(error) === 'ENXIO') return undefined
    // A file system that cannot tell: all of it may be data.
    return whence === SEEK_DATA ? offset : undefined
  }
}
