import { expect } from 'vitest'
import type { Remote } from '../../support/posix/agent.ts'
import { O_CREAT, O_EXCL, O_RDONLY, O_WRONLY } from '../../support/posix/constants.ts'
import { bytesIn, type CaseContext, type PosixCase, refused } from '../case.ts'

/** PATH_MAX and NAME_MAX of linux/limits.h; PATH_MAX counts the NUL. */
const LONGEST_PATH = 4095
const LONGEST_NAME = 255

async function listed(who: Remote, dir: string | Buffer): Promise<string[]> {
  return (await who.list(dir)).map(({ name }) => name.toString('latin1')).sort()
}

/** Each name as a file with its own content, found again by listing, by look-up and after a rename. */
async function namesWork(c: CaseContext, latin1: readonly string[]): Promise<void> {
  for (const [index, name] of latin1.entries()) await c.me.writeFile(bytesIn(c.dir, name), `content ${index}`)
  expect(await listed(c.second, c.dir)).toEqual([...latin1].sort())
  for (const [index, name] of latin1.entries()) {
    expect((await c.second.readFile(bytesIn(c.dir, name))).toString(), name).toBe(`content ${index}`)
  }
  const other = `${c.dir}/other`
  await c.me.mkdir(other)
  for (const name of latin1) await c.me.rename(bytesIn(c.dir, name), bytesIn(other, name))
  expect(await listed(c.second, other)).toEqual([...latin1].sort())
  expect(await listed(c.second, c.dir)).toEqual(['other'])
  for (const name of latin1) await c.second.unlink(bytesIn(other, name))
  expect(await listed(c.me, other)).toEqual([])
}

/** A path of exactly `length` bytes under the case's directory, its parents made. */
async function pathOfLength(c: CaseContext, length: number): Promise<string> {
  let path = c.dir
  while (length - path.length - 1 > LONGEST_NAME) {
    // The last name needs at least one byte, so no parent may leave less than two.
    const name = Math.min(LONGEST_NAME, length - path.length - 3)
    path += `/${'d'.repeat(name)}`
    await c.me.mkdir(path).catch(() => undefined)
  }
  return `${path}/${'f'.repeat(length - path.length - 1)}`
}

export const names: readonly PosixCase[] = [
  {
    name: 'every byte but "/" and NUL is a name',
    async run(c) {
      const bytes = Array.from({ length: 255 }, (_, index) => String.fromCharCode(index + 1))
      await namesWork(
        c,
        bytes.filter((byte) => byte !== '/' && byte !== '.'),
      )
    },
  },
  {
    name: 'names that are not UTF-8, or look alike, stay what they are',
    async run(c) {
      await namesWork(c, [
        '\xff\xfe',
        '\xc3', // the first half of é
        '\xa9',
        '\xc3\xa9', // é composed
        'e\xcc\x81', // é decomposed
        '\xed\xa0\x80', // a surrogate
        '\xc0\xaf', // an overlong slash
        '\xf4\x90\x80\x80', // beyond the last code point
        '\xef\xbf\xbd', // U+FFFD, what a careless decoder makes of the others
        'caf\xe9',
        'name',
        'NAME',
        'Name',
        'name ',
        ' name',
      ])
    },
  },
  {
    name: 'names that mean something elsewhere mean nothing here',
    async run(c) {
      await namesWork(c, [
        '...',
        '..a',
        '.a',
        '-rf',
        '*',
        '~',
        'a\nb',
        'a\\b',
        'a:b',
        '%2F',
        '%00',
        '$HOME',
        '#a',
        'con',
        'a?b=c&d',
        '\r',
        '\x1b[31m',
        '.fuse_hidden0000000100000001',
        '.nfs00000001',
        '.wh.name',
        '.wh..wh..opq',
        '.ferryfs',
        '.ferryfs-state',
        '.snapshot',
        '.Trash-0',
        'lost+found',
        '__proto__',
        'constructor',
        'toString',
        'undefined',
      ])
    },
  },
  {
    name: 'a name has up to 255 bytes, one more is ENAMETOOLONG in every call',
    async run(c) {
      const longest = 'n'.repeat(LONGEST_NAME)
      const tooLong = `${c.dir}/${'n'.repeat(LONGEST_NAME + 1)}`
      await namesWork(c, [longest, '\xc3\xa9'.repeat(127), '\xff'.repeat(LONGEST_NAME), 'n'.repeat(254)])
      await c.me.writeFile(`${c.dir}/${longest}`, '')
      const calls = [
        c.me.open(tooLong, O_RDONLY),
        c.me.open(tooLong, O_CREAT | O_WRONLY),
        c.me.stat(tooLong),
        c.me.mkdir(tooLong),
        c.me.symlink('x', tooLong),
        c.me.link(`${c.dir}/${longest}`, tooLong),
        c.me.rename(`${c.dir}/${longest}`, tooLong),
        c.me.rename(tooLong, `${c.dir}/x`),
        c.me.unlink(tooLong),
        c.me.rmdir(tooLong),
        c.me.mknod(tooLong, 0o100600),
        c.me.truncate(tooLong, 0),
        c.me.chmod(tooLong, 0o600),
        c.me.readlink(tooLong),
      ]
      for (const call of calls) await refused('ENAMETOOLONG', call)
      expect(await listed(c.me, c.dir)).toEqual([longest, 'other'].sort())
    },
  },
  {
    name: 'a path has up to 4,095 bytes, one more is ENAMETOOLONG',
    async run(c) {
      const path = await pathOfLength(c, LONGEST_PATH)
      expect(Buffer.byteLength(path)).toBe(LONGEST_PATH)
      await c.me.writeFile(path, 'at the end of the world')
      expect((await c.second.readFile(path)).toString()).toBe('at the end of the world')
      await c.me.chmod(path, 0o600)
      await c.me.rename(path, `${path.slice(0, -1)}g`)
      await c.me.link(`${path.slice(0, -1)}g`, path)
      expect((await c.second.stat(path)).nlink).toBe(2)
      await refused('ENAMETOOLONG', c.me.open(`${path}f`, O_CREAT | O_WRONLY))
      await refused('ENAMETOOLONG', c.me.stat(`${path}f`))
      await c.me.unlink(path)
    },
  },
  {
    name: 'a tree goes deeper than any path',
    async run(c) {
      const name = 'd'.repeat(200)
      await c.me.chdir(c.dir)
      for (let depth = 0; depth < 40; depth++) {
        await c.me.mkdir(name)
        await c.me.chdir(name)
      }
      await c.me.writeFile('file', 'deep down')
      expect((await c.me.readFile('file')).toString()).toBe('deep down')
      await c.me.rename('file', 'renamed')
      expect(await c.me.names('.')).toEqual(['renamed'])
      for (let depth = 0; depth < 40; depth++) await c.me.chdir('..')
      expect(await c.me.names('.')).toEqual([name])
    },
  },
  {
    name: 'no name, ".", ".." and a trailing slash',
    async run(c) {
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.writeFile(`${c.dir}/file`, 'x')
      await c.me.symlink('directory', `${c.dir}/link`)
      await refused('ENOENT', c.me.open('', O_RDONLY))
      await refused('EEXIST', c.me.mkdir(`${c.dir}/directory/.`))
      await refused('EINVAL', c.me.rmdir(`${c.dir}/directory/.`))
      await refused('ENOTEMPTY', c.me.rmdir(`${c.dir}/directory/..`))
      await refused('EBUSY', c.me.rename(`${c.dir}/directory/.`, `${c.dir}/x`))
      await refused('ENOTDIR', c.me.open(`${c.dir}/file/`, O_RDONLY))
      await refused('ENOTDIR', c.me.unlink(`${c.dir}/file/`))
      await refused('EISDIR', c.me.open(`${c.dir}/new/`, O_CREAT | O_WRONLY))
      await refused('ENOTDIR', c.me.rename(`${c.dir}/file`, `${c.dir}/new/`))
      await refused('ENOTDIR', c.me.rmdir(`${c.dir}/link/`))
      expect((await c.me.lstat(`${c.dir}/link/`)).ino).toBe((await c.me.stat(`${c.dir}/directory`)).ino)
      await c.me.mkdir(`${c.dir}/slashed/`)
      expect(await c.me.names(`${c.dir}/directory/../slashed/.//`)).toEqual([])
      expect(await c.me.names(c.dir)).toEqual(['directory', 'file', 'link', 'slashed'])
    },
  },
  {
    name: 'a name is what it is now: file, directory, link, nothing',
    async run(c) {
      const path = `${c.dir}/name`
      for (let round = 0; round < 20; round++) {
        await refused('ENOENT', c.second.lstat(path))
        await c.me.writeFile(path, `round ${round}`)
        expect((await c.second.readFile(path)).toString()).toBe(`round ${round}`)
        await c.me.unlink(path)
        await refused('ENOENT', c.second.open(path, O_RDONLY))
        await c.second.mkdir(path)
        await refused('EISDIR', c.me.open(path, O_WRONLY))
        await c.second.writeFile(`${path}/inside`, 'x')
        await refused('ENOTEMPTY', c.me.rmdir(path))
        await c.me.unlink(`${path}/inside`)
        await c.me.rmdir(path)
        await c.me.symlink(`target ${round}`, path)
        expect((await c.second.readlink(path)).toString()).toBe(`target ${round}`)
        await c.second.unlink(path)
      }
      expect(await c.me.names(c.dir)).toEqual([])
    },
  },
  {
    name: 'a name that was looked for in vain is found once another process has made it',
    async run(c) {
      for (let n = 0; n < 20; n++) {
        const path = `${c.dir}/${n}`
        await refused('ENOENT', c.me.stat(path))
        await c.second.writeFile(path, 'here')
        expect((await c.me.readFile(path)).toString()).toBe('here')
        await refused('EEXIST', c.me.open(path, O_CREAT | O_EXCL | O_WRONLY))
        await c.second.rename(path, `${path}.away`)
        await refused('ENOENT', c.me.stat(path))
        await c.me.close(await c.me.open(path, O_CREAT | O_EXCL | O_WRONLY))
      }
    },
  },
]
