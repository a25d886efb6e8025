import { constants } from 'node:os'
import koffi from 'koffi'
import { declareHere } from './library.ts'

koffi.struct('iovec', { iov_base: 'void *', iov_len: 'size_t' })
const preadv2Call = declareHere('int64_t preadv2(int, const iovec *, int, int64_t, int)')

// linux/fs.h: do not wait for a device.
const RWF_NOWAIT = 8

let supported = true

/**
 * Reads what lies in the page cache, at once and in this thread: a quarter of the time that a way through the thread pool
 * takes, and it never waits for a disk. `isAll`: the buffer is full or the file ends there. Else the rest is not in the
 * cache, or the file system cannot tell, or the read fails: whoever reads on in the ordinary way learns why.
 */
export function readCached(
  descriptor: number,
  buffer: Buffer,
  position: number,
): { readonly count: number; readonly isAll: boolean } {
  let count = 0
  while (supported && count < buffer.length) {
    const rest = { iov_base: buffer.subarray(count), iov_len: buffer.length - count }
    const read = preadv2Call(descriptor, rest, 1, position + count, RWF_NOWAIT)
    if (read === 0) return { count, isAll: true }
    if (read === -1) {
      if (UNSUPPORTED.has(koffi.errno())) supported = false
      return { count, isAll: false }
    }
    count += read
  }
  return { count, isAll: count === buffer.length }
}

// No such call, or no such flag on this file system. Some answer EAGAIN instead, as if nothing were ever cached.
const UNSUPPORTED: ReadonlySet<number> = new Set([constants.errno.ENOSYS, constants.errno.EOPNOTSUPP])
