import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { Body, ProtocolError } from '../../../src/fuse/kernel/body.ts'
import { FILE_OPERATIONS } from '../../../src/fuse/kernel/file-operations.ts'
import type { Agreement } from '../../../src/fuse/kernel/init.ts'
import { decodeInit } from '../../../src/fuse/kernel/init.ts'
import { NODE_OPERATIONS } from '../../../src/fuse/kernel/node-operations.ts'
import { cstr, u32, u64 } from '../../support/fuse/frames.ts'

const OPERATIONS = new Map([...FILE_OPERATIONS, ...NODE_OPERATIONS])
const SETXATTR_EXT = 1n << 29n
const AGREED: Agreement = { minor: 45, flags: SETXATTR_EXT, maxWrite: 1024 * 1024 }

function bodyOf(bytes: Buffer): Body {
  return new Body().reset(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length)
}

function decode(opcode: number, parts: Buffer[], agreement = AGREED): unknown {
  const operation = OPERATIONS.get(opcode)
  if (!operation) throw new Error(`no operation ${opcode}`)
  return operation.decode(bodyOf(Buffer.concat(parts)), agreement)
}

const name = Buffer.from('name')
const pad = (size: number): Buffer => Buffer.alloc(size, 0xee)

/** Opcode, body as struct fuse_*_in has it, what is read from it. */
const REQUESTS: [string, number, Buffer[], unknown][] = [
  ['LOOKUP', 1, [cstr('name')], { name }],
  ['GETATTR by node', 3, [u32(0), pad(4), u64(7)], { handle: undefined }],
  ['GETATTR by handle', 3, [u32(1), pad(4), u64(7)], { handle: 7n }],
  ['STATX by node', 52, [u32(0), pad(4), u64(7), u32(0), u32(0xfff)], { handle: undefined }],
  ['STATX by handle', 52, [u32(1), pad(4), u64(7), u32(0), u32(0xfff)], { handle: 7n }],
  ['READLINK', 5, [], undefined],
  ['SYMLINK', 6, [cstr('name'), cstr('../target')], { name, target: Buffer.from('../target') }],
  [
    'MKNOD',
    8,
    [u32(0o20644), u32(0x105), u32(0o27), pad(4), cstr('name')],
    { mode: 0o20644, rdev: 0x105, umask: 0o27, name },
  ],
  ['MKDIR', 9, [u32(0o777), u32(0o22), cstr('name')], { mode: 0o777, umask: 0o22, name }],
  ['UNLINK', 10, [cstr('name')], { name }],
  ['RMDIR', 11, [cstr('name')], { name }],
  [
    'RENAME',
    12,
    [u64(9), cstr('name'), cstr('new')],
    { newParent: 9n, flags: 0, name, newName: Buffer.from('new') },
  ],
  [
    'RENAME2',
    45,
    [u64(9), u32(2), pad(4), cstr('name'), cstr('new')],
    { newParent: 9n, flags: 2, name, newName: Buffer.from('new') },
  ],
  ['LINK', 13, [u64(5), cstr('name')], { node: 5n, name }],
  ['OPEN', 14, [u32(0o2002), u32(0)], { flags: 0o2002 }],
  [
    'READ',
    15,
    [u64(3), u64(0x1_0000_0001), u32(4096), u32(0), u64(0), u32(0o40000), pad(4)],
    { handle: 3n, offset: 0x1_0000_0001, size: 4096, flags: 0o40000 },
  ],
  [
    'WRITE',
    16,
    [u64(3), u64(5), u32(4), u32(4), u64(0), u32(1), pad(4), Buffer.from('data')],
    {
      handle: 3n,
      offset: 5,
      data: Buffer.from('data'),
      options: { killSuidGid: true, flags: 1, isWriteBack: false },
    },
  ],
  [
    'WRITE of a page that was kept',
    16,
    [u64(3), u64(5), u32(4), u32(1), u64(0), u32(1), pad(4), Buffer.from('data')],
    {
      handle: 3n,
      offset: 5,
      data: Buffer.from('data'),
      options: { killSuidGid: false, flags: 1, isWriteBack: true },
    },
  ],
  ['STATFS', 17, [], undefined],
  ['RELEASE', 18, [u64(3), u32(0), u32(0), u64(0)], { handle: 3n }],
  ['FSYNC', 20, [u64(3), u32(0), pad(4)], { handle: 3n, dataOnly: false }],
  ['FSYNC data only', 20, [u64(3), u32(1), pad(4)], { handle: 3n, dataOnly: true }],
  [
    'SETXATTR',
    21,
    [u32(2), u32(1), u32(1), pad(4), cstr('user.a'), Buffer.from('v\0')],
    { name: Buffer.from('user.a'), value: Buffer.from('v\0'), flags: 1, killSgid: true },
  ],
  ['GETXATTR', 22, [u32(64), pad(4), cstr('user.a')], { size: 64, name: Buffer.from('user.a') }],
  ['LISTXATTR', 23, [u32(64), pad(4)], { size: 64 }],
  ['REMOVEXATTR', 24, [cstr('user.a')], { name: Buffer.from('user.a') }],
  ['FLUSH', 25, [u64(3), u32(0), pad(4), u64(0)], { handle: 3n }],
  ['OPENDIR', 27, [u32(0), u32(0)], { flags: 0 }],
  [
    'READDIR',
    28,
    [u64(3), u64(2n ** 63n), u32(4096), u32(0), u64(0), u32(0), pad(4)],
    { handle: 3n, cookie: 2n ** 63n, size: 4096 },
  ],
  [
    'READDIRPLUS',
    44,
    [u64(3), u64(1), u32(4096), u32(0), u64(0), u32(0), pad(4)],
    { handle: 3n, cookie: 1n, size: 4096 },
  ],
  ['RELEASEDIR', 29, [u64(3), u32(0), u32(0), u64(0)], { handle: 3n }],
  ['FSYNCDIR', 30, [u64(3), u32(0), pad(4)], { handle: 3n, dataOnly: false }],
  [
    'TMPFILE',
    51,
    [u32(0o20200002), u32(0o100644), u32(0o22), u32(0), cstr('/')],
    { mode: 0o100644, flags: 0o20200002, umask: 0o22, name: Buffer.from('/') },
  ],
  [
    'CREATE',
    35,
    [u32(0o102), u32(0o644), u32(0o22), u32(0), cstr('name')],
    { flags: 0o102, mode: 0o644, umask: 0o22, name },
  ],
  [
    'FALLOCATE',
    43,
    [u64(3), u64(8), u64(16), u32(3), pad(4)],
    { handle: 3n, offset: 8, length: 16, mode: 3 },
  ],
  ['LSEEK', 46, [u64(3), u64(8), u32(4), pad(4)], { handle: 3n, offset: 8, whence: 4 }],
  [
    'COPY_FILE_RANGE, cut to what 32 bits can answer',
    47,
    [u64(3), u64(8), u64(6), u64(4), u64(16), u64(2n ** 40n), u64(0)],
    {
      source: { handle: 3n, offset: 8 },
      destination: { node: 6n, handle: 4n, offset: 16 },
      length: 0xffff_f000,
    },
  ],
  [
    'COPY_FILE_RANGE_64',
    53,
    [u64(3), u64(8), u64(6), u64(4), u64(16), u64(2n ** 40n), u64(0)],
    {
      source: { handle: 3n, offset: 8 },
      destination: { node: 6n, handle: 4n, offset: 16 },
      length: 2 ** 40,
    },
  ],
  ['SYNCFS', 50, [u64(0)], undefined],
  [
    'IOCTL of FS_IOC_GETFLAGS',
    39,
    [u64(3), u32(0), u32(0x8008_6601), u64(0), u32(0), u32(4)],
    { command: 0x8008_6601, room: 4, flags: 0 },
  ],
  [
    'IOCTL of FS_IOC_SETFLAGS',
    39,
    [u64(3), u32(0), u32(0x4008_6602), u64(0), u32(4), u32(0), u32(0x30)],
    { command: 0x4008_6602, room: 0, flags: 0x30 },
  ],
]

describe('requests of the kernel', () => {
  it.each(REQUESTS)('%s is read as linux/fuse.h lays it out', (_name, opcode, parts, expected) => {
    expect(decode(opcode, parts)).toEqual(expected)
  })

  it('every operation has a layout here (SETATTR below)', () => {
    expect(new Set([4, ...REQUESTS.map(([, opcode]) => opcode)])).toEqual(new Set(OPERATIONS.keys()))
  })

  it.each(REQUESTS)('%s cut short anywhere is refused', (_name, opcode, parts) => {
    const whole = Buffer.concat(parts)
    const operation = OPERATIONS.get(opcode)
    for (let length = 0; length < whole.length; length++) {
      try {
        operation?.decode(bodyOf(whole.subarray(0, length)), AGREED)
        // What is left out must be padding at the end.
        expect(length).toBeGreaterThanOrEqual(whole.length - 8)
      } catch (error) {
        expect(error).toBeInstanceOf(FsError)
      }
    }
  })

  it('SETATTR takes exactly the fields whose bits are set, times to the nanosecond', () => {
    const setattr = (valid: number): unknown =>
      decode(4, [
        u32(valid),
        pad(4),
        u64(11),
        u64(12345),
        u64(0),
        u64(-2n),
        u64(1_700_000_000),
        u64(3),
        u32(999_999_999),
        u32(1),
        u32(5),
        u32(0o100600),
        pad(4),
        u32(7),
        u32(8),
        pad(4),
      ])
    expect(setattr(0)).toEqual({ changes: {}, handle: undefined })
    expect(setattr(0b1111)).toEqual({
      changes: { mode: 0o100600, uid: 7, gid: 8, size: 12345 },
      handle: undefined,
    })
    expect(setattr((1 << 4) | (1 << 5) | (1 << 6))).toEqual({
      changes: { atime: -1_000_000_001n, mtime: 1_700_000_000_000_000_001n },
      handle: 11n,
    })
    expect(setattr((1 << 4) | (1 << 5) | (1 << 7) | (1 << 8))).toEqual({
      changes: { atime: 'now', mtime: 'now' },
      handle: undefined,
    })
    expect(setattr((1 << 10) | (1 << 11))).toEqual({
      changes: { ctimeNs: 3_000_000_005n, killSuidGid: true },
      handle: undefined,
    })
  })

  it('SETXATTR of a kernel without FUSE_SETXATTR_EXT has a shorter head', () => {
    const parts = [u32(1), u32(0), cstr('user.a'), Buffer.from('v')]
    expect(decode(21, parts, { ...AGREED, flags: 0n })).toEqual({
      name: Buffer.from('user.a'),
      value: Buffer.from('v'),
      flags: 0,
      killSgid: false,
    })
  })

  it('P1: a position that a number cannot hold exactly is refused, never rounded', () => {
    const huge = u64(2n ** 53n)
    const write = [u64(3), huge, u32(0), u32(0), u64(0), u32(0), pad(4)]
    expect(() => decode(16, write)).toThrow(expect.objectContaining({ code: 'EFBIG' }))
    expect(() => decode(43, [u64(3), u64(0), huge, u32(0), pad(4)])).toThrow(
      expect.objectContaining({ code: 'EFBIG' }),
    )
    expect(() => decode(43, [u64(3), u64(2n ** 53n - 1n), u64(1), u32(0), pad(4)])).toThrow(
      expect.objectContaining({ code: 'EFBIG' }),
    )
    expect(() => decode(46, [u64(3), u64(-5n), u32(3), pad(4)])).toThrow(
      expect.objectContaining({ code: 'ENXIO' }),
    )
  })

  it('P1: a READ larger than agreed is refused, because a short answer would end the file', () => {
    const read = (size: number): unknown =>
      decode(15, [u64(3), u64(0), u32(size), u32(0), u64(0), u32(0), pad(4)])
    expect(read(1024 * 1024)).toMatchObject({ size: 1024 * 1024 })
    expect(() => read(0xffff_ffff)).toThrow(ProtocolError)
  })

  it('a READDIR of any size is answered within bounds', () => {
    const params = decode(28, [u64(3), u64(0), u32(0xffff_ffff), u32(0), u64(0), u32(0), pad(4)])
    expect(params).toMatchObject({ size: 128 * 1024 })
  })

  it.each([
    ['without NUL', Buffer.from('name')],
    ['empty', cstr('')],
    ['with a slash', cstr('a/b')],
    ['"."', cstr('.')],
    ['".."', cstr('..')],
  ])('a name that is %s is refused', (_what, bytes) => {
    for (const opcode of [10, 11])
      expect(() => decode(opcode, [bytes])).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  })

  it('only a LOOKUP may have "." and ".." for names: by them the kernel finds a node that it has forgotten', () => {
    for (const name of ['.', '..']) expect(decode(1, [cstr(name)])).toEqual({ name: Buffer.from(name) })
    expect(() => decode(1, [cstr('a/b')])).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  })

  it('names are bytes: all but NUL and slash, 255 of them', () => {
    const byte = fc.integer({ min: 1, max: 255 }).filter((value) => value !== 0x2f)
    fc.assert(
      fc.property(
        fc
          .array(byte, { minLength: 1, maxLength: 255 })
          .map((bytes) => Buffer.from(bytes))
          .filter((bytes) => !['.', '..'].includes(bytes.toString('latin1'))),
        (bytes) => {
          expect(decode(1, [cstr(bytes)])).toEqual({ name: bytes })
        },
      ),
    )
  })

  it('a large WRITE lends its bytes, a small one and every name is a copy', () => {
    const large = pad(32 * 1024)
    const head = [u64(3), u64(0), u32(large.length), u32(0), u64(0), u32(0), pad(4)]
    const body = bodyOf(Buffer.concat([...head, large]))
    const write = OPERATIONS.get(16)?.decode(body, AGREED)
    expect(body.lent).toBe(true)
    expect(write).toMatchObject({ data: large })
    const small = bodyOf(Buffer.concat([u64(3), u64(0), u32(4), u32(0), u64(0), u32(0), pad(4), pad(4)]))
    OPERATIONS.get(16)?.decode(small, AGREED)
    expect(small.lent).toBe(false)
  })

  it('whatever the bytes, reading them ends with parameters or an FsError', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...OPERATIONS.keys()),
        fc.uint8Array({ maxLength: 200 }),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        (opcode, bytes, flags) => {
          try {
            decode(opcode, [Buffer.from(bytes)], { ...AGREED, flags })
          } catch (error) {
            expect(error).toBeInstanceOf(FsError)
          }
        },
      ),
      { numRuns: 3000 },
    )
  })

  it('whatever the bytes, reading INIT ends with a request or a ProtocolError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        try {
          decodeInit(bodyOf(Buffer.from(bytes)))
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError)
        }
      }),
    )
  })

  it('reading back what the kernel would write gives the same numbers', () => {
    const safe = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
    const handle = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
    const uint32 = fc.integer({ min: 0, max: 0xffff_ffff })
    fc.assert(
      fc.property(handle, safe, uint32, fc.uint8Array({ maxLength: 64 }), (fh, offset, flags, bytes) => {
        fc.pre(offset + bytes.length <= Number.MAX_SAFE_INTEGER)
        const data = Buffer.from(bytes)
        const parts = [u64(fh), u64(offset), u32(data.length), u32(0), u64(0), u32(flags), pad(4), data]
        expect(decode(16, parts)).toEqual({
          handle: fh,
          offset,
          data,
          options: { killSuidGid: false, flags, isWriteBack: false },
        })
      }),
    )
  })
})
