import { expect } from 'vitest'
import {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  SEEK_CUR,
  SEEK_END,
  SEEK_SET,
} from '../../support/posix/constants.ts'
import { SyscallError } from '../../support/posix/libc.ts'
import { type CaseContext, type PosixCase, pattern, refused } from '../case.ts'

/** A file without a name, or the case ends: a file system may refuse O_TMPFILE, properly. */
async function nameless(c: CaseContext, flags: number): Promise<number> {
  try {
    return await c.me.open(c.dir, O_TMPFILE | flags, 0o640)
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error
    expect(error.code, 'the one refusal that programs know how to go on from').toBe('EOPNOTSUPP')
    return c.skip('O_TMPFILE is refused with EOPNOTSUPP, as it may be')
  }
}

export const opening: readonly PosixCase[] = [
  {
    name: 'O_EXCL fails on anything that is there, a dangling link too',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'kept')
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.symlink('nowhere', `${c.dir}/dangling`)
      for (const name of ['file', 'directory', 'dangling']) {
        await refused('EEXIST', c.me.open(`${c.dir}/${name}`, O_CREAT | O_EXCL | O_WRONLY | O_TRUNC))
      }
      expect((await c.me.readFile(`${c.dir}/file`)).toString()).toBe('kept')
      await refused('ENOENT', c.me.stat(`${c.dir}/nowhere`))
      const fd = await c.me.open(`${c.dir}/new`, O_CREAT | O_EXCL | O_RDWR, 0o600)
      await c.me.write(fd, 'mine')
      expect((await c.second.readFile(`${c.dir}/new`)).toString()).toBe('mine')
    },
  },
  {
    name: 'of many processes that create with O_EXCL exactly one succeeds',
    async run(c) {
      const paths = Array.from({ length: 200 }, (_, n) => `${c.dir}/${n}`)
      const won = await Promise.all(c.workers.map((worker) => worker.createExclusively(paths)))
      expect(won.flat().sort((a, b) => a - b)).toEqual(paths.map((_, n) => n))
    },
  },
  {
    name: 'O_CREAT opens what is there, and creates through a dangling link',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'kept', 0o640)
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR, 0o777)
      expect((await c.me.read(fd, 100)).toString()).toBe('kept')
      expect((await c.me.fstat(fd)).mode).toBe(0o100640)
      await c.me.symlink('made', `${c.dir}/link`)
      await c.me.writeFile(`${c.dir}/link`, 'through the link')
      expect((await c.second.readFile(`${c.dir}/made`)).toString()).toBe('through the link')
      await refused('ENOENT', c.me.open(`${c.dir}/missing/file`, O_CREAT | O_WRONLY))
      await refused('ENOTDIR', c.me.open(`${c.dir}/file/file`, O_CREAT | O_WRONLY))
      await refused('EISDIR', c.me.open(c.dir, O_CREAT | O_WRONLY))
    },
  },
  {
    name: 'O_TRUNC empties the file for everybody who has it open',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, pattern(300_000))
      const reader = await c.second.open(`${c.dir}/file`, O_RDONLY)
      expect((await c.second.read(reader, 10, 0)).length).toBe(10)
      const writer = await c.me.open(`${c.dir}/file`, O_WRONLY | O_TRUNC)
      expect((await c.second.fstat(reader)).size).toBe(0)
      expect((await c.second.read(reader, 10, 0)).length).toBe(0)
      await c.me.write(writer, 'new')
      expect((await c.second.read(reader, 10, 0)).toString()).toBe('new')
    },
  },
  {
    name: 'a write is seen by every other descriptor at once, of this process or another',
    async run(c) {
      const path = `${c.dir}/file`
      const writer = await c.me.open(path, O_CREAT | O_RDWR)
      const mine = await c.me.open(path, O_RDONLY)
      const others = await c.second.open(path, O_RDONLY)
      for (let n = 0; n < 50; n++) {
        const text = `version ${n} `.repeat(1 + n * 30)
        await c.me.write(writer, text, n * 100)
        expect((await c.me.read(mine, text.length, n * 100)).toString()).toBe(text)
        expect((await c.second.read(others, text.length, n * 100)).toString()).toBe(text)
        expect((await c.second.stat(path)).size).toBe((await c.me.fstat(writer)).size)
      }
    },
  },
  {
    name: 'O_APPEND writes at the end, wherever it has moved',
    async run(c) {
      const path = `${c.dir}/log`
      const fd = await c.me.open(path, O_CREAT | O_RDWR | O_APPEND)
      await c.me.write(fd, 'one ')
      await c.me.lseek(fd, 0, SEEK_SET)
      await c.me.write(fd, 'two ')
      await c.second.writeFile(path, 'three ', 0, O_WRONLY | O_APPEND)
      await c.me.write(fd, 'four')
      expect((await c.second.readFile(path)).toString()).toBe('one two three four')
      await c.second.truncate(path, 4)
      await c.me.write(fd, 'again')
      expect((await c.me.read(fd, 100, 0)).toString()).toBe('one again')
    },
  },
  {
    name: 'lines appended by several processes are all there, each whole',
    async run(c) {
      const path = `${c.dir}/log`
      const count = 150
      await Promise.all(c.workers.map((worker, index) => worker.appendLines(path, `worker${index}`, count)))
      const lines = (await c.me.readFile(path)).toString().split('\n')
      expect(lines.pop(), 'the last line is ended').toBe('')
      const expected = c.workers.flatMap((_, index) =>
        Array.from(
          { length: count },
          (__, n) => `worker${index} ${n} ${`worker${index}`.repeat((n * 37) % 300)}`,
        ),
      )
      expect(lines.length).toBe(expected.length)
      expect(new Set(lines)).toEqual(new Set(expected))
    },
  },
  {
    name: 'O_NOFOLLOW and O_DIRECTORY refuse what they should',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.symlink('file', `${c.dir}/link`)
      await c.me.symlink('directory', `${c.dir}/to-directory`)
      await refused('ELOOP', c.me.open(`${c.dir}/link`, O_RDONLY | O_NOFOLLOW))
      await refused('ENOTDIR', c.me.open(`${c.dir}/file`, O_RDONLY | O_DIRECTORY))
      await refused('ENOTDIR', c.me.open(`${c.dir}/link`, O_RDONLY | O_DIRECTORY))
      await c.me.open(`${c.dir}/to-directory`, O_RDONLY | O_DIRECTORY)
      await refused(
        ['ELOOP', 'ENOTDIR'],
        c.me.open(`${c.dir}/to-directory`, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
      )
      await c.me.open(`${c.dir}/file`, O_RDONLY | O_NOFOLLOW)
    },
  },
  {
    name: 'a descriptor does what it was opened for, O_PATH hardly anything',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'content')
      const reader = await c.me.open(`${c.dir}/file`, O_RDONLY)
      await refused('EBADF', c.me.write(reader, 'x'))
      await refused('EINVAL', c.me.ftruncate(reader, 0))
      const writer = await c.me.open(`${c.dir}/file`, O_WRONLY)
      await refused('EBADF', c.me.read(writer, 1))
      const handle = await c.me.open(`${c.dir}/file`, O_PATH)
      await refused('EBADF', c.me.read(handle, 1))
      expect((await c.me.fstat(handle)).size).toBe(7)
      await c.me.rename(`${c.dir}/file`, `${c.dir}/renamed`)
      expect((await c.me.readFile(`/proc/self/fd/${handle}`)).toString()).toBe('content')
    },
  },
  {
    name: 'the position: reads and writes move it, lseek sets it, pread and pwrite leave it',
    async run(c) {
      const fd = await c.me.open(`${c.dir}/file`, O_CREAT | O_RDWR)
      await c.me.write(fd, '0123456789')
      expect(await c.me.lseek(fd, 0, SEEK_CUR)).toBe(10)
      expect(await c.me.lseek(fd, -4, SEEK_END)).toBe(6)
      expect((await c.me.read(fd, 2)).toString()).toBe('67')
      await c.me.write(fd, 'X', 0)
      expect((await c.me.read(fd, 3, 0)).toString()).toBe('X12')
      expect((await c.me.read(fd, 100)).toString()).toBe('89')
      expect((await c.me.read(fd, 100)).length, 'at the end').toBe(0)
      expect((await c.me.read(fd, 100, 1_000_000)).length, 'far behind it').toBe(0)
      await refused('EINVAL', c.me.lseek(fd, -1, SEEK_SET))
      await refused('EINVAL', c.me.lseek(fd, 0, 99))
      expect(await c.me.lseek(fd, 20, SEEK_SET)).toBe(20)
      expect((await c.me.fstat(fd)).size, 'seeking alone writes nothing').toBe(10)
      await c.me.write(fd, '')
      expect((await c.me.fstat(fd)).size).toBe(10)
      await c.me.write(fd, 'end')
      expect((await c.second.readFile(`${c.dir}/file`)).toString()).toBe(`X123456789${'\0'.repeat(10)}end`)
    },
  },
  {
    name: 'openat and its like work below a directory that has been renamed',
    async run(c) {
      await c.me.mkdir(`${c.dir}/a`)
      const directory = await c.me.open(`${c.dir}/a`, O_RDONLY | O_DIRECTORY)
      await c.second.rename(`${c.dir}/a`, `${c.dir}/b`)
      const fd = await c.me.openat(directory, 'file', O_CREAT | O_WRONLY)
      await c.me.write(fd, 'still found')
      expect((await c.second.readFile(`${c.dir}/b/file`)).toString()).toBe('still found')
      await refused('ENOENT', c.me.open(`${c.dir}/a/file`, O_RDONLY))
    },
  },
  {
    name: 'O_TMPFILE makes a file without a name that can be given one',
    async run(c) {
      const fd = await nameless(c, O_RDWR)
      expect((await c.me.fstat(fd)).nlink).toBe(0)
      await c.me.write(fd, 'nameless')
      expect(await c.me.names(c.dir)).toEqual([])
      await c.me.linkFd(fd, `${c.dir}/named`)
      expect((await c.second.readFile(`${c.dir}/named`)).toString()).toBe('nameless')
      expect(await c.second.stat(`${c.dir}/named`)).toMatchObject({ nlink: 1, mode: 0o100640 })
    },
  },
  {
    name: 'O_TMPFILE with O_EXCL stays without a name',
    async run(c) {
      const fd = await nameless(c, O_RDWR | O_EXCL)
      await c.me.write(fd, 'never named')
      await refused('ENOENT', c.me.linkFd(fd, `${c.dir}/named`))
      expect(await c.me.names(c.dir)).toEqual([])
    },
  },
  {
    name: 'O_DIRECT reads and writes the same bytes as everybody else',
    needs: ['directIo'],
    async run(c) {
      const path = `${c.dir}/file`
      const content = pattern(64 * 1024)
      await c.me.writeFile(path, '')
      await c.me.directWrite(path, content, 0)
      expect((await c.second.readFile(path)).equals(content)).toBe(true)
      await c.second.writeFile(path, pattern(8192, 7), 0, O_WRONLY)
      expect((await c.me.directRead(path, 8192, 0)).equals(pattern(8192, 7))).toBe(true)
      expect((await c.me.directRead(path, 8192, 56 * 1024)).equals(content.subarray(56 * 1024))).toBe(true)
      await c.me.directWrite(path, pattern(4096, 9), 4096)
      expect((await c.second.readFile(path)).subarray(4096, 8192).equals(pattern(4096, 9))).toBe(true)
    },
  },
]
