import { check, declare } from './library.ts'

const getdentsCall = declare('long getdents64(int, void *, size_t)')

export interface RawDirent {
  readonly name: Buffer
  readonly ino: bigint
  /** DT_* of dirent.h, 0 where the file system does not tell. */
  readonly type: number
}

/** All entries of an open directory from its current position on, without "." and "..". @throws FsError */
export function readDirectory(descriptor: number): RawDirent[] {
  const entries: RawDirent[] = []
  const buffer = Buffer.allocUnsafe(64 * 1024)
  for (;;) {
    const length = check(getdentsCall(descriptor, buffer, buffer.length), 'getdents64')
    if (length === 0) return entries
    for (let offset = 0; offset < length; ) {
      // struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name with NUL
      const record = buffer.readUInt16LE(offset + 16)
      const start = offset + 19
      const end = buffer.indexOf(0, start)
      const dot = buffer[start] === 0x2e
      const special = dot && (end - start === 1 || (end - start === 2 && buffer[start + 1] === 0x2e))
      if (!special) {
        entries.push({
          name: Buffer.from(buffer.subarray(start, end)),
          ino: buffer.readBigUInt64LE(offset),
          type: buffer[offset + 18] ?? 0,
        })
      }
      offset += record
    }
  }
}
