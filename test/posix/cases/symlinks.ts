import { expect } from 'vitest'
import { O_RDONLY } from '../../support/posix/constants.ts'
import { type PosixCase, refused } from '../case.ts'

export const symlinks: readonly PosixCase[] = [
  {
    name: 'a link holds any bytes, up to 4,095 of them, as they are',
    async run(c) {
      const targets = [
        'x',
        '.',
        '../..//./a',
        '/absolute/path',
        ' leading and trailing ',
        '\xff\xfe not UTF-8',
        'line\nbreak',
        'l'.repeat(59),
        'l'.repeat(60),
        'l'.repeat(1023),
        `${'d/'.repeat(2047)}x`,
      ]
      for (const [index, target] of targets.entries()) {
        const path = `${c.dir}/${index}`
        await c.me.symlink(Buffer.from(target, 'latin1'), path)
        expect((await c.second.readlink(path)).toString('latin1')).toBe(target)
        expect((await c.second.lstat(path)).size).toBe(target.length)
      }
      expect(targets.at(-1)).toHaveLength(4095)
      await refused('ENAMETOOLONG', c.me.symlink('t'.repeat(4096), `${c.dir}/long`))
      await refused('ENOENT', c.me.symlink('', `${c.dir}/empty`))
    },
  },
  {
    name: 'a link is followed to where it points now',
    async run(c) {
      await c.me.mkdir(`${c.dir}/d`)
      await c.me.writeFile(`${c.dir}/d/file`, 'one')
      await c.me.symlink('d/file', `${c.dir}/relative`)
      await c.me.symlink(`${c.dir}/d`, `${c.dir}/absolute`)
      await c.me.symlink('../d/../relative', `${c.dir}/d/back`)
      for (const path of ['relative', 'absolute/file', 'd/back']) {
        expect((await c.second.readFile(`${c.dir}/${path}`)).toString(), path).toBe('one')
      }
      await c.me.writeFile(`${c.dir}/new`, 'two')
      await c.me.rename(`${c.dir}/new`, `${c.dir}/d/file`)
      expect((await c.second.readFile(`${c.dir}/relative`)).toString()).toBe('two')
      await c.me.symlink('d/other', `${c.dir}/other`)
      await c.me.rename(`${c.dir}/other`, `${c.dir}/relative`)
      await refused('ENOENT', c.second.readFile(`${c.dir}/relative`))
      await c.me.writeFile(`${c.dir}/d/other`, 'three')
      expect((await c.second.readFile(`${c.dir}/relative`)).toString()).toBe('three')
    },
  },
  {
    name: 'loops are found, chains of 40 are followed',
    async run(c) {
      await c.me.symlink('a', `${c.dir}/a`)
      await c.me.symlink('c', `${c.dir}/b`)
      await c.me.symlink('b', `${c.dir}/c`)
      for (const name of ['a', 'b', 'c/below']) {
        await refused('ELOOP', c.me.stat(`${c.dir}/${name}`))
        await refused('ELOOP', c.me.open(`${c.dir}/${name}`, O_RDONLY))
      }
      await c.me.writeFile(`${c.dir}/0`, 'found')
      for (let n = 1; n <= 41; n++) await c.me.symlink(`${n - 1}`, `${c.dir}/${n}`)
      expect((await c.me.readFile(`${c.dir}/40`)).toString()).toBe('found')
      await refused('ELOOP', c.me.readFile(`${c.dir}/41`))
    },
  },
  {
    name: 'unlink, rename and link act on the link itself',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'x')
      await c.me.symlink('file', `${c.dir}/link`)
      await c.me.link(`${c.dir}/link`, `${c.dir}/second`)
      expect((await c.me.lstat(`${c.dir}/second`)).nlink).toBe(2)
      expect((await c.me.stat(`${c.dir}/file`)).nlink).toBe(1)
      await c.me.rename(`${c.dir}/link`, `${c.dir}/renamed`)
      expect((await c.second.readlink(`${c.dir}/renamed`)).toString()).toBe('file')
      await c.me.unlink(`${c.dir}/renamed`)
      await c.me.unlink(`${c.dir}/second`)
      expect(await c.me.names(c.dir)).toEqual(['file'])
    },
  },
  {
    name: 'readlink and symlink fail as they should',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await refused('EINVAL', c.me.readlink(`${c.dir}/file`))
      await refused('EINVAL', c.me.readlink(c.dir))
      await refused('ENOENT', c.me.readlink(`${c.dir}/missing`))
      await refused('EEXIST', c.me.symlink('x', `${c.dir}/file`))
      await refused('ENOENT', c.me.symlink('x', `${c.dir}/missing/link`))
      await refused('ENOTDIR', c.me.symlink('x', `${c.dir}/file/link`))
    },
  },
]
