import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { contentKey, fileId } from '../../../src/catalog/index.ts'
import {
  CHUNK_BYTES,
  type ChunkList,
  decodeFileObject,
  decodeHeader,
  decodeShard,
  encodeFileObject,
  encodeHeader,
  encodeShard,
  encodeXattrs,
  headerKey,
  sha256,
  shardKey,
} from '../../../src/content/index.ts'
import { encodeList } from '../../../src/content/list.ts'
import { packed, zerosOf } from '../../../src/content/zeros.ts'
import { encodeObject } from '../../../src/store/riak/objects.ts'

/**
 * The examples of docs/store-format.md are golden: each fenced block that is named `golden NAME` is what the code writes to
 * the byte, or has once written and still reads. Who changes one changes the format, and needs a new version of it.
 */
const GOLDEN = new Map(
  [...readFileSync('docs/store-format.md', 'utf8').matchAll(/```\w+ golden ([\w-]+)\n(.*?)\n```/gs)].map(
    ([, name = '', text = '']) => [name, text],
  ),
)

function golden(name: string): string {
  return GOLDEN.get(name) ?? expect.unreachable(`docs/store-format.md has no example ${name}`)
}

const json = (value: unknown): string => JSON.stringify(value, null, 2)
/** 32 bytes a line. */
const hex = (bytes: Buffer | undefined): string =>
  bytes
    ?.toString('hex')
    .match(/.{1,64}/g)
    ?.join('\n') ?? ''
const bytesOf = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')
/** JSON that the store has on one line, with its checksum. */
const sealed = (value: string, metadata: Record<string, string> = {}) => ({
  value: Buffer.from(value),
  metadata: { ...metadata, 'ferry-sha256': sha256(Buffer.from(value)).toString('hex') },
  version: { epoch: 1310721, version: 7 },
})
const onOneLine = (text: string): string => JSON.stringify(JSON.parse(text))

const FILE = { ino: 0x1234n, generation: 3 }
const attributes = (size: number) => ({
  ino: FILE.ino,
  mode: 0o100640,
  nlink: 1,
  uid: 1000,
  gid: 100,
  rdev: 0,
  size,
  blocks: Math.ceil(size / 512),
  blksize: 4096,
  atimeNs: 1_700_000_000_000_000_001n,
  mtimeNs: 1_700_000_000_123_456_789n,
  ctimeNs: -1n,
  btimeNs: 1_600_000_000_000_000_001n,
  flags: 0x10,
})
const XATTRS = encodeXattrs(new Map([['user.colour', Buffer.from('blue')]]))
const INLINE = { kind: 'inline' as const, bytes: Buffer.from('hello') }
const inline = encodeFileObject({ ...FILE, attributes: attributes(5), xattrs: XATTRS }, INLINE)

function bits(zeros: ReturnType<typeof zerosOf>): Buffer {
  return Buffer.isBuffer(zeros) ? zeros : expect.unreachable('some of its blocks are zeros')
}

/** A chunk of data, a hole, and a short chunk that has data in its first block only. */
const WHOLE = Buffer.alloc(CHUNK_BYTES, 'ferryfs ')
const SHORT = Buffer.concat([Buffer.from('first'), Buffer.alloc(8192)])
const ZEROS = bits(zerosOf(SHORT))
const PACKED = packed(SHORT, ZEROS)
const LIST = {
  kind: 'list' as const,
  entries: [
    { slot: 0, hash: sha256(WHOLE), zeros: undefined },
    { slot: 2, hash: sha256(PACKED), zeros: ZEROS },
  ],
}
const SIZE = 2 * CHUNK_BYTES + SHORT.length
const chunked = encodeFileObject({ ...FILE, attributes: attributes(SIZE), xattrs: XATTRS }, LIST)

const HEADER = {
  ino: 0x99n,
  generation: 1,
  mode: 0o40755,
  uid: 0,
  gid: 0,
  nlink: 3,
  atimeNs: 1_700_000_000_000_000_000n,
  mtimeNs: 1_700_000_000_000_000_000n,
  ctimeNs: 1_700_000_000_000_000_000n,
  btimeNs: 1_600_000_000_000_000_000n,
  xattrs: XATTRS,
  flags: 0x20,
  recordGeneration: 2,
  shards: 2,
}
const SHARD_KEY = shardKey('99-1', 2, 0)
const SHARD = {
  entries: [
    { name: Buffer.from('réport.txt'), ...FILE, key: 'docs/réport.txt' },
    { name: Buffer.from([0xff, 0x41]), ino: 0x77n, generation: 4, key: undefined },
    {
      name: Buffer.from('b'),
      ino: 0x78n,
      generation: 5,
      key: 'old/b',
      links: 2,
      from: [{ directory: '50-1', name: Buffer.from('b') }],
    },
  ],
  leaving: [{ name: Buffer.from('gone'), ino: 0x79n, generation: 6, key: 'docs/gone' }],
}

describe('P5: what the store has is what docs/store-format.md says', () => {
  test('the object of a file, inline', () => {
    expect(json(inline.metadata)).toBe(golden('file-metadata'))
    expect(inline.value.toString()).toBe('hello')
    expect(hex(XATTRS)).toBe(golden('xattrs'))
    expect(decodeFileObject('k', { ...inline, version: sealed('').version }).attributes).toEqual(
      attributes(5),
    )
  })

  test('a manifest, its list, and its chunks', () => {
    expect(json(JSON.parse(chunked.value.toString()))).toBe(golden('manifest'))
    expect(hex(encodeList(LIST.entries))).toBe(golden('list'))
    expect(hex(PACKED.subarray(0, 40))).toBe(golden('packed-chunk'))
    const keys = LIST.entries.map(({ slot, hash }) => contentKey(fileId(FILE), 0, slot, hash))
    expect([...keys, contentKey(fileId(FILE), 1, 0, sha256(Buffer.from('page')))].join('\n')).toBe(
      golden('keys'),
    )
  })

  test('the record of a directory', () => {
    expect(headerKey('99-1')).toBe('99-1')
    expect(json(JSON.parse(encodeHeader(HEADER).value.toString()))).toBe(golden('header'))
    expect(json(JSON.parse(encodeShard(SHARD_KEY, SHARD).value.toString()))).toBe(golden('shard'))
  })

  test('an object in Riak', () => {
    const { value, metadata, version } = sealed('hello', inline.metadata)
    const { usermeta } = encodeObject({ value, metadata, version, contentType: 'text/plain' })
    const shown = usermeta.filter(([name]) => !name.startsWith('X-Riak-Meta-Ferry-'))
    expect([...shown, ...usermeta.slice(2, 3)].map(([name, text]) => `${name}: ${text}`).join('\n')).toBe(
      golden('riak-metadata'),
    )
  })
})

describe('P5: what an earlier version has stored is still read', () => {
  test.each<[string, number, ChunkList]>([
    ['manifest-1-chunks', 2, { kind: 'chunks', hashes: [sha256(WHOLE), Buffer.alloc(32)] }],
    ['manifest-1-pages', 8193, { kind: 'pages', hashes: [sha256(WHOLE), sha256(SHORT)] }],
    ['manifest-1-inline', 1, INLINE],
  ])('%s', (name, chunks, content) => {
    const metadata = { ...chunked.metadata, 'ferry-size': String(chunks * CHUNK_BYTES) }
    expect(decodeFileObject('k', sealed(onOneLine(golden(name)), metadata)).content).toEqual(content)
  })

  test('manifest, header and shard as they are now', () => {
    const manifest = sealed(onOneLine(golden('manifest')), chunked.metadata)
    expect(decodeFileObject('k', manifest).content).toEqual(LIST)
    expect(decodeHeader('99-1', sealed(onOneLine(golden('header'))))).toEqual(HEADER)
    const { refused, ...shard } = decodeShard(SHARD_KEY, sealed(onOneLine(golden('shard'))))
    expect({ shard, refused }).toEqual({ shard: SHARD, refused: [] })
    expect(bytesOf(golden('list'))).toEqual(encodeList(LIST.entries))
  })
})
