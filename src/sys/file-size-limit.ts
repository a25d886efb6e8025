import { declareHere } from './library.ts'

const prlimit = declareHere('int prlimit(int, int, const void *, void *)')

// sys/resource.h; struct rlimit is two u64: the limit in force, and how far its process may raise it.
const RLIMIT_FSIZE = 1
const OWN = 0
const RLIMIT_BYTES = 16
const NONE = 0xffff_ffff_ffff_ffffn

/**
 * Lets this process, and all that it starts, write files of any size: a shell may have a limit (ulimit -f), which is for the
 * programs of its user, and writing behind it answers EFBIG. The limit in bytes that stays; undefined if there is none.
 */
export function liftFileSizeLimit(): bigint | undefined {
  const wanted = Buffer.alloc(RLIMIT_BYTES, 0xff)
  // A process that may not raise it for good can still use all of it.
  if (prlimit(OWN, RLIMIT_FSIZE, wanted, null) === 0) return undefined
  const now = Buffer.alloc(RLIMIT_BYTES)
  if (prlimit(OWN, RLIMIT_FSIZE, null, now) !== 0) return undefined
  const most = now.readBigUInt64LE(RLIMIT_BYTES / 2)
  now.writeBigUInt64LE(most, 0)
  prlimit(OWN, RLIMIT_FSIZE, now, null)
  return most === NONE ? undefined : most
}
