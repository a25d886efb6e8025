import { expect } from 'vitest'
import {
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  S_IFSOCK,
  SEEK_SET,
} from '../../support/posix/constants.ts'
import { type PosixCase, refused } from '../case.ts'

/** makedev(3): the number that mknod(2) takes for a major and a minor number. */
function device(major: number, minor: number): bigint {
  const [ma, mi] = [BigInt(major), BigInt(minor)]
  return ((ma & 0xfffff000n) << 32n) | ((ma & 0xfffn) << 8n) | ((mi & 0xffffff00n) << 12n) | (mi & 0xffn)
}

export const specialFiles: readonly PosixCase[] = [
  {
    name: 'a fifo carries bytes from one process to another',
    async run(c) {
      const path = `${c.dir}/fifo`
      await c.me.mknod(path, S_IFIFO | 0o600)
      await refused('ENXIO', c.me.open(path, O_WRONLY | O_NONBLOCK))
      const reader = await c.second.open(path, O_RDONLY | O_NONBLOCK)
      const writer = await c.me.open(path, O_WRONLY)
      await c.me.write(writer, 'through the pipe')
      expect((await c.second.read(reader, 100)).toString()).toBe('through the pipe')
      await refused('ESPIPE', c.me.lseek(writer, 0, SEEK_SET))
      await c.me.close(writer)
      expect((await c.second.read(reader, 100)).length, 'the end').toBe(0)
      expect((await c.me.stat(path)).size).toBe(0)
      expect((await c.me.stat(path)).mode).toBe(S_IFIFO | 0o600)
    },
  },
  {
    name: 'a fifo works under its new name and its second one',
    async run(c) {
      await c.me.mknod(`${c.dir}/fifo`, S_IFIFO | 0o600)
      const reader = await c.second.open(`${c.dir}/fifo`, O_RDONLY | O_NONBLOCK)
      await c.me.link(`${c.dir}/fifo`, `${c.dir}/link`)
      await c.me.rename(`${c.dir}/fifo`, `${c.dir}/renamed`)
      for (const name of ['link', 'renamed']) {
        const writer = await c.me.open(`${c.dir}/${name}`, O_WRONLY | O_NONBLOCK)
        await c.me.write(writer, name)
        expect((await c.second.read(reader, 100)).toString()).toBe(name)
        await c.me.close(writer)
      }
    },
  },
  {
    name: 'a socket is bound, connected to, and no file to open',
    async run(c) {
      await c.me.listenOnSocket(c.dir, 'socket')
      try {
        expect((await c.second.lstat(`${c.dir}/socket`)).mode & S_IFMT).toBe(S_IFSOCK)
        expect(await c.second.askSocket(c.dir, 'socket', 'anybody there?')).toBe('anybody there?')
        await refused('ENXIO', c.me.open(`${c.dir}/socket`, O_RDWR))
        await c.me.rename(`${c.dir}/socket`, `${c.dir}/renamed`)
        expect(await c.second.askSocket(c.dir, 'renamed', 'and now?')).toBe('and now?')
      } finally {
        await c.me.closeSockets()
      }
    },
  },
  {
    name: 'device nodes keep their type and number',
    needs: ['devices'],
    async run(c) {
      for (const [type, major, minor] of [
        [S_IFCHR, 1, 3],
        [S_IFBLK, 7, 0],
        [S_IFCHR, 259, 300_000],
        [S_IFCHR, 4095, 1_048_575],
      ] as const) {
        const path = `${c.dir}/${type}-${major}-${minor}`
        await c.me.mknod(path, type | 0o640, device(major, minor))
        const stat = await c.second.lstat(path)
        expect([stat.mode, BigInt(stat.rdev), stat.size]).toEqual([type | 0o640, device(major, minor), 0])
        await c.me.rename(path, `${path}.renamed`)
        expect(BigInt((await c.second.lstat(`${path}.renamed`)).rdev)).toBe(device(major, minor))
      }
    },
  },
  {
    name: 'mknod makes regular files too, and nothing over what is there',
    async run(c) {
      await c.me.mknod(`${c.dir}/file`, 0o100640)
      expect(await c.me.stat(`${c.dir}/file`)).toMatchObject({ mode: 0o100640, size: 0, nlink: 1 })
      await refused('EEXIST', c.me.mknod(`${c.dir}/file`, S_IFIFO | 0o600))
      await refused('ENOENT', c.me.mknod(`${c.dir}/missing/fifo`, S_IFIFO | 0o600))
      await refused('ENOTDIR', c.me.mknod(`${c.dir}/file/fifo`, S_IFIFO | 0o600))
    },
  },
]
