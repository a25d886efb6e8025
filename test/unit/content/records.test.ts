import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FIRST_TIME_NS, LAST_TIME_NS, MOST_ID } from '../../../src/base/attribute-ranges.ts'
import { S_IFDIR } from '../../../src/base/attributes.ts'
import { wrongName } from '../../../src/catalog/index.ts'
import {
  CHUNK_BYTES,
  decodeFileObject,
  decodeHeader,
  decodeShard,
  decodeXattrs,
  encodeFileObject,
  encodeHeader,
  encodeShard,
  encodeXattrs,
  METADATA_XATTR_BYTES,
  type NewChunkList,
} from '../../../src/content/index.ts'
import { StoreCorrupt } from '../../../src/store/errors.ts'
import { entriesOf } from '../../support/lists.ts'

const VERSION = { epoch: 1, version: 1 }
const bytes = (max = 200): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength: max }).map((array) => Buffer.from(array))
const id = fc.nat(MOST_ID)
const ino = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n })
const time = fc.bigInt({ min: FIRST_TIME_NS, max: LAST_TIME_NS })
const xattrs = fc
  .dictionary(
    fc.constantFrom('user.a', 'user.b', 'trusted.\xff', 'security.c'),
    bytes(2 * METADATA_XATTR_BYTES),
  )
  .map((entries) => encodeXattrs(new Map(Object.entries(entries))))

const record = fc.record({
  ino,
  generation: fc.nat(),
  xattrs,
  attributes: fc.record({
    mode: fc.nat(0o7777).map((mode) => mode | 0o100000),
    nlink: fc.nat(1000),
    uid: id,
    gid: id,
    rdev: id,
    atimeNs: time,
    mtimeNs: time,
    ctimeNs: time,
  }),
})
const MANY = 1024 * CHUNK_BYTES
const content: fc.Arbitrary<NewChunkList> = fc.oneof(
  bytes().map((value) => ({ kind: 'inline' as const, bytes: value })),
  entriesOf(1024).map((entries) => ({ kind: 'list' as const, entries })),
)
const complete = (
  given: typeof record extends fc.Arbitrary<infer T> ? T : never,
  size: number,
): Parameters<typeof encodeFileObject>[0] => ({
  ...given,
  attributes: {
    ...given.attributes,
    ino: given.ino,
    size,
    blocks: Math.ceil(size / 512),
    blksize: 4096,
  },
})

const sealed = (value: Buffer) => ({
  value,
  metadata: { 'ferry-sha256': createHash('sha256').update(value).digest('hex') },
})

function flipped(value: Buffer, at: number): Buffer {
  const damaged = Buffer.from(value)
  const index = at % Math.max(1, damaged.length)
  damaged[index] = (damaged[index] ?? 0) ^ 1
  return damaged
}

describe('the object of a file', () => {
  test('comes back as it was', () => {
    fc.assert(
      fc.property(record, content, fc.nat({ max: CHUNK_BYTES }), (given, list, less) => {
        const whole = complete(given, MANY - less)
        const { value, metadata, digest } = encodeFileObject(whole, list)
        const read = decodeFileObject('k', { value, metadata, version: VERSION })
        expect(read).toEqual({ ...whole, content: list, digest })
      }),
    )
  })

  test('P1: is refused with any byte changed', () => {
    fc.assert(
      fc.property(record, content, fc.nat(), (given, list, at) => {
        const { value, metadata } = encodeFileObject(complete(given, MANY), list)
        const damaged = value.length === 0 ? Buffer.from([0]) : flipped(value, at)
        expect(() => decodeFileObject('k', { value: damaged, metadata, version: VERSION })).toThrow(
          StoreCorrupt,
        )
      }),
    )
  })

  test('P1: is refused with any field of its metadata missing or of another shape', () => {
    const whole = complete(fc.sample(record, 1)[0] ?? expect.unreachable(), 5)
    const { value, metadata } = encodeFileObject(whole, { kind: 'inline', bytes: Buffer.from('bytes') })
    for (const name of Object.keys(metadata)) {
      if (name === 'ferry-xattrs') continue
      const { [name]: _, ...less } = metadata
      expect(() => decodeFileObject('k', { value, metadata: less, version: VERSION }), name).toThrow(
        StoreCorrupt,
      )
      const other = { ...metadata, [name]: 'x' }
      expect(() => decodeFileObject('k', { value, metadata: other, version: VERSION }), name).toThrow(
        StoreCorrupt,
      )
    }
  })

  test('P1: a manifest that is none, with a checksum that holds, is refused', () => {
    const whole = complete(fc.sample(record, 1)[0] ?? expect.unreachable(), 5)
    const { metadata } = encodeFileObject(whole, { kind: 'list', entries: [] })
    fc.assert(
      fc.property(fc.oneof(bytes(), fc.json().map(Buffer.from)), (value) => {
        const damaged = { value, metadata: { ...metadata, ...sealed(value).metadata }, version: VERSION }
        expect(() => decodeFileObject('k', damaged)).toThrow(StoreCorrupt)
      }),
    )
  })
})

describe('the record of a directory', () => {
  const header = fc.record({
    ino,
    generation: fc.nat(),
    mode: fc.nat(0o7777).map((rights) => S_IFDIR | rights),
    uid: id,
    gid: id,
    nlink: fc.nat(),
    atimeNs: time,
    mtimeNs: time,
    ctimeNs: time,
    xattrs: fc.option(
      bytes().filter(({ length }) => length > 0),
      { nil: undefined },
    ),
    recordGeneration: fc.integer({ min: 1, max: 1000 }),
    shards: fc.nat(12).map((power) => 2 ** power),
  })
  const name = bytes(255).filter((name) => wrongName(name) === undefined)
  const entry = fc.record(
    {
      name,
      ino,
      generation: fc.nat(),
      key: fc.option(fc.string(), { nil: undefined }),
      links: fc.integer({ min: 2, max: 1000 }),
      from: fc.array(fc.record({ directory: fc.constantFrom('1-0', 'ff-a'), name }), { minLength: 1 }),
    },
    { requiredKeys: ['name', 'ino', 'generation', 'key'] },
  )
  const shard = fc.record({ entries: fc.array(entry), leaving: fc.array(entry) })

  test('comes back as it was, names that are no text included', () => {
    fc.assert(
      fc.property(header, shard, (given, list) => {
        expect(decodeHeader('k', encodeHeader(given))).toEqual(given)
        expect(decodeShard('k', encodeShard('k', list))).toEqual({ ...list, refused: [] })
      }),
    )
  })

  test.each([
    ['', 'empty'],
    ['.', 'every directory has'],
    ['..', 'every directory has'],
    ['a/b', 'slash'],
    ['/', 'slash'],
    ['a\0b', 'NUL'],
    ['n'.repeat(300), 'longer than 255 bytes'],
  ])('P1: a name that no directory can have (%j) is refused, and the others are taken', (wrong, reason) => {
    const one = { name: Buffer.from('one'), ino: 2n, generation: 2, key: 'one' }
    const list = { entries: [{ ...one, name: Buffer.from(wrong) }, one], leaving: [] }
    const read = decodeShard('k', encodeShard('k', list))
    expect(read.entries).toEqual([one])
    expect(read.refused).toEqual([{ name: expect.any(String), reason: expect.stringContaining(reason) }])
  })

  test('P1: is refused with any byte changed', () => {
    fc.assert(
      fc.property(header, shard, fc.nat(), (given, list, at) => {
        const one = encodeHeader(given)
        const other = encodeShard('k', list)
        expect(() => decodeHeader('k', { ...one, value: flipped(one.value, at) })).toThrow(StoreCorrupt)
        expect(() => decodeShard('k', { ...other, value: flipped(other.value, at) })).toThrow(StoreCorrupt)
      }),
    )
  })

  test('P1: anything else, with a checksum that holds, is refused', () => {
    fc.assert(
      fc.property(fc.oneof(bytes(), fc.json().map(Buffer.from)), (value) => {
        expect(() => decodeHeader('k', sealed(value))).toThrow(StoreCorrupt)
        expect(() => decodeShard('k', sealed(value))).toThrow(StoreCorrupt)
      }),
    )
  })
})

test('extended attributes come back as they were', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ minLength: 1 }).map(latin), bytes()), (entries) => {
      const map = new Map(Object.entries(entries))
      expect(decodeXattrs(encodeXattrs(map))).toEqual(map)
    }),
  )
})

const latin = (text: string): string => Buffer.from(text).toString('latin1')
