import type { AttributeAnswer, Attributes, Entry, OpenAnswer, StatFs } from '../operations.ts'
import { OpenFlag, OUT_HEADER_SIZE } from './protocol.ts'

/** Bytes of `struct fuse_entry_out`. */
export const ENTRY_OUT_SIZE = 128
const ATTR_SIZE = 88
const STATX_SIZE = 256

// linux/stat.h
const STATX_BASIC_STATS = 0x7ff
const STATX_BTIME = 0x800

/** Below this a payload is copied behind its head: cheaper than a second element of writev(2). */
const COPY_PAYLOAD_BELOW = 4096

const NS_PER_SECOND = 1_000_000_000n
/** About 68 years: keeps a time to live of Infinity inside what the kernel turns into jiffies. */
const LONGEST_TTL_MS = 0x7fff_ffff * 1000

function putNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true)
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true)
}

function putTime(view: DataView, secondsAt: number, nanosecondsAt: number, time: bigint): void {
  const word = BigInt.asIntN(64, time)
  // Up to the year 2262 both operands fit 64 bits, and saying so lets the compiler divide in machine words.
  let seconds = word === time ? BigInt.asIntN(64, word / NS_PER_SECOND) : time / NS_PER_SECOND
  let rest = Number(BigInt.asIntN(64, word - BigInt.asIntN(64, seconds * NS_PER_SECOND)))
  if (rest < 0) {
    rest += 1_000_000_000
    seconds -= 1n
  }
  view.setBigInt64(secondsAt, seconds, true)
  view.setUint32(nanosecondsAt, rest, true)
}

function putTtl(view: DataView, secondsAt: number, nanosecondsAt: number, milliseconds: number): void {
  const ttl = Math.min(Math.max(milliseconds, 0), LONGEST_TTL_MS)
  const seconds = Math.floor(ttl / 1000)
  putNumber(view, secondsAt, seconds)
  view.setUint32(nanosecondsAt, Math.round((ttl - seconds * 1000) * 1e6), true)
}

function putAttributes(view: DataView, at: number, attributes: Attributes): void {
  view.setBigUint64(at, attributes.ino, true)
  putNumber(view, at + 8, attributes.size)
  putNumber(view, at + 16, attributes.blocks)
  putTime(view, at + 24, at + 48, attributes.atimeNs)
  putTime(view, at + 32, at + 52, attributes.mtimeNs)
  putTime(view, at + 40, at + 56, attributes.ctimeNs)
  view.setUint32(at + 60, attributes.mode, true)
  view.setUint32(at + 64, attributes.nlink, true)
  view.setUint32(at + 68, attributes.uid, true)
  view.setUint32(at + 72, attributes.gid, true)
  view.setUint32(at + 76, attributes.rdev, true)
  view.setUint32(at + 80, attributes.blksize, true)
  view.setUint32(at + 84, 0, true)
}

/** `struct fuse_statx`: no attributes, which no kernel hands on to statx(2). */
function putStatx(view: DataView, at: number, attributes: Attributes): void {
  const { rdev, btimeNs = 0n } = attributes
  view.setUint32(at, STATX_BASIC_STATS | (btimeNs === 0n ? 0 : STATX_BTIME), true)
  view.setUint32(at + 4, attributes.blksize, true)
  view.setUint32(at + 16, attributes.nlink, true)
  view.setUint32(at + 20, attributes.uid, true)
  view.setUint32(at + 24, attributes.gid, true)
  view.setUint16(at + 28, attributes.mode, true)
  view.setBigUint64(at + 32, attributes.ino, true)
  putNumber(view, at + 40, attributes.size)
  putNumber(view, at + 48, attributes.blocks)
  putTime(view, at + 64, at + 72, attributes.atimeNs)
  putTime(view, at + 80, at + 88, btimeNs)
  putTime(view, at + 96, at + 104, attributes.ctimeNs)
  putTime(view, at + 112, at + 120, attributes.mtimeNs)
  // new_decode_dev of linux/kdev_t.h
  view.setUint32(at + 128, (rdev & 0xfff00) >>> 8, true)
  view.setUint32(at + 132, ((rdev & 0xff) | ((rdev >>> 12) & 0xfff00)) >>> 0, true)
}

/** `struct fuse_entry_out` */
export function putEntry(view: DataView, at: number, entry: Entry): void {
  view.setBigUint64(at, entry.nodeId, true)
  view.setBigUint64(at + 8, entry.generation, true)
  putTtl(view, at + 16, at + 32, entry.entryTtlMs)
  putTtl(view, at + 24, at + 36, entry.attributeTtlMs)
  putAttributes(view, at + 40, entry.attributes)
}

/**
 * One answer at a time: a head that is used again for each, and a payload that is sent from where it lies. Whoever fills
 * it sends it in the same tick.
 */
export class AnswerWriter {
  readonly head: Buffer
  readonly #view: DataView
  #length = OUT_HEADER_SIZE
  #payload: Buffer | undefined

  constructor() {
    const memory = new ArrayBuffer(OUT_HEADER_SIZE + COPY_PAYLOAD_BELOW)
    this.head = Buffer.from(memory)
    this.#view = new DataView(memory)
  }

  get headLength(): number {
    return this.#length
  }

  get payload(): Buffer | undefined {
    return this.#payload
  }

  /** Empties it. */
  begin(): void {
    this.#length = OUT_HEADER_SIZE
    this.#payload = undefined
  }

  /** Sets the header; `errno` is 0 or positive, and with one there is no body. `id` is `unique` as the kernel sent it. */
  finish(id: bigint, errno: number): void {
    if (errno !== 0) this.begin()
    this.#view.setUint32(0, this.#length + (this.#payload?.length ?? 0), true)
    this.#view.setInt32(4, -errno, true)
    this.#view.setBigUint64(8, id, true)
  }

  #grow(size: number): number {
    const at = this.#length
    this.#length = at + size
    return at
  }

  uint32(value: number): void {
    this.#view.setUint32(this.#grow(4), value, true)
  }

  uint16(value: number): void {
    this.#view.setUint16(this.#grow(2), value, true)
  }

  uint64(value: bigint): void {
    this.#view.setBigUint64(this.#grow(8), value, true)
  }

  large(value: number): void {
    putNumber(this.#view, this.#grow(8), value)
  }

  zeros(size: number): void {
    const at = this.#grow(size)
    this.head.fill(0, at, at + size)
  }

  entry(entry: Entry): void {
    putEntry(this.#view, this.#grow(ENTRY_OUT_SIZE), entry)
  }

  /** `struct fuse_attr_out` */
  attributes(answer: AttributeAnswer): void {
    const at = this.#grow(16 + ATTR_SIZE)
    putTtl(this.#view, at, at + 8, answer.attributeTtlMs)
    this.#view.setUint32(at + 12, 0, true)
    putAttributes(this.#view, at + 16, answer.attributes)
  }

  /** `struct fuse_statx_out` */
  statx(answer: AttributeAnswer): void {
    const at = this.#length
    this.zeros(32 + STATX_SIZE)
    putTtl(this.#view, at, at + 8, answer.attributeTtlMs)
    putStatx(this.#view, at + 32, answer.attributes)
  }

  /** `struct fuse_open_out` */
  open(answer: OpenAnswer): void {
    this.uint64(answer.handle)
    this.uint32(
      (answer.directIo ? OpenFlag.DIRECT_IO : 0) |
        (answer.keepCache ? OpenFlag.KEEP_CACHE : 0) |
        (answer.cacheDirectory ? OpenFlag.CACHE_DIR : 0),
    )
    this.uint32(0)
  }

  /** `struct fuse_statfs_out` */
  statfs(answer: StatFs): void {
    this.uint64(answer.blocks)
    this.uint64(answer.bfree)
    this.uint64(answer.bavail)
    this.uint64(answer.files)
    this.uint64(answer.ffree)
    this.uint32(answer.bsize)
    this.uint32(answer.namelen)
    this.uint32(answer.frsize)
    this.zeros(28)
  }

  /** The last part: copied if small, else sent from where it lies. */
  data(bytes: Buffer): void {
    if (bytes.length < COPY_PAYLOAD_BELOW && this.#length + bytes.length <= this.head.length) {
      bytes.copy(this.head, this.#grow(bytes.length))
    } else {
      this.#payload = bytes
    }
  }
}
