import { check, declare } from './library.ts'

const getdentsCall = declare('long getdents64(int, void *, size_t)')

const lseekCall = declare('int64_t lseek(int, int64_t, int)')
const SEEK_SET = 0

export interface RawDirent {
  readonly name: Buffer
  readonly ino: bigint
  /** DT_* of dirent.h, 0 where the file system does not tell. */
  readonly type: number
}

/** DT_* of dirent.h. */
export const DT_UNKNOWN = 0
export const DT_DIR = 4

const BATCH_BYTES = 64 * 1024

interface PositionedDirent extends RawDirent {
  /** Where the listing goes on behind this entry. */
  readonly next: bigint
}

/** All entries of an open directory from its current position on, without "." and "..". @throws FsError */
export function readDirectory(descriptor: number): RawDirent[] {
  const entries: RawDirent[] = []
  for (const batch of directoryBatches(descriptor)) entries.push(...batch)
  return entries
}

/**
 * The same, as many at a time as one call gives: up to a few thousand. For directories of any size; the directory may change
 * between two batches. @throws FsError
 */
export function* directoryBatches(descriptor: number): Generator<RawDirent[]> {
  const buffer = Buffer.allocUnsafe(BATCH_BYTES)
  for (;;) {
    const length = check(getdentsCall(descriptor, buffer, buffer.length), 'getdents64')
    if (length === 0) return
    yield parseDirents(buffer, length)
  }
}

/**
 * What one small read gives from a position on (0: the beginning), and where it goes on; undefined at the end, where there are no
 * entries either. @throws FsError
 */
export function directoryFrom(
  descriptor: number,
  position: bigint,
): { readonly entries: readonly PositionedDirent[]; readonly next: bigint | undefined } {
  check(lseekCall(descriptor, position, SEEK_SET), 'lseek')
  const buffer = Buffer.allocUnsafe(BATCH_BYTES / 8)
  const length = check(getdentsCall(descriptor, buffer, buffer.length), 'getdents64')
  const entries = parseDirents(buffer, length, true)
  return { entries: entries.filter(({ name }) => !isDots(name)), next: entries.at(-1)?.next }
}

const isDots = (name: Buffer): boolean =>
  name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))

function parseDirents(buffer: Buffer, length: number, withDots = false): PositionedDirent[] {
  const entries: PositionedDirent[] = []
  for (let offset = 0; offset < length; ) {
    // struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name with NUL
    const record = buffer.readUInt16LE(offset + 16)
    const start = offset + 19
    const name = Buffer.from(buffer.subarray(start, buffer.indexOf(0, start)))
    if (withDots || !isDots(name)) {
      entries.push({
        name,
        ino: buffer.readBigUInt64LE(offset),
        type: buffer[offset + 18] ?? 0,
        next: buffer.readBigInt64LE(offset + 8),
      })
    }
    offset += record
  }
  return entries
}
