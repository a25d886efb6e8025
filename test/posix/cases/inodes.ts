import { expect } from 'vitest'
import {
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  RENAME_EXCHANGE,
  S_IFCHR,
  S_IFIFO,
  S_IFSOCK,
} from '../../support/posix/constants.ts'
import { type CaseContext, type PosixCase, pattern } from '../case.ts'

async function inodeOf(c: CaseContext, path: string): Promise<bigint> {
  return (await c.second.lstat(path)).ino
}

export const inodes: readonly PosixCase[] = [
  {
    name: 'a listing and stat agree on inode number and type, for every type',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'x')
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.symlink('nowhere', `${c.dir}/link`)
      await c.me.mknod(`${c.dir}/fifo`, S_IFIFO | 0o600)
      await c.me.mknod(`${c.dir}/socket`, S_IFSOCK | 0o600)
      const types: Record<string, number> = {
        file: DT_REG,
        directory: DT_DIR,
        link: DT_LNK,
        fifo: DT_FIFO,
        socket: DT_SOCK,
      }
      const entries = await c.second.list(c.dir)
      expect(entries).toHaveLength(5)
      for (const { name, ino, type } of entries) {
        const stat = await c.me.lstat(`${c.dir}/${name}`)
        expect([ino, type], name.toString()).toEqual([stat.ino, types[name.toString()]])
        expect(stat.mode >> 12, 'and so does the mode').toBe(type)
      }
    },
  },
  {
    name: 'a device node is listed as one',
    needs: ['devices'],
    async run(c) {
      await c.me.mknod(`${c.dir}/device`, S_IFCHR | 0o600, 0x103n)
      expect((await c.second.list(c.dir)).map(({ type }) => type)).toEqual([DT_CHR])
    },
  },
  {
    name: '"." and ".." are listed with the inode numbers of the directory and its parent',
    async run(c) {
      await c.me.mkdir(`${c.dir}/a`)
      await c.me.mkdir(`${c.dir}/a/b`)
      const fd = await c.me.open(`${c.dir}/a/b`, O_RDONLY)
      const dots = new Map((await c.me.readEntries(fd)).map(({ name, ino }) => [name.toString(), ino]))
      expect(dots).toEqual(
        new Map([
          ['.', await inodeOf(c, `${c.dir}/a/b`)],
          ['..', await inodeOf(c, `${c.dir}/a`)],
        ]),
      )
      await c.me.mkdir(`${c.dir}/c`)
      await c.me.rename(`${c.dir}/a/b`, `${c.dir}/c/b`)
      expect(await inodeOf(c, `${c.dir}/c/b/..`), '".." follows a rename').toBe(
        await inodeOf(c, `${c.dir}/c`),
      )
    },
  },
  {
    name: 'an inode number stays through writing, truncating, chmod, rename, new links and closing',
    async run(c) {
      await c.me.mkdir(`${c.dir}/sub`)
      await c.me.writeFile(`${c.dir}/file`, 'x')
      const ino = await inodeOf(c, `${c.dir}/file`)
      await c.me.writeFile(`${c.dir}/file`, pattern(300_000))
      expect(await inodeOf(c, `${c.dir}/file`)).toBe(ino)
      await c.me.truncate(`${c.dir}/file`, 10)
      await c.me.chmod(`${c.dir}/file`, 0o600)
      await c.me.utimens(`${c.dir}/file`, 0n, 0n)
      await c.me.rename(`${c.dir}/file`, `${c.dir}/sub/renamed`)
      expect(await inodeOf(c, `${c.dir}/sub/renamed`)).toBe(ino)
      await c.me.link(`${c.dir}/sub/renamed`, `${c.dir}/link`)
      await c.me.unlink(`${c.dir}/sub/renamed`)
      expect(await inodeOf(c, `${c.dir}/link`)).toBe(ino)
      const fd = await c.me.open(`${c.dir}/link`, O_RDWR)
      expect((await c.me.fstat(fd)).ino).toBe(ino)
      expect((await c.me.list(c.dir)).find(({ name }) => name.toString() === 'link')?.ino).toBe(ino)
    },
  },
  {
    name: 'a renamed directory keeps its inode number and those of everything in it',
    async run(c) {
      await c.me.mkdir(`${c.dir}/a`)
      await c.me.mkdir(`${c.dir}/a/sub`)
      await c.me.writeFile(`${c.dir}/a/sub/file`, 'x')
      const before = await Promise.all(
        ['a', 'a/sub', 'a/sub/file'].map((path) => inodeOf(c, `${c.dir}/${path}`)),
      )
      await c.me.rename(`${c.dir}/a`, `${c.dir}/b`)
      const after = await Promise.all(
        ['b', 'b/sub', 'b/sub/file'].map((path) => inodeOf(c, `${c.dir}/${path}`)),
      )
      expect(after).toEqual(before)
    },
  },
  {
    name: 'a rename over a file brings the inode number of the source, an exchange swaps them',
    needs: ['renameFlags'],
    async run(c) {
      for (const name of ['a', 'b', 'c']) await c.me.writeFile(`${c.dir}/${name}`, name)
      const [a, b, third] = [
        await inodeOf(c, `${c.dir}/a`),
        await inodeOf(c, `${c.dir}/b`),
        await inodeOf(c, `${c.dir}/c`),
      ]
      expect(new Set([a, b, third]).size).toBe(3)
      await c.me.renameat2(`${c.dir}/a`, `${c.dir}/b`, RENAME_EXCHANGE)
      expect([await inodeOf(c, `${c.dir}/a`), await inodeOf(c, `${c.dir}/b`)]).toEqual([b, a])
      await c.me.rename(`${c.dir}/c`, `${c.dir}/a`)
      expect(await inodeOf(c, `${c.dir}/a`)).toBe(third)
    },
  },
  {
    name: 'files that exist at once have numbers of their own on one device',
    async run(c) {
      await c.me.createFiles(c.dir, 'f', 0, 200)
      await c.me.mkdir(`${c.dir}/sub`)
      await c.me.createFiles(`${c.dir}/sub`, 'f', 0, 200)
      const all = [...(await c.me.snapshot(c.dir, { content: false, xattrs: false }))]
      expect(new Set(all.map(({ ino }) => ino)).size).toBe(402)
      const devices = await Promise.all([c.dir, `${c.dir}/sub`, `${c.dir}/f0`].map((path) => c.me.stat(path)))
      expect(new Set(devices.map(({ dev }) => dev)).size).toBe(1)
    },
  },
  {
    name: 'hard links are one file: number, content, mode, times, count',
    async run(c) {
      await c.me.mkdir(`${c.dir}/sub`)
      await c.me.writeFile(`${c.dir}/one`, 'before')
      await c.me.link(`${c.dir}/one`, `${c.dir}/sub/two`)
      await c.me.link(`${c.dir}/sub/two`, `${c.dir}/three`)
      const paths = ['one', 'sub/two', 'three'].map((name) => `${c.dir}/${name}`)
      await c.me.writeFile(`${c.dir}/sub/two`, 'after')
      await c.me.chmod(`${c.dir}/three`, 0o640)
      await c.me.utimens(`${c.dir}/one`, 1n, 2n)
      const stats = await Promise.all(paths.map((path) => c.second.lstat(path)))
      expect(new Set(stats.map(({ ino }) => ino)).size).toBe(1)
      for (const stat of stats) expect(stat).toMatchObject({ nlink: 3, mode: 0o100640, mtimeNs: 2n, size: 5 })
      for (const path of paths) expect((await c.second.readFile(path)).toString()).toBe('after')
      const listed = [...(await c.me.list(c.dir)), ...(await c.me.list(`${c.dir}/sub`))]
      expect(listed.filter(({ ino }) => ino === stats[0]?.ino)).toHaveLength(3)

      await c.me.unlink(`${c.dir}/one`)
      expect((await c.second.lstat(`${c.dir}/three`)).nlink).toBe(2)
      await c.me.rename(`${c.dir}/three`, `${c.dir}/sub/three`)
      await c.me.unlink(`${c.dir}/sub/two`)
      expect(await c.second.lstat(`${c.dir}/sub/three`)).toMatchObject({ nlink: 1, ino: stats[0]?.ino })
      expect((await c.second.readFile(`${c.dir}/sub/three`)).toString()).toBe('after')
    },
  },
  {
    name: 'an open descriptor sees its link count change',
    async run(c) {
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR)
      const counts = [(await c.me.fstat(fd)).nlink]
      await c.second.link(`${c.dir}/file`, `${c.dir}/link`)
      counts.push((await c.me.fstat(fd)).nlink)
      await c.second.unlink(`${c.dir}/file`)
      counts.push((await c.me.fstat(fd)).nlink)
      await c.second.unlink(`${c.dir}/link`)
      counts.push((await c.me.fstat(fd)).nlink)
      expect(counts).toEqual([1, 2, 1, 0])
    },
  },
  {
    name: 'a directory counts its subdirectories',
    needs: ['directoryLinkCounts'],
    async run(c) {
      const [a, b] = [`${c.dir}/a`, `${c.dir}/b`]
      await c.me.mkdir(a)
      await c.me.mkdir(b)
      const count = async (path: string) => (await c.second.stat(path)).nlink
      expect([await count(a), await count(b), await count(c.dir)]).toEqual([2, 2, 4])
      await c.me.mkdir(`${a}/x`)
      await c.me.mkdir(`${a}/y`)
      await c.me.writeFile(`${a}/file`, '')
      expect(await count(a)).toBe(4)
      await c.me.rename(`${a}/x`, `${b}/x`)
      expect([await count(a), await count(b)]).toEqual([3, 3])
      await c.me.mkdir(`${b}/empty`)
      await c.me.rename(`${a}/y`, `${b}/empty`)
      expect([await count(a), await count(b)], 'over an empty one').toEqual([2, 4])
      await c.me.rmdir(`${b}/empty`)
      await c.me.rmdir(`${b}/x`)
      expect(await count(b)).toBe(2)
    },
  },
  {
    name: 'sizes and blocks: full files have theirs, a link the length of its target',
    async run(c) {
      await c.me.writeFile(`${c.dir}/empty`, '')
      expect(await c.me.stat(`${c.dir}/empty`)).toMatchObject({ size: 0, blocks: 0 })
      await c.me.writeFile(`${c.dir}/full`, pattern(1_000_000))
      const fd = await c.me.open(`${c.dir}/full`, O_RDONLY)
      await c.me.fsync(fd)
      const { size, blocks, blksize } = await c.second.stat(`${c.dir}/full`)
      expect(size).toBe(1_000_000)
      expect(blocks * 512).toBeGreaterThanOrEqual(1_000_000)
      expect(blocks * 512).toBeLessThan(2_000_000)
      expect(blksize).toBeGreaterThanOrEqual(512)
      expect(Math.log2(blksize) % 1, 'a power of two').toBe(0)
      await c.me.symlink('x'.repeat(1000), `${c.dir}/link`)
      expect((await c.me.lstat(`${c.dir}/link`)).size).toBe(1000)
    },
  },
]
