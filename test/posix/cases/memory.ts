import { expect } from 'vitest'
import { O_CREAT, O_RDONLY, O_RDWR } from '../../support/posix/constants.ts'
import { type PosixCase, pattern, refused } from '../case.ts'

const PAGE = 4096

export const memory: readonly PosixCase[] = [
  {
    name: 'shared memory of two processes is one memory',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, pattern(20 * PAGE))
      const mine = await c.me.map(await c.me.open(path, O_RDWR), 20 * PAGE)
      const theirs = await c.second.map(await c.second.open(path, O_RDWR), 20 * PAGE)
      expect((await c.second.mapRead(theirs, 0, 20 * PAGE)).equals(pattern(20 * PAGE))).toBe(true)
      for (let n = 0; n < 20; n++) {
        const [offset, text] = [n * PAGE + n, `turn ${n}`]
        const [writer, reader] = n % 2 === 0 ? [c.me, c.second] : [c.second, c.me]
        const [from, to] = n % 2 === 0 ? [mine, theirs] : [theirs, mine]
        await writer.mapWrite(from, offset, text)
        expect((await reader.mapRead(to, offset, text.length)).toString()).toBe(text)
      }
    },
  },
  {
    name: 'memory and write(2) see each other, in both directions',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, pattern(10 * PAGE))
      const fd = await c.me.open(path, O_RDWR)
      const mapped = await c.me.map(fd, 10 * PAGE)
      for (let n = 0; n < 10; n++) {
        await c.me.mapWrite(mapped, n * PAGE + 17, `memory ${n}`)
        expect((await c.second.readFile(path)).toString('latin1', n * PAGE + 17, n * PAGE + 25)).toBe(
          `memory ${n}`,
        )
        const writer = await c.second.open(path, O_RDWR)
        await c.second.write(writer, `write ${n}`, n * PAGE + 100)
        await c.second.close(writer)
        expect((await c.me.mapRead(mapped, n * PAGE + 100, 7)).toString()).toBe(`write ${n}`)
      }
      expect((await c.me.mapRead(mapped, 0, 17)).equals(pattern(17)), 'the rest is as it was').toBe(true)
    },
  },
  {
    name: 'what was written through memory is in the file after msync, fsync or closing',
    async run(c) {
      for (const [way, finish] of [
        ['msync', async (id: number) => c.me.msync(id)],
        ['fsync', async (_: number, fd: number) => c.me.fsync(fd)],
        ['unmap and close', async (id: number, fd: number) => c.me.unmap(id).then(() => c.me.close(fd))],
      ] as const) {
        const path = `${c.dir}/${way}`
        const expected = pattern(3 * PAGE + 100)
        await c.me.writeFile(path, expected)
        const fd = await c.me.open(path, O_RDWR)
        const mapped = await c.me.map(fd, 3 * PAGE + 100)
        await c.me.mapWrite(mapped, 2 * PAGE - 3, `by way of ${way}`)
        expected.write(`by way of ${way}`, 2 * PAGE - 3)
        await finish(mapped, fd)
        const reader = await c.second.open(path, O_RDONLY)
        await c.second.fsync(reader)
        await c.second.dropCache(reader)
        expect((await c.second.read(reader, 4 * PAGE, 0)).equals(expected), way).toBe(true)
      }
    },
  },
  {
    name: 'a mapping outlives its descriptor, its name and a rename',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, pattern(2 * PAGE))
      const fd = await c.me.open(`${c.dir}/file`, O_RDWR)
      const mapped = await c.me.map(fd, 2 * PAGE)
      await c.me.close(fd)
      await c.second.rename(`${c.dir}/file`, `${c.dir}/renamed`)
      await c.me.mapWrite(mapped, 10, 'after the rename')
      expect((await c.second.readFile(`${c.dir}/renamed`)).toString('latin1', 10, 26)).toBe(
        'after the rename',
      )
      await c.second.unlink(`${c.dir}/renamed`)
      await c.me.mapWrite(mapped, 5000, 'after the unlink')
      await c.me.msync(mapped)
      expect((await c.me.mapRead(mapped, 5000, 16)).toString()).toBe('after the unlink')
      expect((await c.me.mapRead(mapped, 10, 16)).toString()).toBe('after the rename')
    },
  },
  {
    name: 'private memory keeps its changes to itself',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, pattern(2 * PAGE))
      const mapped = await c.me.map(await c.me.open(path, O_RDONLY), 2 * PAGE, { private: true })
      await c.me.mapWrite(mapped, 0, 'private')
      expect((await c.me.mapRead(mapped, 0, 7)).toString()).toBe('private')
      await c.me.unmap(mapped)
      expect((await c.second.readFile(path)).equals(pattern(2 * PAGE))).toBe(true)
    },
  },
  {
    name: 'a file that grows under a mapping can be written in its new part',
    async run(c) {
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR)
      await c.me.write(fd, 'start')
      const mapped = await c.me.map(fd, 4 * PAGE)
      await c.second.truncate(`${c.dir}/file`, 4 * PAGE)
      expect((await c.me.mapRead(mapped, 0, 10)).toString()).toBe('start\0\0\0\0\0')
      await c.me.mapWrite(mapped, 3 * PAGE, 'new part')
      await c.me.msync(mapped)
      const content = await c.second.readFile(`${c.dir}/file`)
      expect(content.length).toBe(4 * PAGE)
      expect(content.toString('latin1', 3 * PAGE, 3 * PAGE + 8)).toBe('new part')
    },
  },
  {
    name: 'memory behind the end of the file is zero, and what was cut off stays away',
    async run(c) {
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR)
      await c.me.write(fd, pattern(PAGE), 0)
      const mapped = await c.me.map(fd, PAGE)
      await c.me.mapRead(mapped, 0, PAGE)
      await c.second.truncate(`${c.dir}/file`, 100)
      expect((await c.me.mapRead(mapped, 100, PAGE - 100)).equals(Buffer.alloc(PAGE - 100))).toBe(true)
      await c.me.mapWrite(mapped, 200, 'behind the end')
      await c.second.truncate(`${c.dir}/file`, PAGE)
      expect((await c.second.readFile(`${c.dir}/file`)).subarray(0, 100).equals(pattern(100))).toBe(true)
      expect((await c.second.stat(`${c.dir}/file`)).size).toBe(PAGE)
    },
  },
  {
    name: 'a descriptor that cannot write gives no writable memory',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, pattern(PAGE))
      const reader = await c.me.open(`${c.dir}/file`, O_RDONLY)
      await refused('EACCES', c.me.map(reader, PAGE))
      const mapped = await c.me.map(reader, PAGE, { readOnly: true })
      expect((await c.me.mapRead(mapped, 0, PAGE)).equals(pattern(PAGE))).toBe(true)
      await refused(
        'ENODEV',
        c.me.open(c.dir, O_RDONLY).then((fd) => c.me.map(fd, PAGE, { readOnly: true })),
      )
    },
  },
]
