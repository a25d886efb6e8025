// The other side of the protocol, written from linux/fuse.h alone: requests as the kernel makes them, answers as it reads
// them. Shares nothing with src/fuse/kernel, so that a mistake there does not cancel itself out here.

const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return bytes
}
export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
export const u64 = (value: bigint | number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)))
  return bytes
}
export const cstr = (text: string | Buffer): Buffer => Buffer.concat([Buffer.from(text), Buffer.from([0])])

export interface Header {
  readonly unique?: bigint
  readonly node?: bigint
  readonly uid?: number
  readonly gid?: number
  readonly pid?: number
  /** Extension bytes behind the body, a multiple of 8. */
  readonly extension?: Buffer
}

/** A request: `struct fuse_in_header` and the parts of its body. */
export function frame(opcode: number, header: Header = {}, ...parts: Buffer[]): Buffer {
  const extension = header.extension ?? Buffer.alloc(0)
  const body = Buffer.concat([...parts, extension])
  return Buffer.concat([
    u32(40 + body.length),
    u32(opcode),
    u64(header.unique ?? 2n),
    u64(header.node ?? 1n),
    u32(header.uid ?? 1000),
    u32(header.gid ?? 100),
    u32(header.pid ?? 4242),
    u16(extension.length / 8),
    u16(0),
    body,
  ])
}

/** `struct fuse_init_in` of a kernel of the given minor version. */
export function initFrame(
  minor: number,
  flags: bigint,
  { major = 7, unique = 2n, maxReadahead = 131072 } = {},
): Buffer {
  const short = [u32(major), u32(minor), u32(maxReadahead), u32(Number(flags & 0xffff_ffffn))]
  const long = minor >= 36 ? [u32(Number(flags >> 32n)), Buffer.alloc(44)] : []
  return frame(26, { unique, node: 0n, uid: 0, gid: 0, pid: 0 }, ...short, ...long)
}

export interface ReadAnswer {
  readonly length: number
  readonly error: number
  readonly unique: bigint
  readonly body: Buffer
}

/** `struct fuse_out_header` and what follows. */
export function readAnswer(bytes: Buffer): ReadAnswer {
  return {
    length: bytes.readUInt32LE(0),
    error: bytes.readInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    body: bytes.subarray(16),
  }
}

/** `struct fuse_attr` */
export function readAttributes(bytes: Buffer) {
  const time = (seconds: number, nanoseconds: number): bigint =>
    bytes.readBigInt64LE(seconds) * 1_000_000_000n + BigInt(bytes.readUInt32LE(nanoseconds))
  return {
    ino: bytes.readBigUInt64LE(0),
    size: Number(bytes.readBigUInt64LE(8)),
    blocks: Number(bytes.readBigUInt64LE(16)),
    atimeNs: time(24, 48),
    mtimeNs: time(32, 52),
    ctimeNs: time(40, 56),
    mode: bytes.readUInt32LE(60),
    nlink: bytes.readUInt32LE(64),
    uid: bytes.readUInt32LE(68),
    gid: bytes.readUInt32LE(72),
    rdev: bytes.readUInt32LE(76),
    blksize: bytes.readUInt32LE(80),
  }
}

const ttl = (bytes: Buffer, seconds: number, nanoseconds: number): number =>
  Number(bytes.readBigUInt64LE(seconds)) * 1000 + bytes.readUInt32LE(nanoseconds) / 1e6

/** `struct fuse_entry_out` */
export function readEntry(bytes: Buffer) {
  return {
    nodeId: bytes.readBigUInt64LE(0),
    generation: bytes.readBigUInt64LE(8),
    entryTtlMs: ttl(bytes, 16, 32),
    attributeTtlMs: ttl(bytes, 24, 36),
    attributes: readAttributes(bytes.subarray(40)),
  }
}

/** A sequence of `struct fuse_dirent` or `struct fuse_direntplus`. */
export function readDirents(bytes: Buffer, plus: boolean) {
  const found = []
  for (let at = 0; at < bytes.length; ) {
    const entry = plus ? readEntry(bytes.subarray(at)) : undefined
    const head = at + (plus ? 128 : 0)
    const length = bytes.readUInt32LE(head + 16)
    found.push({
      entry,
      ino: bytes.readBigUInt64LE(head),
      cookie: bytes.readBigUInt64LE(head + 8),
      type: bytes.readUInt32LE(head + 20),
      name: Buffer.from(bytes.subarray(head + 24, head + 24 + length)),
    })
    at = Math.ceil((head + 24 + length) / 8) * 8
  }
  return found
}
