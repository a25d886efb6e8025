import { expect } from 'vitest'
import {
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFCHR,
} from '../../support/posix/constants.ts'
import { type PosixCase, pattern, refused } from '../case.ts'

export const renaming: readonly PosixCase[] = [
  {
    name: 'a file, a directory and a link go to a new name, within and across directories',
    async run(c) {
      await c.me.mkdir(`${c.dir}/to`)
      await c.me.writeFile(`${c.dir}/file`, 'content')
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.writeFile(`${c.dir}/directory/inside`, 'inside')
      await c.me.symlink('file', `${c.dir}/link`)
      for (const name of ['file', 'directory', 'link']) {
        await c.me.rename(`${c.dir}/${name}`, `${c.dir}/${name}.2`)
        await c.me.rename(`${c.dir}/${name}.2`, `${c.dir}/to/${name}`)
      }
      expect(await c.second.names(c.dir)).toEqual(['to'])
      expect(await c.second.names(`${c.dir}/to`)).toEqual(['directory', 'file', 'link'])
      expect((await c.second.readFile(`${c.dir}/to/link`)).toString()).toBe('content')
      expect((await c.second.readFile(`${c.dir}/to/directory/inside`)).toString()).toBe('inside')
    },
  },
  {
    name: 'over a file it replaces it; types must match; a directory must be empty',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'file')
      await c.me.writeFile(`${c.dir}/other`, 'other')
      await c.me.mkdir(`${c.dir}/empty`)
      await c.me.mkdir(`${c.dir}/full`)
      await c.me.writeFile(`${c.dir}/full/inside`, 'x')
      await refused('EISDIR', c.me.rename(`${c.dir}/file`, `${c.dir}/empty`))
      await refused('ENOTDIR', c.me.rename(`${c.dir}/empty`, `${c.dir}/file`))
      await refused(['ENOTEMPTY', 'EEXIST'], c.me.rename(`${c.dir}/empty`, `${c.dir}/full`))
      await refused('ENOENT', c.me.rename(`${c.dir}/missing`, `${c.dir}/file`))
      await refused('ENOENT', c.me.rename(`${c.dir}/file`, `${c.dir}/missing/file`))
      await refused('ENOTDIR', c.me.rename(`${c.dir}/file`, `${c.dir}/other/file`))
      await c.me.rename(`${c.dir}/file`, `${c.dir}/other`)
      expect((await c.second.readFile(`${c.dir}/other`)).toString()).toBe('file')
      await c.me.rename(`${c.dir}/full`, `${c.dir}/empty`)
      expect(await c.second.names(c.dir)).toEqual(['empty', 'other'])
      expect(await c.second.names(`${c.dir}/empty`)).toEqual(['inside'])
    },
  },
  {
    name: 'a directory goes neither into itself nor over its parent',
    async run(c) {
      await c.me.mkdir(`${c.dir}/a`)
      await c.me.mkdir(`${c.dir}/a/b`)
      await c.me.mkdir(`${c.dir}/a/b/c`)
      await refused('EINVAL', c.me.rename(`${c.dir}/a`, `${c.dir}/a/b/d`))
      await refused('EINVAL', c.me.rename(`${c.dir}/a`, `${c.dir}/a/x`))
      await refused(['ENOTEMPTY', 'EEXIST'], c.me.rename(`${c.dir}/a/b/c`, `${c.dir}/a`))
      await refused('EINVAL', c.me.renameat2(`${c.dir}/a`, `${c.dir}/a/b/c`, RENAME_EXCHANGE))
      await c.me.rename(`${c.dir}/a`, `${c.dir}/a`)
      expect(await c.second.names(`${c.dir}/a/b`)).toEqual(['c'])
    },
  },
  {
    name: 'two names of one file: nothing happens',
    async run(c) {
      await c.me.writeFile(`${c.dir}/one`, 'content')
      await c.me.link(`${c.dir}/one`, `${c.dir}/two`)
      await c.me.rename(`${c.dir}/one`, `${c.dir}/two`)
      expect(await c.second.names(c.dir)).toEqual(['one', 'two'])
      expect((await c.second.stat(`${c.dir}/one`)).nlink).toBe(2)
    },
  },
  {
    name: 'RENAME_NOREPLACE moves to a free name and fails on one that is taken',
    needs: ['renameFlags'],
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'file')
      await c.me.writeFile(`${c.dir}/taken`, 'taken')
      await c.me.symlink('nowhere', `${c.dir}/dangling`)
      await c.me.mkdir(`${c.dir}/empty`)
      for (const name of ['taken', 'dangling', 'empty', 'file']) {
        await refused('EEXIST', c.me.renameat2(`${c.dir}/file`, `${c.dir}/${name}`, RENAME_NOREPLACE))
      }
      await c.me.renameat2(`${c.dir}/file`, `${c.dir}/free`, RENAME_NOREPLACE)
      expect(await c.second.names(c.dir)).toEqual(['dangling', 'empty', 'free', 'taken'])
      expect((await c.second.readFile(`${c.dir}/taken`)).toString()).toBe('taken')
    },
  },
  {
    name: 'RENAME_EXCHANGE swaps any two, of different types and directories too',
    needs: ['renameFlags'],
    async run(c) {
      await c.me.mkdir(`${c.dir}/d`)
      await c.me.mkdir(`${c.dir}/d/full`)
      await c.me.writeFile(`${c.dir}/d/full/inside`, 'inside')
      await c.me.writeFile(`${c.dir}/one`, 'one')
      await c.me.writeFile(`${c.dir}/two`, 'two')
      const fd = await c.me.open(`${c.dir}/one`, O_RDONLY)
      await c.me.renameat2(`${c.dir}/one`, `${c.dir}/two`, RENAME_EXCHANGE)
      expect((await c.second.readFile(`${c.dir}/one`)).toString()).toBe('two')
      expect((await c.second.readFile(`${c.dir}/two`)).toString()).toBe('one')
      expect((await c.me.read(fd, 10, 0)).toString(), 'a descriptor stays with its file').toBe('one')
      await c.me.renameat2(`${c.dir}/one`, `${c.dir}/d/full`, RENAME_EXCHANGE)
      expect(await c.second.names(`${c.dir}/one`)).toEqual(['inside'])
      expect((await c.second.readFile(`${c.dir}/d/full`)).toString()).toBe('two')
      expect((await c.second.stat(`${c.dir}/one/..`)).ino).toBe((await c.me.stat(c.dir)).ino)
      await refused('ENOENT', c.me.renameat2(`${c.dir}/one`, `${c.dir}/missing`, RENAME_EXCHANGE))
      await refused(
        'EINVAL',
        c.me.renameat2(`${c.dir}/one`, `${c.dir}/two`, RENAME_EXCHANGE | RENAME_NOREPLACE),
      )
    },
  },
  {
    name: 'RENAME_WHITEOUT leaves a device 0:0 under the old name, as overlayfs wants it',
    needs: ['renameFlags', 'whiteouts', 'root'],
    async run(c) {
      await c.me.mkdir(`${c.dir}/to`)
      for (const name of ['file', 'taken', 'to/other']) await c.me.writeFile(`${c.dir}/${name}`, name)
      await c.me.renameat2(`${c.dir}/file`, `${c.dir}/taken`, RENAME_WHITEOUT)
      await c.me.renameat2(`${c.dir}/taken`, `${c.dir}/to/new`, RENAME_WHITEOUT)
      for (const name of ['file', 'taken']) {
        const { mode, nlink, rdev, size } = await c.second.lstat(`${c.dir}/${name}`)
        expect({ mode, nlink, rdev, size }, name).toEqual({ mode: S_IFCHR, nlink: 1, rdev: 0, size: 0 })
      }
      expect((await c.second.readFile(`${c.dir}/to/new`)).toString()).toBe('file')
      expect(await c.second.names(c.dir)).toEqual(['file', 'taken', 'to'])
      await refused(
        'EINVAL',
        c.me.renameat2(`${c.dir}/to/new`, `${c.dir}/to/other`, RENAME_WHITEOUT | RENAME_EXCHANGE),
      )
      await refused(
        'EEXIST',
        c.me.renameat2(`${c.dir}/to/new`, `${c.dir}/to/other`, RENAME_WHITEOUT | RENAME_NOREPLACE),
      )
      for (const name of ['file', 'taken']) await c.me.unlink(`${c.dir}/${name}`)
    },
  },
  {
    name: 'a replaced name is never absent and never half: readers see the old or the new',
    async run(c) {
      const size = 20_000
      await c.me.writeFile(`${c.dir}/file`, Buffer.alloc(size, 97))
      const [, ...wrong] = await Promise.all([
        c.second.replaceRepeatedly(c.dir, 'file', 250, size),
        ...c.workers.slice(0, 2).map((worker) => worker.readVersions(`${c.dir}/file`, 250, size)),
      ])
      expect(wrong.flat()).toEqual([])
      expect(await c.me.names(c.dir)).toEqual(['file'])
    },
  },
  {
    name: 'a full directory moves under the hands of those who work in it',
    async run(c) {
      await c.me.mkdir(`${c.dir}/a`)
      await c.me.mkdir(`${c.dir}/a/sub`)
      await c.me.mkdir(`${c.dir}/elsewhere`)
      await c.me.writeFile(`${c.dir}/a/sub/file`, pattern(200_000))
      const fd = await c.me.open(`${c.dir}/a/sub/file`, O_RDWR)
      const created = await c.me.open(`${c.dir}/a/sub/created`, O_CREAT | O_WRONLY)
      const listing = await c.me.open(`${c.dir}/a/sub`, O_RDONLY)
      await c.me.chdir(`${c.dir}/a/sub`)
      await c.second.rename(`${c.dir}/a`, `${c.dir}/elsewhere/b`)
      await refused('ENOENT', c.me.stat(`${c.dir}/a/sub/file`))

      expect((await c.me.read(fd, 200_000, 0)).equals(pattern(200_000))).toBe(true)
      await c.me.write(fd, 'changed', 0)
      await c.me.write(created, 'written after the move')
      await c.me.writeFile('relative', 'by a relative path')
      expect((await c.me.readEntries(listing)).map(({ name }) => name.toString())).toContain('relative')
      await c.me.close(fd)
      await c.me.close(created)
      const there = `${c.dir}/elsewhere/b/sub`
      expect((await c.second.readFile(`${there}/file`)).subarray(0, 7).toString()).toBe('changed')
      expect((await c.second.readFile(`${there}/created`)).toString()).toBe('written after the move')
      expect((await c.second.readFile(`${there}/relative`)).toString()).toBe('by a relative path')
      await c.second.rename(`${c.dir}/elsewhere/b`, `${c.dir}/a`)
      expect((await c.second.readFile(`${c.dir}/a/sub/relative`)).toString()).toBe('by a relative path')
    },
  },
  {
    name: 'a file written and renamed at once, as editors save, has the new content under the old name',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'version 0')
      for (let n = 1; n <= 30; n++) {
        const fd = await c.me.open(`${c.dir}/file.tmp`, O_CREAT | O_WRONLY)
        await c.me.write(fd, `version ${n}`)
        await c.me.fsync(fd)
        await c.me.rename(`${c.dir}/file.tmp`, `${c.dir}/file`)
        await c.me.close(fd)
        expect((await c.second.readFile(`${c.dir}/file`)).toString()).toBe(`version ${n}`)
      }
      expect(await c.second.names(c.dir)).toEqual(['file'])
    },
  },
  {
    name: 'no two directories are on different devices: rename and link never answer EXDEV',
    async run(c) {
      let path = c.dir
      for (let depth = 0; depth < 6; depth++) {
        path += `/d${depth}`
        await c.me.mkdir(path)
        await c.me.writeFile(`${path}/file`, `${depth}`)
      }
      await c.me.rename(`${path}/file`, `${c.dir}/top`)
      await c.me.link(`${c.dir}/top`, `${path}/link`)
      await c.me.rename(path, `${c.dir}/deepest`)
      expect((await c.second.readFile(`${c.dir}/deepest/link`)).toString()).toBe('5')
    },
  },
  {
    name: 'link fails as it should',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.mkdir(`${c.dir}/directory`)
      await refused('EPERM', c.me.link(`${c.dir}/directory`, `${c.dir}/link`))
      await refused('EEXIST', c.me.link(`${c.dir}/file`, `${c.dir}/directory`))
      await refused('EEXIST', c.me.link(`${c.dir}/file`, `${c.dir}/file`))
      await refused('ENOENT', c.me.link(`${c.dir}/missing`, `${c.dir}/link`))
      await refused('ENOENT', c.me.link(`${c.dir}/file`, `${c.dir}/missing/link`))
      await refused('ENOTDIR', c.me.link(`${c.dir}/file`, `${c.dir}/file/link`))
      expect((await c.me.stat(`${c.dir}/file`)).nlink).toBe(1)
    },
  },
]
