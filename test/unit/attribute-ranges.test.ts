import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  FIRST_TIME_NS,
  LAST_TIME_NS,
  MOST_BYTES,
  MOST_ID,
  MOST_U32,
  MOST_XATTR_NAMES_BYTES,
} from '../../src/base/attribute-ranges.ts'
import { S_IFDIR, S_IFREG } from '../../src/base/attributes.ts'
import { FLAG_APPEND, FLAG_IMMUTABLE, GUARDS } from '../../src/base/inode-flags.ts'
import { attributesOf, Catalog, fileId, type Inode, NAME_MAX, wrongName } from '../../src/catalog/index.ts'
import {
  decodeFileObject,
  decodeHeader,
  encodeFileObject,
  readableHeader,
  requireReadable,
} from '../../src/content/index.ts'
import { receivedFile, sentFile } from '../../src/daemon/tree-messages.ts'
import { AnswerWriter } from '../../src/fuse/kernel/answer.ts'
import { Body } from '../../src/fuse/kernel/body.ts'
import type { Agreement } from '../../src/fuse/kernel/init.ts'
import { NODE_OPERATIONS } from '../../src/fuse/kernel/node-operations.ts'
import type { AttributeChanges } from '../../src/fuse/operations.ts'
import { newInode } from '../../src/overlay/index.ts'
import { closeDescriptor, getXattr, listXattrs, openAt, statAt } from '../../src/sys/index.ts'
import { readAnswer, readAttributes, u32, u64 } from '../support/fuse/frames.ts'
import { Client } from '../support/rig/client.ts'
import { Rig } from '../support/rig/rig.ts'

const SECOND = 1_000_000_000n
const AGREED: Agreement = { minor: 45, flags: 1n << 29n, maxWrite: 1024 * 1024 }

/** With the ends of every range that some part has had, or has: 32 bits, ext4, XFS, 64 bits of nanoseconds, of seconds. */
const EDGES = [
  -(2n ** 31n),
  15_032_385_535n,
  16_299_260_425n,
  2n ** 33n,
  2n ** 63n / SECOND,
  1_700_000_000_000n,
]
const time = fc.oneof(
  fc.bigInt({ min: FIRST_TIME_NS + SECOND, max: LAST_TIME_NS }),
  fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }),
  fc.constantFrom(FIRST_TIME_NS, LAST_TIME_NS, -1n, 0n, 1n),
  fc
    .tuple(fc.constantFrom(...EDGES), fc.bigInt({ min: -SECOND, max: SECOND }))
    .map(([seconds, off]) => seconds * SECOND + off),
)
const id = fc.oneof(fc.constantFrom(0, MOST_ID, 2 ** 31), fc.integer({ min: 0, max: MOST_ID }))
const u32s = fc.oneof(fc.constant(MOST_U32), fc.integer({ min: 0, max: MOST_U32 }))
const size = fc.oneof(fc.constantFrom(0, MOST_BYTES, 2 ** 44), fc.integer({ min: 0, max: MOST_BYTES }))
const byte = fc.uint8Array({ minLength: 1, maxLength: NAME_MAX }).map((array) => Buffer.from(array))
const name = byte.filter((bytes) => wrongName(bytes) === undefined)

const attributes = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: id,
  gid: id,
  nlink: u32s,
  rdev: u32s,
  size,
  atimeNs: time,
  mtimeNs: time,
  ctimeNs: time,
  // 0 is for what has none.
  btimeNs: time.filter((ns) => ns !== 0n),
  flags: fc.constantFrom(0, FLAG_IMMUTABLE, FLAG_APPEND, GUARDS),
})
type Drawn = typeof attributes extends fc.Arbitrary<infer T> ? T : never

const split = (ns: bigint): [seconds: bigint, rest: number] => {
  const rest = ((ns % SECOND) + SECOND) % SECOND
  return [(ns - rest) / SECOND, Number(rest)]
}

/** `struct fuse_setattr_in` for all of it, as the kernel's transport reads it. */
function requested({ mode, uid, gid, size: bytes, atimeNs, mtimeNs, ctimeNs }: Drawn): AttributeChanges {
  const times = [atimeNs, mtimeNs, ctimeNs].map(split)
  const frame = Buffer.concat([
    ...[u32(0b100_0011_1111), u32(0), u64(0), u64(BigInt(bytes)), u64(0)],
    ...times.map(([seconds]) => u64(seconds)),
    ...times.map(([, rest]) => u32(rest)),
    ...[u32(mode), u32(0), u32(uid), u32(gid), u32(0)],
  ])
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  const decoded = NODE_OPERATIONS.get(4)?.decode(new Body().reset(frame, view, 0, frame.length), AGREED)
  return (decoded as { changes: AttributeChanges }).changes
}

const given = ({ size: bytes, ...others }: Drawn) => ({ ...others, size: bytes })

/** One after the other in one catalog, as a new process reads them from its file. */
async function throughCatalog(drawn: readonly Drawn[]): Promise<Inode[]> {
  const directory = mkdtempSync(join(tmpdir(), 'ferryfs-ranges-'))
  const path = join(directory, 'catalog.db')
  try {
    const catalog = Catalog.open(path, { check: false })
    catalog.transaction(() => {
      for (const [index, each] of drawn.entries()) {
        const { size: bytes, mtimeNs, ctimeNs } = each
        const fingerprint = { size: bytes, mtimeNs, ctimeNs }
        const own = { ...given(each), mode: each.mode | S_IFREG, fingerprint }
        catalog.save({ ...newInode(BigInt(index + 2), index + 1), ...own })
      }
    })
    await catalog.close()
    const again = Catalog.open(path, { check: true })
    const found = drawn.map((_, index) => again.get(BigInt(index + 2)) ?? expect.unreachable())
    await again.close()
    return found
  } finally {
    rmSync(directory, { recursive: true })
  }
}

describe('P1: what comes in goes out again, whatever lies between', () => {
  test('attributes, through a request, the catalog, the store, a record, a restore and an answer', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(attributes, { minLength: 1, maxLength: 40 }), async (drawn) => {
        for (const each of drawn) {
          const { mode, uid, gid, size: bytes, atimeNs, mtimeNs, ctimeNs } = each
          const changes = { mode, uid, gid, size: bytes, atime: atimeNs, mtime: mtimeNs, ctimeNs }
          expect(requested(each)).toEqual(changes)
        }
        for (const [index, inode] of (await throughCatalog(drawn)).entries()) {
          const wanted = given(drawn[index] ?? expect.unreachable())
          const file = { ...wanted, mode: wanted.mode | S_IFREG }
          expect(inode).toMatchObject(file)
          const { size: bytes, mtimeNs, ctimeNs } = wanted
          expect(inode.fingerprint).toEqual({ size: bytes, mtimeNs, ctimeNs })

          const { ino, generation } = inode
          const record = { ino, generation, xattrs: undefined, attributes: attributesOf(inode) }
          const list = { kind: 'list', entries: [] } as const
          const object = encodeFileObject(record, list)
          requireReadable(fileId(inode), object, record, list)
          const read = decodeFileObject('k', { ...object, version: { epoch: 1, version: 1 } })
          expect({ flags: 0, ...read.attributes }).toMatchObject(file)

          const { uid, gid, nlink, atimeNs, btimeNs } = wanted
          const header = { ino, generation, mode: wanted.mode | S_IFDIR, uid, gid, nlink, atimeNs, mtimeNs }
          const flags = wanted.flags === 0 ? {} : { flags: wanted.flags }
          const directory = {
            ...header,
            ctimeNs,
            btimeNs,
            ...flags,
            xattrs: undefined,
            recordGeneration: 1,
            shards: 1,
          }
          expect(decodeHeader('k', readableHeader(directory))).toEqual(directory)

          const tree = { ...record, stamp: 's', target: undefined, chunks: undefined }
          const sent: unknown = JSON.parse(JSON.stringify(sentFile(tree)))
          const received = receivedFile(sent as ReturnType<typeof sentFile>)
          // No call gives DEST a time of birth.
          const { btimeNs: __, ...restored } = file
          expect({ flags: 0, ...received.attributes }).toMatchObject(restored)

          const answer = new AnswerWriter()
          answer.begin()
          answer.attributes({ attributes: attributesOf(inode), attributeTtlMs: 0 })
          answer.finish(1n, 0)
          const { body } = readAnswer(answer.head.subarray(0, answer.headLength))
          const { flags: _, ...shown } = restored
          expect(readAttributes(body.subarray(16))).toMatchObject(shown)
        }
      }),
      { numRuns: 25 },
    )
  })

  test.each([
    ['a size', { size: MOST_BYTES + 1 }, 'EFBIG'],
    ['an owner', { uid: MOST_ID + 1 }, 'EINVAL'],
    ['a group', { gid: -1 }, 'EINVAL'],
    ['a time', { mtimeNs: LAST_TIME_NS + 1n }, 'EINVAL'],
    ['an early time', { atimeNs: FIRST_TIME_NS - 1n }, 'EINVAL'],
    ['a link count', { nlink: MOST_U32 + 1 }, 'EINVAL'],
  ])(
    '%s out of its range is refused by the catalog, and does not count as stored',
    async (_, change, code) => {
      const inode = { ...newInode(2n, 1), mode: S_IFREG | 0o644, ...change }
      const directory = mkdtempSync(join(tmpdir(), 'ferryfs-ranges-'))
      const catalog = Catalog.open(join(directory, 'catalog.db'), { check: false })
      expect(() => catalog.transaction(() => catalog.save(inode))).toThrow(expect.objectContaining({ code }))
      await catalog.close()
      rmSync(directory, { recursive: true })
      const record = { ino: 2n, generation: 1, xattrs: undefined, attributes: attributesOf(inode) }
      const list = { kind: 'list', entries: [] } as const
      expect(() => requireReadable('k', encodeFileObject(record, list), record, list)).toThrow(
        expect.objectContaining({ code: 'EIO', message: expect.stringContaining('cannot be stored') }),
      )
    },
  )
})

interface File extends Drawn {
  readonly name: Buffer
  readonly xattr: Buffer
}

const files = fc.uniqueArray(
  fc.record({ ...shapeOf(), name, xattr: fc.uint8Array({ maxLength: 65536, size: 'max' }).map(Buffer.from) }),
  { minLength: 1, maxLength: 4, selector: ({ name: own }) => own.toString('latin1') },
)

function shapeOf() {
  const zero = fc.constant(0)
  return {
    mode: fc.integer({ min: 0, max: 0o777 }),
    ...{ uid: id, gid: id, nlink: zero, rdev: zero, size: zero },
    ...{ atimeNs: time, mtimeNs: time, ctimeNs: fc.constant(0n), btimeNs: fc.constant(0n), flags: zero },
  }
}

/** What stat(2) and getxattr(2) say of a file of the drawn ones. */
const seen = (file: File) => ({
  mode: file.mode,
  uid: file.uid,
  gid: file.gid,
  atimeNs: file.atimeNs,
  mtimeNs: file.mtimeNs,
  xattr: file.xattr.toString('latin1'),
})

async function put(rig: Rig, isDirectory: boolean, file: File): Promise<void> {
  const { name: own, mode, uid, gid, atimeNs: atime, mtimeNs: mtime } = file
  const { nodeId } = await rig.perform<{ nodeId: bigint }>((overlay, request) =>
    isDirectory
      ? overlay.mkdir(request, 1n, own, 0o755)
      : overlay.mknod(request, 1n, own, S_IFREG | 0o644, 0),
  )
  if (!isDirectory) await new Client(rig).write(nodeId, 0, own)
  await rig.perform((overlay, request) =>
    overlay.setxattr(request, nodeId, Buffer.from('trusted.any'), file.xattr, 0),
  )
  await rig.perform((overlay, request) => overlay.setattr(request, nodeId, { mode, uid, gid, atime, mtime }))
}

async function shownBy(rig: Rig, own: Buffer) {
  const entry = await rig.perform((overlay, request) => overlay.lookup(request, 1n, own))
  const { mode, uid, gid, atimeNs, mtimeNs } = entry.attributes
  const xattr = await rig.perform((overlay, request) =>
    overlay.getxattr(request, entry.nodeId, Buffer.from('trusted.any')),
  )
  return { mode: mode & 0o7777, uid, gid, atimeNs, mtimeNs, xattr: xattr.toString('latin1') }
}

async function birthsBy(rig: Rig, drawn: readonly File[]): Promise<bigint[]> {
  const births: bigint[] = []
  for (const { name: own } of drawn) {
    const entry = await rig.perform((overlay, request) => overlay.lookup(request, 1n, own))
    births.push(entry.attributes.btimeNs ?? expect.unreachable('it has no time of birth'))
  }
  return births
}

function onDisk(directory: number, own: Buffer) {
  const { mode, uid, gid, atimeNs, mtimeNs } = statAt(directory, own)
  expect(listXattrs(directory, own).map(String)).toEqual(['trusted.any'])
  const xattr = getXattr(directory, own, Buffer.from('trusted.any')).toString('latin1')
  return { mode: mode & 0o7777, uid, gid, atimeNs, mtimeNs, xattr }
}

// On tmpfs, which has all times, and extended attributes of 64 KiB.
test('P1 P5: any file of a drain is the same at once, after a new mount, a rebuild and a restore', async () => {
  await fc.assert(
    fc.asyncProperty(files, fc.boolean(), async (drawn, isDirectory) => {
      const rig = await Rig.start({ mode: 'drain' })
      try {
        for (const file of drawn) await put(rig, isDirectory, file)
        for (const file of drawn) expect(await shownBy(rig, file.name), 'at once').toEqual(seen(file))
        const births = await birthsBy(rig, drawn)
        await rig.settle()
        await rig.restart('mount')
        expect(await birthsBy(rig, drawn), 'new mount').toEqual(births)
        for (const file of drawn) expect(await shownBy(rig, file.name), 'new mount').toEqual(seen(file))
        expect((await rig.verify()).differences).toEqual([])
        const dest = join(rig.root, 'dest')
        mkdirSync(dest)
        expect((await rig.restoreTo(dest)).findings).toEqual([])
        const directory = openAt(-100, Buffer.from(dest), 0)
        for (const file of drawn) expect(onDisk(directory, file.name), 'restored').toEqual(seen(file))
        closeDescriptor(directory)
        if (!isDirectory)
          for (const { name: own } of drawn)
            expect(readFileSync(Buffer.concat([Buffer.from(`${dest}/`), own])).equals(own)).toBe(true)
        const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
        try {
          expect(result.failures).toEqual([])
          expect(await birthsBy(rebuilt, drawn), 'rebuilt').toEqual(births)
          for (const file of drawn) expect(await shownBy(rebuilt, file.name), 'rebuilt').toEqual(seen(file))
        } finally {
          await rebuilt.stop()
        }
      } finally {
        await rig.stop()
      }
    }),
    { numRuns: 12 },
  )
})

test('P5: extended attributes that nobody could list are refused at the call', async () => {
  const rig = await Rig.start({ mode: 'drain' })
  try {
    const client = new Client(rig)
    const node = await client.create('f')
    const set = (index: number): Promise<void> =>
      rig.perform((overlay, request) =>
        overlay.setxattr(request, node, Buffer.from(`user.${index}`.padEnd(255, 'x')), Buffer.alloc(0), 0),
      )
    const most = MOST_XATTR_NAMES_BYTES / 256
    for (let index = 0; index < most; index += 1) await set(index)
    await expect(set(most)).rejects.toMatchObject({ code: 'ENOSPC' })
    await rig.settle()
    const dest = join(rig.root, 'dest')
    mkdirSync(dest)
    expect((await rig.restoreTo(dest)).findings).toEqual([])
  } finally {
    await rig.stop()
  }
})
