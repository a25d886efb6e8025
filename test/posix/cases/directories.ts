import { expect } from 'vitest'
import { O_CREAT, O_DIRECTORY, O_RDONLY, O_WRONLY, SEEK_SET } from '../../support/posix/constants.ts'
import type { RawEntry } from '../../support/posix/structs.ts'
import { type CaseContext, type PosixCase, refused } from '../case.ts'

const isDot = ({ name }: RawEntry) => ['.', '..'].includes(name.toString())

function namesOf(entries: readonly RawEntry[]): string[] {
  return entries
    .filter((entry) => !isDot(entry))
    .map(({ name }) => name.toString())
    .sort()
}

async function rest(c: CaseContext, fd: number, size?: number): Promise<RawEntry[]> {
  const entries: RawEntry[] = []
  for (;;) {
    const some = await c.me.readEntries(fd, size)
    if (some.length === 0) return entries
    entries.push(...some)
  }
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${prefix}${n}`).sort()
}

export const directories: readonly PosixCase[] = [
  {
    name: 'a large directory is listed completely, each entry once, whatever the buffer',
    async run(c) {
      await Promise.all(
        c.workers.map((worker, index) =>
          worker.createFiles(
            c.dir,
            'file-with-a-name-of-some-length-',
            Math.floor((c.entries * index) / 4),
            Math.floor((c.entries * (index + 1)) / 4),
          ),
        ),
      )
      const expected = numbered('file-with-a-name-of-some-length-', c.entries)
      expect(namesOf(await c.second.list(c.dir))).toEqual(expected)
      expect(namesOf(await c.second.list(c.dir, 2048))).toEqual(expected)
      expect(namesOf(await c.second.list(c.dir, 1 << 20))).toEqual(expected)
    },
  },
  {
    name: 'entries that stay are listed once while others come and go',
    async run(c) {
      const stay = 400
      await c.me.createFiles(c.dir, 'stays-', 0, stay)
      const [listing, ...changes] = await Promise.all([
        c.second.listRepeatedly(c.dir, 30, 4096),
        ...c.workers.map((worker, index) => worker.comeAndGo(c.dir, `goes-${index}-`, 150)),
      ])
      expect(changes).toHaveLength(4)
      for (const name of numbered('stays-', stay)) {
        expect(listing.get(name), name).toEqual({ seen: 30, most: 1 })
      }
      expect(namesOf(await c.me.list(c.dir))).toEqual(numbered('stays-', stay))
    },
  },
  {
    name: 'a listing in progress is not confused by what is removed and added',
    async run(c) {
      const count = Math.min(1000, 4 * c.entries)
      await c.me.createFiles(c.dir, 'f', 0, count)
      const fd = await c.me.open(c.dir, O_RDONLY | O_DIRECTORY)
      const first = await c.me.readEntries(fd, 4096)
      expect(first.length).toBeGreaterThan(10)
      const seen = new Set(namesOf(first))
      const unseen = numbered('f', count).filter((name) => !seen.has(name))
      const doomed = new Set(unseen.filter((_, index) => index % 2 === 0))
      await c.second.unlinkFiles(
        c.dir,
        [...doomed].map((name) => Buffer.from(name)),
      )
      await c.second.unlinkFiles(
        c.dir,
        [...seen].slice(0, 5).map((name) => Buffer.from(name)),
      )
      await c.second.createFiles(c.dir, 'new', 0, 300)
      const later = namesOf(await rest(c, fd, 4096))
      expect(new Set(later).size, 'none twice').toBe(later.length)
      expect(
        later.filter((name) => seen.has(name)),
        'none again',
      ).toEqual([])
      const survivors = unseen.filter((name) => !doomed.has(name))
      expect(later.filter((name) => survivors.includes(name))).toEqual(survivors)
    },
  },
  {
    name: 'a rewound directory shows what is there now',
    async run(c) {
      await c.me.createFiles(c.dir, 'old', 0, 10)
      const fd = await c.me.open(c.dir, O_RDONLY)
      expect(namesOf(await rest(c, fd))).toEqual(numbered('old', 10))
      await c.second.createFiles(c.dir, 'new', 0, 10)
      await c.second.unlink(`${c.dir}/old3`)
      await c.me.lseek(fd, 0, SEEK_SET)
      expect(namesOf(await rest(c, fd))).toEqual(
        [...numbered('old', 10).filter((name) => name !== 'old3'), ...numbered('new', 10)].sort(),
      )
    },
  },
  {
    name: 'seekdir goes on where telldir was',
    async run(c) {
      await c.me.createFiles(c.dir, 'f', 0, 500)
      const fd = await c.me.open(c.dir, O_RDONLY)
      const first = await c.me.readEntries(fd, 4096)
      const following = await rest(c, fd, 4096)
      const middle = first[Math.floor(first.length / 2)]
      const last = first.at(-1)
      if (middle === undefined || last === undefined) throw new Error('the first buffer was empty')
      await c.me.lseek(fd, last.offset, SEEK_SET)
      expect(namesOf(await rest(c, fd, 4096))).toEqual(namesOf(following))
      await c.me.lseek(fd, middle.offset, SEEK_SET)
      expect(namesOf(await rest(c, fd, 1024))).toEqual(
        namesOf([...first.slice(first.indexOf(middle) + 1), ...following]),
      )
    },
  },
  {
    name: 'everything is removed by a program that unlinks as it lists',
    async run(c) {
      await c.me.mkdir(`${c.dir}/d`)
      const many = Math.min(1500, 4 * c.entries)
      await c.me.createFiles(`${c.dir}/d`, 'f', 0, many)
      expect(await c.me.removeWhileListing(`${c.dir}/d`, 4096)).toBe(many)
      expect(await c.second.list(`${c.dir}/d`)).toEqual([])
      await c.me.rmdir(`${c.dir}/d`)
    },
  },
  {
    name: 'two listings of one directory do not disturb each other',
    async run(c) {
      await c.me.createFiles(c.dir, 'f', 0, 300)
      const [one, two] = [await c.me.open(c.dir, O_RDONLY), await c.me.open(c.dir, O_RDONLY)]
      const fromOne = await c.me.readEntries(one, 2048)
      const fromTwo = await rest(c, two, 1024)
      fromOne.push(...(await rest(c, one, 2048)))
      expect(namesOf(fromOne)).toEqual(numbered('f', 300))
      expect(namesOf(fromTwo)).toEqual(numbered('f', 300))
    },
  },
  {
    name: 'mkdir and rmdir fail as they should',
    async run(c) {
      await c.me.mkdir(`${c.dir}/d`)
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.symlink('d', `${c.dir}/link`)
      await refused('EEXIST', c.me.mkdir(`${c.dir}/d`))
      await refused('EEXIST', c.me.mkdir(`${c.dir}/file`))
      await refused('EEXIST', c.me.mkdir(`${c.dir}/link`))
      await refused('ENOENT', c.me.mkdir(`${c.dir}/missing/d`))
      await refused('ENOTDIR', c.me.mkdir(`${c.dir}/file/d`))
      await refused('ENOENT', c.me.rmdir(`${c.dir}/missing`))
      await refused('ENOTDIR', c.me.rmdir(`${c.dir}/file`))
      await refused('ENOTDIR', c.me.rmdir(`${c.dir}/link`))
      await c.me.writeFile(`${c.dir}/d/file`, '')
      await refused('ENOTEMPTY', c.me.rmdir(`${c.dir}/d`))
      await c.me.unlink(`${c.dir}/d/file`)
      await c.me.rmdir(`${c.dir}/d`)
      await refused('ENOENT', c.me.rmdir(`${c.dir}/d`))
      expect(await c.me.names(c.dir)).toEqual(['file', 'link'])
    },
  },
  {
    name: 'a directory that somebody is in can be removed, and is empty and barren then',
    async run(c) {
      await c.me.mkdir(`${c.dir}/d`)
      await c.me.chdir(`${c.dir}/d`)
      const fd = await c.me.open(`${c.dir}/d`, O_RDONLY)
      await c.second.rmdir(`${c.dir}/d`)
      expect((await c.me.fstat(fd)).nlink).toBe(0)
      await refused('ENOENT', c.me.open('file', O_CREAT | O_WRONLY))
      await refused('ENOENT', c.me.mkdir('sub'))
      await refused('ENOENT', c.me.openat(fd, 'file', O_CREAT | O_WRONLY))
      await refused('ENOENT', c.me.readEntries(fd))
    },
  },
  {
    name: 'a directory is neither read nor written as a file',
    async run(c) {
      const fd = await c.me.open(c.dir, O_RDONLY)
      await refused('EISDIR', c.me.read(fd, 10))
      await refused('EISDIR', c.me.open(c.dir, O_WRONLY))
      await refused('EISDIR', c.me.truncate(c.dir, 0))
      await refused('EISDIR', c.me.unlink(c.dir))
      await refused('ENOTDIR', c.me.open('/dev/null', O_RDONLY | O_DIRECTORY))
    },
  },
]
