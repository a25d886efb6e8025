import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FIRST_TIME_NS, LAST_TIME_NS } from '../../../src/base/attribute-ranges.ts'
import { AnswerWriter } from '../../../src/fuse/kernel/answer.ts'
import { DirectoryPacker } from '../../../src/fuse/kernel/directory.ts'
import type { Entry } from '../../../src/fuse/operations.ts'
import { readAnswer, readAttributes, readDirents, readEntry } from '../../support/fuse/frames.ts'

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff })
const safe = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
// All that 64 bits of seconds hold.
const time = fc.bigInt({ min: FIRST_TIME_NS, max: LAST_TIME_NS })

const attributes = fc.record({
  ino: uint64,
  mode: uint32,
  nlink: uint32,
  uid: uint32,
  gid: uint32,
  rdev: uint32,
  size: safe,
  blocks: safe,
  blksize: uint32,
  atimeNs: time,
  mtimeNs: time,
  ctimeNs: time,
})

const entry: fc.Arbitrary<Entry> = fc.record({
  nodeId: uint64,
  generation: uint64,
  attributes,
  entryTtlMs: fc.integer({ min: 0, max: 1e9 }),
  attributeTtlMs: fc.integer({ min: 0, max: 1e9 }),
})

function written(fill: (answer: AnswerWriter) => void, errno = 0): Buffer {
  const answer = new AnswerWriter()
  answer.begin()
  fill(answer)
  answer.finish(77n, errno)
  return Buffer.concat([answer.head.subarray(0, answer.headLength), answer.payload ?? Buffer.alloc(0)])
}

describe('answers to the kernel', () => {
  it('an entry reads back as it was, times before 1970 included', () => {
    fc.assert(
      fc.property(entry, (value) => {
        const { body, length, unique } = readAnswer(written((answer) => answer.entry(value)))
        expect(length).toBe(16 + 128)
        expect(unique).toBe(77n)
        expect(readEntry(body)).toEqual(value)
      }),
    )
  })

  it('attributes read back as they were', () => {
    fc.assert(
      fc.property(attributes, fc.integer({ min: 0, max: 1e9 }), (value, attributeTtlMs) => {
        const { body } = readAnswer(
          written((answer) => answer.attributes({ attributes: value, attributeTtlMs })),
        )
        expect(body.length).toBe(104)
        expect(Number(body.readBigUInt64LE(0)) * 1000 + body.readUInt32LE(8) / 1e6).toBe(attributeTtlMs)
        expect(readAttributes(body.subarray(16))).toEqual(value)
      }),
    )
  })

  it.each([
    [Number.POSITIVE_INFINITY, 0x7fff_ffffn, 0],
    [-1, 0n, 0],
    [1.5, 0n, 1_500_000],
    [999.9999, 0n, 999_999_900],
  ])('a time to live of %d ms stays within what the kernel can hold', (ms, seconds, nanoseconds) => {
    const { body } = readAnswer(
      written((answer) =>
        answer.attributes({
          attributeTtlMs: ms,
          attributes: {
            ino: 1n,
            mode: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 0,
            atimeNs: 0n,
            mtimeNs: 0n,
            ctimeNs: 0n,
          },
        }),
      ),
    )
    expect(body.readBigUInt64LE(0)).toBe(seconds)
    expect(body.readUInt32LE(8)).toBe(nanoseconds)
  })

  it('an error has no body, whatever was written before', () => {
    const bytes = written((answer) => answer.data(Buffer.alloc(10_000)), 5)
    expect(bytes.length).toBe(16)
    expect(readAnswer(bytes)).toMatchObject({ length: 16, error: -5, unique: 77n })
  })

  it('P1: data of every size arrives whole', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: 255 }), (size, fill) => {
        const data = Buffer.alloc(size, fill)
        const { body, length } = readAnswer(written((answer) => answer.data(data)))
        expect(length).toBe(16 + size)
        expect(body.equals(data)).toBe(true)
      }),
    )
  })

  it('large data is sent from where it lies', () => {
    const data = Buffer.alloc(8192)
    const answer = new AnswerWriter()
    answer.begin()
    answer.data(data)
    expect(answer.payload).toBe(data)
  })

  it('the flags of an open file are FOPEN_*', () => {
    const { body } = readAnswer(
      written((answer) =>
        answer.open({ handle: 2n ** 64n - 1n, keepCache: true, directIo: true, cacheDirectory: true }),
      ),
    )
    expect(body.length).toBe(16)
    expect(body.readBigUInt64LE(0)).toBe(2n ** 64n - 1n)
    expect(body.readUInt32LE(8)).toBe(0b1011)
  })

  it('statfs is 80 bytes', () => {
    const { body } = readAnswer(
      written((answer) =>
        answer.statfs({
          blocks: 1n,
          bfree: 2n,
          bavail: 3n,
          files: 4n,
          ffree: 5n,
          bsize: 6,
          namelen: 7,
          frsize: 8,
        }),
      ),
    )
    expect(body.length).toBe(80)
    expect([0, 8, 16, 24, 32].map((at) => Number(body.readBigUInt64LE(at)))).toEqual([1, 2, 3, 4, 5])
    expect([40, 44, 48].map((at) => body.readUInt32LE(at))).toEqual([6, 7, 8])
  })
})

describe('directory listings', () => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => Buffer.from(bytes))
  const item = fc.record({ name, ino: uint64, type: fc.integer({ min: 0, max: 15 }), cookie: uint64 })

  it('what fits reads back in order; what has no room is refused', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(item, fc.option(entry, { nil: undefined })), { maxLength: 40 }),
        fc.boolean(),
        fc.integer({ min: 0, max: 8192 }),
        (items, plus, size) => {
          const packer = new DirectoryPacker(size, plus)
          const added: typeof items = []
          for (const [one, its] of items) {
            if (!packer.hasRoom(one.name.length)) {
              expect(() => packer.add(one, its)).toThrow(RangeError)
              break
            }
            packer.add(one, its)
            added.push([one, its])
          }
          expect(packer.bytes.length).toBeLessThanOrEqual(size)
          const read = readDirents(packer.bytes, plus)
          expect(read.map(({ entry: _, ...rest }) => rest)).toEqual(added.map(([one]) => one))
          if (plus) {
            expect(read.map((one) => one.entry?.nodeId)).toEqual(added.map(([, its]) => its?.nodeId ?? 0n))
            expect(packer.lookedUp()).toEqual(
              added.flatMap(([, its]) => (its && its.nodeId !== 0n ? [its.nodeId] : [])),
            )
          } else {
            expect(packer.lookedUp()).toEqual([])
          }
        },
      ),
    )
  })
})
