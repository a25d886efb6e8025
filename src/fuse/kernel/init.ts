import type { AnswerWriter } from './answer.ts'
import { type Body, ProtocolError } from './body.ts'
import { FUSE_MAJOR, FUSE_MINOR, FUSE_OLDEST_MINOR, InitFlag } from './protocol.ts'

/**
 * What a session takes of what the kernel offers. Left out on purpose: WRITEBACK_CACHE (a write that was answered would
 * be in the kernel's memory only), POSIX_LOCKS and FLOCK_LOCKS (the kernel's own locks work between all processes of the
 * mount and outlive a worker), ATOMIC_O_TRUNC (a SETATTR comes instead: one way to truncate, not two), SECURITY_CTX and
 * CREATE_SUPP_GROUP (nothing would read what they send).
 */
const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.EXPORT_SUPPORT |
  InitFlag.BIG_WRITES |
  InitFlag.DONT_MASK |
  InitFlag.AUTO_INVAL_DATA |
  InitFlag.DO_READDIRPLUS |
  InitFlag.READDIRPLUS_AUTO |
  InitFlag.ASYNC_DIO |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.POSIX_ACL |
  InitFlag.ABORT_ERROR |
  InitFlag.MAX_PAGES |
  InitFlag.CACHE_SYMLINKS |
  InitFlag.HANDLE_KILLPRIV_V2 |
  InitFlag.SETXATTR_EXT |
  InitFlag.INIT_EXT |
  InitFlag.HAS_EXPIRE_ONLY |
  InitFlag.DIRECT_IO_ALLOW_MMAP |
  InitFlag.HAS_RESEND

/** Requests that the kernel may have under way on its own account (readahead, asynchronous direct I/O). */
const MAX_BACKGROUND = 64
const CONGESTION_THRESHOLD = 48

/** Largest WRITE that a session takes, and the largest READ on 4 KiB pages: 256 pages, the kernel's own default limit. */
const DEFAULT_MAX_WRITE = 1024 * 1024
const SMALLEST_MAX_WRITE = 4096
const LARGEST_MAX_WRITE = 16 * 1024 * 1024

/** A largest WRITE that can be agreed on. */
export function boundedMaxWrite(bytes: number = DEFAULT_MAX_WRITE): number {
  return Math.min(Math.max(bytes, SMALLEST_MAX_WRITE), LARGEST_MAX_WRITE)
}

/** What this process and the kernel have agreed on; outlives the process, because the kernel sends INIT only once. */
export interface Agreement {
  readonly minor: number
  readonly flags: bigint
  readonly maxWrite: number
}

/** An agreement as plain JSON, for a successor. */
export interface SessionState {
  /** Of this format. */
  readonly version: 1
  readonly minor: number
  /** INIT flags that both sides have set, as `0x…`. */
  readonly flags: string
  readonly maxWrite: number
  /** The kernel can send unanswered requests again (6.9 and later): the connection survives its worker. */
  readonly resend: boolean
}

export function toState(agreement: Agreement): SessionState {
  return {
    version: 1,
    minor: agreement.minor,
    flags: `0x${agreement.flags.toString(16)}`,
    maxWrite: agreement.maxWrite,
    resend: (agreement.flags & InitFlag.HAS_RESEND) !== 0n,
  }
}

/** @throws Error if it is not what `toState` makes */
export function fromState(state: unknown): Agreement {
  if (
    typeof state === 'object' &&
    state !== null &&
    'version' in state &&
    state.version === 1 &&
    'minor' in state &&
    typeof state.minor === 'number' &&
    'flags' in state &&
    typeof state.flags === 'string' &&
    /^0x[0-9a-f]{1,16}$/.test(state.flags) &&
    'maxWrite' in state &&
    typeof state.maxWrite === 'number' &&
    state.maxWrite >= SMALLEST_MAX_WRITE &&
    state.maxWrite <= LARGEST_MAX_WRITE
  ) {
    return { minor: state.minor, flags: BigInt(state.flags), maxWrite: state.maxWrite }
  }
  throw new Error(
    `the state of the FUSE connection is not one that this version understands: ${JSON.stringify(state)}`,
  )
}

export interface InitRequest {
  readonly major: number
  readonly minor: number
  readonly maxReadahead: number
  readonly flags: bigint
}

/** `struct fuse_init_in`: 16 bytes, or 64 with FUSE_INIT_EXT (7.36). */
export function decodeInit(body: Body): InitRequest {
  const major = body.uint32()
  const minor = body.uint32()
  if (major !== FUSE_MAJOR) return { major, minor, maxReadahead: 0, flags: 0n }
  const maxReadahead = body.uint32()
  const low = BigInt(body.uint32())
  const high = (low & InitFlag.INIT_EXT) === 0n ? 0n : BigInt(body.uint32())
  return { major, minor, maxReadahead, flags: (high << 32n) | low }
}

/**
 * The agreement, or `undefined` where the kernel speaks a newer major version: it then gets ours and asks again.
 * @throws ProtocolError if the kernel is too old
 */
export function negotiate(request: InitRequest, maxWrite: number): Agreement | undefined {
  if (request.major > FUSE_MAJOR) return undefined
  if (request.major < FUSE_MAJOR || request.minor < FUSE_OLDEST_MINOR) {
    throw new ProtocolError(
      'EPROTO',
      `the kernel speaks FUSE ${request.major}.${request.minor}; ferryfs needs 7.${FUSE_OLDEST_MINOR}, Linux 5.4 or later`,
    )
  }
  return {
    minor: Math.min(request.minor, FUSE_MINOR),
    flags: request.flags & WANTED,
    maxWrite,
  }
}

/** `struct fuse_init_out`, all 64 bytes (7.23). */
export function encodeInit(
  answer: AnswerWriter,
  request: InitRequest,
  agreement: Agreement,
  pageSize: number,
): void {
  answer.uint32(FUSE_MAJOR)
  answer.uint32(agreement.minor)
  // Only a limit: what the kernel reads ahead is also bounded by read_ahead_kb, which the mounter sets.
  answer.uint32(Math.max(request.maxReadahead, agreement.maxWrite))
  answer.uint32(Number(agreement.flags & 0xffff_ffffn))
  answer.uint16(MAX_BACKGROUND)
  answer.uint16(CONGESTION_THRESHOLD)
  answer.uint32(agreement.maxWrite)
  // time_gran: times are kept to the nanosecond.
  answer.uint32(1)
  answer.uint16(Math.max(1, Math.floor(agreement.maxWrite / pageSize)))
  answer.uint16(0)
  answer.uint32(Number(agreement.flags >> 32n))
  answer.zeros(28)
}

/** The answer to a newer major version: the head of `struct fuse_init_out`. */
export function encodeMajor(answer: AnswerWriter): void {
  answer.uint32(FUSE_MAJOR)
  answer.uint32(FUSE_MINOR)
  answer.zeros(56)
}
