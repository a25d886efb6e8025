import { expect } from 'vitest'
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } from '../../support/posix/constants.ts'
import { type PosixCase, pattern, refused } from '../case.ts'

export const unlinked: readonly PosixCase[] = [
  {
    name: 'an unlinked file lives on for whoever has it open',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, pattern(500_000))
      const mine = await c.me.open(path, O_RDWR)
      const others = await c.second.open(path, O_RDONLY)
      const { ino } = await c.me.fstat(mine)
      await c.me.unlink(path)
      await refused('ENOENT', c.second.stat(path))
      expect(await c.second.names(c.dir), 'nothing is left to see').toEqual([])
      expect(await c.second.fstat(others)).toMatchObject({ nlink: 0, size: 500_000, ino })
      expect((await c.second.read(others, 500_000, 0)).equals(pattern(500_000))).toBe(true)
      await c.me.write(mine, 'written after the end', 100)
      expect((await c.second.read(others, 21, 100)).toString()).toBe('written after the end')
      await c.me.ftruncate(mine, 110)
      expect((await c.second.fstat(others)).size).toBe(110)
      await c.me.write(mine, pattern(300_000, 3), 200_000)
      expect((await c.second.read(others, 300_000, 200_000)).equals(pattern(300_000, 3))).toBe(true)
      await c.me.fsync(mine)
    },
  },
  {
    name: 'its name is free: a new file under it is another file',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'old')
      const old = await c.me.open(path, O_RDWR)
      await c.second.unlink(path)
      await c.second.writeFile(path, 'new and longer')
      expect((await c.me.read(old, 100, 0)).toString()).toBe('old')
      await c.me.write(old, 'OLD', 0)
      expect((await c.second.readFile(path)).toString()).toBe('new and longer')
      expect((await c.second.stat(path)).ino).not.toBe((await c.me.fstat(old)).ino)
      await c.me.close(old)
      expect((await c.second.readFile(path)).toString()).toBe('new and longer')
    },
  },
  {
    name: 'a file that was renamed over lives on in the same way',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'old content')
      await c.me.writeFile(`${c.dir}/new`, 'new')
      const old = await c.me.open(`${c.dir}/file`, O_RDWR)
      const fresh = await c.me.open(`${c.dir}/new`, O_RDWR)
      await c.second.rename(`${c.dir}/new`, `${c.dir}/file`)
      expect((await c.me.fstat(old)).nlink).toBe(0)
      await c.me.write(old, 'OLD', 0)
      await c.me.write(fresh, 'NEW', 0)
      expect((await c.me.read(old, 100, 0)).toString()).toBe('OLD content')
      expect((await c.second.readFile(`${c.dir}/file`)).toString()).toBe('NEW')
      expect(await c.second.names(c.dir)).toEqual(['file'])
    },
  },
  {
    name: 'its mode, owner, times and attributes can still be changed and read',
    needs: ['root', 'userXattrs'],
    async run(c) {
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR, 0o644)
      await c.me.unlink(`${c.dir}/file`)
      await c.me.fchmod(fd, 0o600)
      await c.me.fchown(fd, 12, 34)
      await c.me.futimens(fd, 1n, 2n)
      await c.me.fsetxattr(fd, 'user.name', 'value')
      expect(await c.me.fstat(fd)).toMatchObject({
        mode: 0o100600,
        uid: 12,
        gid: 34,
        atimeNs: 1n,
        mtimeNs: 2n,
      })
      expect((await c.me.fgetxattr(fd, 'user.name')).toString()).toBe('value')
    },
  },
  {
    name: 'it can be opened again by way of /proc, and mapped',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, pattern(10_000))
      const fd = await c.me.open(`${c.dir}/file`, O_RDWR)
      await c.me.unlink(`${c.dir}/file`)
      const again = await c.me.open(`/proc/self/fd/${fd}`, O_RDWR)
      expect((await c.me.read(again, 10_000, 0)).equals(pattern(10_000))).toBe(true)
      const memory = await c.me.map(again, 10_000)
      await c.me.mapWrite(memory, 5000, 'mapped')
      await c.me.close(again)
      expect((await c.me.read(fd, 6, 5000)).toString()).toBe('mapped')
      await c.me.close(fd)
      expect((await c.me.mapRead(memory, 5000, 6)).toString(), 'the mapping alone holds it').toBe('mapped')
    },
  },
  {
    name: 'a second name keeps it: the count drops by one, the content stays',
    async run(c) {
      await c.me.writeFile(`${c.dir}/one`, 'content')
      await c.me.link(`${c.dir}/one`, `${c.dir}/two`)
      const fd = await c.me.open(`${c.dir}/one`, O_RDWR)
      await c.second.unlink(`${c.dir}/one`)
      await c.me.write(fd, 'CON', 0)
      await c.me.close(fd)
      expect((await c.second.readFile(`${c.dir}/two`)).toString()).toBe('CONtent')
      expect((await c.second.stat(`${c.dir}/two`)).nlink).toBe(1)
    },
  },
  {
    name: 'many unlinked files at once keep their contents apart',
    async run(c) {
      const fds: number[] = []
      for (let n = 0; n < 60; n++) {
        const fd = await c.me.open(`${c.dir}/same-name`, O_CREAT | O_RDWR)
        await c.me.write(fd, `content of ${n}`)
        await c.me.unlink(`${c.dir}/same-name`)
        fds.push(fd)
      }
      for (const [n, fd] of fds.entries()) {
        expect((await c.me.read(fd, 100, 0)).toString()).toBe(`content of ${n}`)
      }
    },
  },
  {
    name: 'unlink fails as it should',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await refused('ENOENT', c.me.unlink(`${c.dir}/missing`))
      await refused('ENOTDIR', c.me.unlink(`${c.dir}/file/below`))
      await refused('ENOENT', c.me.unlink(`${c.dir}/missing/below`))
      await c.me.unlink(`${c.dir}/file`)
      await refused('ENOENT', c.me.unlink(`${c.dir}/file`))
      await refused('ENOENT', c.me.open(`${c.dir}/file`, O_WRONLY))
    },
  },
]
