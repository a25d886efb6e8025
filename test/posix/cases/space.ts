import { expect } from 'vitest'
import type { Remote } from '../../support/posix/agent.ts'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_APPEND,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  SEEK_DATA,
  SEEK_HOLE,
} from '../../support/posix/constants.ts'
import { SyscallError } from '../../support/posix/libc.ts'
import { type CaseContext, type PosixCase, pattern, refused } from '../case.ts'

const MIB = 1 << 20
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE

async function fileWith(c: CaseContext, content: Buffer): Promise<number> {
  const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR)
  if (content.length > 0) await c.me.write(fd, content, 0)
  return fd
}

/** What the file holds for another process, and the same after the cached pages are gone. */
async function expectContent(c: CaseContext, fd: number, expected: Buffer): Promise<void> {
  expect((await c.second.readFile(`${c.dir}/file`)).equals(expected)).toBe(true)
  await c.me.fsync(fd)
  await c.me.dropCache(fd)
  expect((await c.me.read(fd, expected.length + 1, 0)).equals(expected), 'past the page cache').toBe(true)
}

/** The ranges that lseek(2) says hold data. */
async function dataRanges(who: Remote, fd: number): Promise<[number, number][]> {
  const ranges: [number, number][] = []
  for (let at = 0; ; ) {
    try {
      const start = await who.lseek(fd, at, SEEK_DATA)
      at = await who.lseek(fd, start, SEEK_HOLE)
      ranges.push([start, at])
    } catch (error) {
      if (error instanceof SyscallError && error.code === 'ENXIO') return ranges
      throw error
    }
  }
}

export const space: readonly PosixCase[] = [
  {
    name: 'what truncate takes away does not come back when the file grows again',
    async run(c) {
      const content = pattern(200_000)
      const fd = await fileWith(c, content)
      await c.me.ftruncate(fd, 70_001)
      await c.me.ftruncate(fd, 150_000)
      const expected = Buffer.concat([content.subarray(0, 70_001), Buffer.alloc(150_000 - 70_001)])
      await expectContent(c, fd, expected)
      await c.second.truncate(`${c.dir}/file`, 0)
      await c.second.truncate(`${c.dir}/file`, 5000)
      await expectContent(c, fd, Buffer.alloc(5000))
    },
  },
  {
    name: 'a write behind the end leaves zeros between',
    async run(c) {
      const fd = await fileWith(c, pattern(1000))
      await c.me.write(fd, pattern(500, 2), 300_000)
      await c.me.write(fd, pattern(10, 3), 5_000_000)
      const expected = Buffer.alloc(5_000_010)
      pattern(1000).copy(expected)
      pattern(500, 2).copy(expected, 300_000)
      pattern(10, 3).copy(expected, 5_000_000)
      await expectContent(c, fd, expected)
    },
  },
  {
    name: 'writes of every size at every alignment land where they belong',
    async run(c) {
      const shadow = Buffer.alloc(3 * MIB)
      const fd = await fileWith(c, shadow)
      const edges = [0, 1, 4095, 4096, 4097, 65_535, 131_072, MIB - 1, MIB, MIB + 1, 2 * MIB - 3]
      for (const [index, offset] of edges.entries()) {
        for (const length of [1, 511, 4096, 4097, 131_073]) {
          const data = pattern(length, index * 7 + length)
          await c.me.write(fd, data, offset)
          data.copy(shadow, offset)
        }
      }
      await expectContent(c, fd, shadow)
    },
  },
  {
    name: 'sizes and offsets beyond 4 GiB',
    needs: ['sparse'],
    async run(c) {
      const fd = await fileWith(c, Buffer.alloc(0))
      const offsets = [2 ** 31 - 2, 2 ** 32 - 3, 2 ** 32 + 12_345, 5 * 2 ** 32 + 1]
      for (const [index, offset] of offsets.entries()) await c.me.write(fd, pattern(5000, index), offset)
      for (const [index, offset] of offsets.entries()) {
        expect((await c.second.stat(`${c.dir}/file`)).size).toBe(5 * 2 ** 32 + 1 + 5000)
        expect((await c.me.read(fd, 5000, offset)).equals(pattern(5000, index)), `at ${offset}`).toBe(true)
        expect((await c.me.read(fd, 100, offset - 100)).equals(Buffer.alloc(100)), 'zeros before').toBe(true)
      }
      const { blocks } = await c.me.fstat(fd)
      expect(blocks * 512, 'holes take no space').toBeLessThan(64 * MIB)
      await c.me.ftruncate(fd, 2 ** 33)
      expect((await c.second.stat(`${c.dir}/file`)).size).toBe(2 ** 33)
    },
  },
  {
    name: 'a hole is nowhere reported where data is',
    async run(c) {
      const fd = await fileWith(c, Buffer.alloc(0))
      const data: [number, number][] = [
        [0, 10_000],
        [MIB, MIB + 65_536],
        [3 * MIB + 1000, 3 * MIB + 1001],
      ]
      for (const [start, end] of data) await c.me.write(fd, pattern(end - start), start)
      const ranges = await dataRanges(c.me, fd)
      for (const [start, end] of data) {
        expect(ranges.some(([from, to]) => from <= start && end <= to)).toBe(true)
      }
      const size = 3 * MIB + 1001
      expect(await c.me.lseek(fd, size - 1, SEEK_HOLE), 'the end counts as a hole').toBe(size)
      await refused('ENXIO', c.me.lseek(fd, size, SEEK_DATA))
      await refused('ENXIO', c.me.lseek(fd, size + 1, SEEK_HOLE))
    },
  },
  {
    name: 'SEEK_DATA and SEEK_HOLE find the holes',
    needs: ['seekHole'],
    async run(c) {
      const fd = await fileWith(c, Buffer.alloc(0))
      await c.me.write(fd, pattern(65_536), 4 * MIB)
      await c.me.write(fd, pattern(65_536), 8 * MIB)
      await c.me.ftruncate(fd, 12 * MIB)
      expect(await dataRanges(c.me, fd)).toEqual([
        [4 * MIB, 4 * MIB + 65_536],
        [8 * MIB, 8 * MIB + 65_536],
      ])
      await refused('ENXIO', c.me.lseek(fd, 9 * MIB, SEEK_DATA))
      expect(await c.me.lseek(fd, 9 * MIB, SEEK_HOLE)).toBe(9 * MIB)
    },
  },
  {
    name: 'fallocate extends with zeros, with KEEP_SIZE it only reserves',
    needs: ['fallocate'],
    async run(c) {
      const fd = await fileWith(c, pattern(1000))
      await c.me.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100_000)
      expect((await c.second.stat(`${c.dir}/file`)).size).toBe(1000)
      await c.me.fallocate(fd, 0, 500, 50_000)
      expect((await c.second.stat(`${c.dir}/file`)).size).toBe(50_500)
      await c.me.fallocate(fd, 0, 0, 10)
      expect((await c.second.stat(`${c.dir}/file`)).size, 'it never shrinks').toBe(50_500)
      await expectContent(c, fd, Buffer.concat([pattern(1000), Buffer.alloc(49_500)]))
    },
  },
  {
    name: 'a punched hole reads as zeros, aligned or not, and leaves the size',
    needs: ['punchHole'],
    async run(c) {
      const content = pattern(3 * MIB)
      const fd = await fileWith(c, content)
      for (const [offset, length] of [
        [4096, 8192],
        [100_001, 3],
        [200_000, 70_000],
        [MIB - 5, 10],
        [MIB + 100_000, MIB],
        [3 * MIB - 10, 5000],
      ] as const) {
        await c.me.fallocate(fd, PUNCH, offset, length)
        content.fill(0, offset, Math.min(offset + length, content.length))
      }
      expect((await c.me.fstat(fd)).size).toBe(3 * MIB)
      await expectContent(c, fd, content)
      await c.me.write(fd, 'data again', 5000)
      content.write('data again', 5000)
      await expectContent(c, fd, content)
    },
  },
  {
    name: 'a zeroed range reads as zeros and grows the file unless told not to',
    needs: ['zeroRange'],
    async run(c) {
      const fd = await fileWith(c, pattern(100_000))
      await c.me.fallocate(fd, FALLOC_FL_ZERO_RANGE, 10_001, 30_000)
      await c.me.fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 90_000, 50_000)
      const expected = pattern(100_000)
      expected.fill(0, 10_001, 40_001).fill(0, 90_000)
      await expectContent(c, fd, expected)
      await c.me.fallocate(fd, FALLOC_FL_ZERO_RANGE, 95_000, 20_000)
      await expectContent(c, fd, Buffer.concat([expected, Buffer.alloc(15_000)]))
    },
  },
  {
    name: 'fallocate fails as it should',
    needs: ['fallocate', 'punchHole'],
    async run(c) {
      const fd = await fileWith(c, pattern(100))
      await refused('EINVAL', c.me.fallocate(fd, 0, 0, 0))
      await refused('EINVAL', c.me.fallocate(fd, 0, -1, 10))
      await refused('EOPNOTSUPP', c.me.fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10))
      const reader = await c.me.open(`${c.dir}/file`, O_RDONLY)
      await refused('EBADF', c.me.fallocate(reader, 0, 0, 10))
      expect((await c.me.fstat(fd)).size).toBe(100)
    },
  },
  {
    name: 'copy_file_range copies between files, within one, and stops at the end',
    needs: ['copyFileRange'],
    async run(c) {
      const content = pattern(3 * MIB)
      const fd = await fileWith(c, content)
      const to = await c.me.open(`${c.dir}/copy`, O_CREAT | O_RDWR)
      await c.me.write(to, 'before', 0)
      for (let copied = 0; copied < 2 * MIB; ) {
        const some = await c.me.copyFileRange(fd, 1000 + copied, to, 3 + copied, 2 * MIB - copied)
        expect(some).toBeGreaterThan(0)
        copied += some
      }
      const copy = await c.second.readFile(`${c.dir}/copy`)
      expect(copy.equals(Buffer.concat([Buffer.from('bef'), content.subarray(1000, 1000 + 2 * MIB)]))).toBe(
        true,
      )

      const shorter = await c.me.copyFileRange(fd, 3 * MIB - 100, fd, 0, 5000)
      expect(shorter).toBe(100)
      content.copy(content, 0, 3 * MIB - 100)
      await expectContent(c, fd, content)
      expect(await c.me.copyFileRange(fd, 3 * MIB, to, 0, 10), 'at the end').toBe(0)
    },
  },
  {
    name: 'copy_file_range fails as it should',
    needs: ['copyFileRange'],
    async run(c) {
      const fd = await fileWith(c, pattern(10_000))
      await refused('EINVAL', c.me.copyFileRange(fd, 0, fd, 100, 1000))
      const reader = await c.me.open(`${c.dir}/file`, O_RDONLY)
      await refused('EBADF', c.me.copyFileRange(fd, 0, reader, 5000, 10))
      const writer = await c.me.open(`${c.dir}/other`, O_CREAT | O_WRONLY)
      await refused('EBADF', c.me.copyFileRange(writer, 0, fd, 0, 10))
      const appender = await c.me.open(`${c.dir}/other`, O_WRONLY | O_APPEND)
      await refused('EBADF', c.me.copyFileRange(fd, 0, appender, 0, 10))
      await expectContent(c, fd, pattern(10_000))
    },
  },
  {
    name: 'sendfile copies too',
    async run(c) {
      await fileWith(c, pattern(300_000))
      const from = await c.me.open(`${c.dir}/file`, O_RDONLY)
      const to = await c.me.open(`${c.dir}/copy`, O_CREAT | O_WRONLY)
      for (let copied = 0; copied < 300_000; ) copied += await c.me.sendfile(to, from, 300_000 - copied)
      expect((await c.second.readFile(`${c.dir}/copy`)).equals(pattern(300_000))).toBe(true)
    },
  },
  {
    name: 'truncate fails as it should',
    async run(c) {
      const fd = await fileWith(c, pattern(100))
      await refused('EINVAL', c.me.truncate(`${c.dir}/file`, -1))
      await refused('EINVAL', c.me.ftruncate(fd, -1))
      await refused('ENOENT', c.me.truncate(`${c.dir}/missing`, 0))
      await refused('ENOTDIR', c.me.truncate(`${c.dir}/file/below`, 0))
      await refused('EISDIR', c.me.truncate(c.dir, 0))
      expect((await c.me.fstat(fd)).size).toBe(100)
    },
  },
]
