import { expect } from 'vitest'
import type { Remote } from '../../support/posix/agent.ts'
import { O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, S_IFIFO } from '../../support/posix/constants.ts'
import { FAR_FUTURE_NS, FAR_PAST_NS } from '../../support/posix/features.ts'
import type { Stat } from '../../support/posix/structs.ts'
import { type CaseContext, type PosixCase, refused } from '../case.ts'

// Moments with a digit in every place, so that a lost one shows.
const EARLIER = 1_111_111_111_123_456_789n
const LATER = 1_222_222_222_987_654_321n
const OLD = 946_684_800_000_000_001n

/** The clock of a file system may run a tick behind; a time within a minute of now was set by the operation. */
const NEAR_NS = 60_000_000_000n

function isNow(ns: bigint): boolean {
  const now = BigInt(Date.now()) * 1_000_000n
  return ns > now - NEAR_NS && ns < now + NEAR_NS
}

/** Runs a change on a path whose times were set to OLD, after the clock has moved past its last change. */
async function changed(
  c: CaseContext,
  path: string,
  change: () => Promise<unknown>,
): Promise<{ mtime: 'moved' | 'same'; ctime: 'moved' | 'same' }> {
  await c.me.lutimens(path, OLD, OLD)
  const before = await c.me.lstat(path)
  await c.me.clockPast(`${c.dir}/.clock`, before.ctimeNs)
  // The scratch file of the clock is made in the directory itself: set its times once more.
  await c.me.lutimens(path, OLD, OLD)
  const start = await c.me.lstat(path)
  await c.me.clockPast(`${c.dir}/.clock`, start.ctimeNs)
  expect((await c.me.lstat(path)).ctimeNs, 'nothing but the change is at work').toBe(start.ctimeNs)
  await change()
  const after = await c.second.lstat(path)
  if (after.mtimeNs !== OLD) expect(isNow(after.mtimeNs), 'mtime is now').toBe(true)
  return {
    mtime: after.mtimeNs === OLD ? 'same' : 'moved',
    ctime: after.ctimeNs > start.ctimeNs ? 'moved' : 'same',
  }
}

const BOTH = { mtime: 'moved', ctime: 'moved' }
const CTIME_ONLY = { mtime: 'same', ctime: 'moved' }
const NEITHER = { mtime: 'same', ctime: 'same' }

async function timesOf(who: Remote, path: string): Promise<Pick<Stat, 'atimeNs' | 'mtimeNs'>> {
  const { atimeNs, mtimeNs } = await who.lstat(path)
  return { atimeNs, mtimeNs }
}

export const times: readonly PosixCase[] = [
  {
    name: 'utimensat sets both times to the nanosecond, each to its own',
    needs: ['nanoseconds'],
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.mknod(`${c.dir}/fifo`, S_IFIFO | 0o600)
      for (const name of ['file', 'directory', 'fifo']) {
        await c.me.utimens(`${c.dir}/${name}`, EARLIER, LATER)
        expect(await timesOf(c.second, `${c.dir}/${name}`), name).toEqual({
          atimeNs: EARLIER,
          mtimeNs: LATER,
        })
      }
    },
  },
  {
    name: 'UTIME_OMIT leaves one time alone',
    needs: ['nanoseconds'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, '')
      await c.me.utimens(path, EARLIER, LATER)
      await c.me.utimens(path, 'omit', OLD)
      expect(await timesOf(c.second, path)).toEqual({ atimeNs: EARLIER, mtimeNs: OLD })
      await c.me.utimens(path, LATER, 'omit')
      expect(await timesOf(c.second, path)).toEqual({ atimeNs: LATER, mtimeNs: OLD })
      await c.me.utimens(path, 'omit', 'omit')
      expect(await timesOf(c.second, path)).toEqual({ atimeNs: LATER, mtimeNs: OLD })
    },
  },
  {
    name: 'UTIME_NOW takes the present for one time and leaves the other to its value',
    needs: ['nanoseconds'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, '')
      await c.me.utimens(path, 'now', EARLIER)
      let got = await timesOf(c.second, path)
      expect([isNow(got.atimeNs), got.mtimeNs]).toEqual([true, EARLIER])
      await c.me.utimens(path, EARLIER, 'now')
      got = await timesOf(c.second, path)
      expect([got.atimeNs, isNow(got.mtimeNs)]).toEqual([EARLIER, true])
      await c.me.utimens(path, OLD, OLD)
      await c.me.touch(path)
      got = await timesOf(c.second, path)
      expect([isNow(got.atimeNs), isNow(got.mtimeNs)]).toEqual([true, true])
    },
  },
  {
    name: 'times before 1970 and after 2038 are kept',
    needs: ['farTimes'],
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      for (const [atime, mtime] of [
        [FAR_PAST_NS, FAR_FUTURE_NS],
        [-1n, 0n],
        [-1_500_000_000n, 4_294_967_296_000_000_001n],
        [2_147_483_648_999_999_999n, -999_999_999n],
      ] as const) {
        await c.me.utimens(`${c.dir}/file`, atime, mtime)
        expect(await timesOf(c.second, `${c.dir}/file`)).toEqual({ atimeNs: atime, mtimeNs: mtime })
      }
    },
  },
  {
    name: 'nanoseconds out of range are refused',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.utimens(`${c.dir}/file`, EARLIER, LATER)
      await refused('EINVAL', c.me.utimensRaw(`${c.dir}/file`, [1n, 1_000_000_000n, 1n, 0n]))
      await refused('EINVAL', c.me.utimensRaw(`${c.dir}/file`, [1n, 0n, 1n, -1n]))
      expect(await timesOf(c.me, `${c.dir}/file`)).toEqual({ atimeNs: EARLIER, mtimeNs: LATER })
    },
  },
  {
    name: 'a symbolic link has times of its own',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.symlink('file', `${c.dir}/link`)
      await c.me.utimens(`${c.dir}/file`, OLD, OLD)
      await c.me.lutimens(`${c.dir}/link`, EARLIER, LATER)
      expect(await timesOf(c.second, `${c.dir}/link`)).toEqual({ atimeNs: EARLIER, mtimeNs: LATER })
      expect(await timesOf(c.second, `${c.dir}/file`)).toEqual({ atimeNs: OLD, mtimeNs: OLD })
      await c.me.utimens(`${c.dir}/link`, LATER, EARLIER)
      expect(await timesOf(c.second, `${c.dir}/file`), 'utimens follows it').toEqual({
        atimeNs: LATER,
        mtimeNs: EARLIER,
      })
    },
  },
  {
    name: 'futimens sets the times of an open file, a directory and an unlinked file',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.mkdir(`${c.dir}/directory`)
      for (const name of ['file', 'directory']) {
        const fd = await c.me.open(`${c.dir}/${name}`, O_RDONLY)
        await c.me.futimens(fd, EARLIER, LATER)
        expect(await timesOf(c.second, `${c.dir}/${name}`)).toEqual({ atimeNs: EARLIER, mtimeNs: LATER })
      }
      const fd = await c.me.open(`${c.dir}/file`, O_RDWR)
      await c.me.unlink(`${c.dir}/file`)
      await c.me.futimens(fd, LATER, OLD)
      expect(await c.me.fstat(fd)).toMatchObject({ atimeNs: LATER, mtimeNs: OLD, nlink: 0 })
    },
  },
  {
    name: 'times set while a written file is open survive its closing',
    async run(c) {
      const path = `${c.dir}/file`
      const byDescriptor = await c.me.open(path, O_CREAT | O_RDWR)
      await c.me.write(byDescriptor, 'content')
      await c.me.futimens(byDescriptor, EARLIER, LATER)
      await c.me.close(byDescriptor)
      expect(await timesOf(c.second, path)).toEqual({ atimeNs: EARLIER, mtimeNs: LATER })

      const writer = await c.me.open(path, O_WRONLY)
      await c.me.write(writer, 'other')
      await c.second.utimens(path, LATER, EARLIER)
      await c.me.fsync(writer)
      await c.me.close(writer)
      expect(await timesOf(c.second, path)).toEqual({ atimeNs: LATER, mtimeNs: EARLIER })
    },
  },
  {
    name: 'a change of content moves mtime and ctime',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'some content')
      const fd = await c.me.open(path, O_RDWR)
      const ways: Record<string, () => Promise<unknown>> = {
        write: () => c.me.write(fd, 'x', 3),
        ftruncate: () => c.me.ftruncate(fd, 5),
        'ftruncate to more': () => c.me.ftruncate(fd, 500),
        truncate: () => c.me.truncate(path, 50),
        'open with O_TRUNC': async () => c.me.close(await c.me.open(path, O_WRONLY | O_TRUNC)),
      }
      for (const [way, change] of Object.entries(ways))
        expect(await changed(c, path, change), way).toEqual(BOTH)
    },
  },
  {
    name: 'reading, looking and syncing move neither',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'some content')
      const fd = await c.me.open(path, O_RDWR)
      const harmless = async () => {
        await c.me.read(fd, 100, 0)
        await c.second.readFile(path)
        await c.me.fsync(fd)
        await c.me.listxattr(path)
        await c.me.access(path, 4)
        await c.me.close(await c.me.open(path, O_WRONLY))
      }
      expect(await changed(c, path, harmless)).toEqual(NEITHER)
    },
  },
  {
    name: 'a change of anything but content moves ctime only',
    needs: ['userXattrs'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'some content')
      const ways: Record<string, () => Promise<unknown>> = {
        chmod: () => c.me.chmod(path, 0o600),
        chown: () => c.me.chown(path, process.getuid?.() ?? -1, -1),
        link: () => c.me.link(path, `${path}.link`),
        'unlink of another name': () => c.me.unlink(`${path}.link`),
        setxattr: () => c.me.setxattr(path, 'user.a', 'b'),
        removexattr: () => c.me.removexattr(path, 'user.a'),
      }
      for (const [way, change] of Object.entries(ways)) {
        expect(await changed(c, path, change), way).toEqual(CTIME_ONLY)
      }
    },
  },
  {
    name: 'a rename leaves the times of the file, and moves those of both directories',
    async run(c) {
      await c.me.mkdir(`${c.dir}/from`)
      await c.me.mkdir(`${c.dir}/to`)
      await c.me.writeFile(`${c.dir}/from/file`, 'x')
      await c.me.utimens(`${c.dir}/from/file`, EARLIER, LATER)
      await c.me.mkdir(`${c.dir}/from/directory`)
      expect(
        await changed(c, `${c.dir}/from`, () => c.me.rename(`${c.dir}/from/file`, `${c.dir}/to/renamed`)),
      ).toEqual(BOTH)
      expect(
        await changed(c, `${c.dir}/to`, () =>
          c.me.rename(`${c.dir}/from/directory`, `${c.dir}/to/directory`),
        ),
      ).toEqual(BOTH)
      expect(await timesOf(c.second, `${c.dir}/to/renamed`)).toEqual({ atimeNs: EARLIER, mtimeNs: LATER })
    },
  },
  {
    name: 'a directory moves with every change of its entries',
    async run(c) {
      const dir = `${c.dir}/directory`
      await c.me.mkdir(dir)
      const ways: Record<string, () => Promise<unknown>> = {
        create: () => c.me.writeFile(`${dir}/a`, ''),
        mkdir: () => c.me.mkdir(`${dir}/sub`),
        mknod: () => c.me.mknod(`${dir}/fifo`, S_IFIFO | 0o600),
        symlink: () => c.me.symlink('a', `${dir}/s`),
        link: () => c.me.link(`${dir}/a`, `${dir}/b`),
        'rename within': () => c.me.rename(`${dir}/b`, `${dir}/c`),
        'rename over': () => c.me.rename(`${dir}/fifo`, `${dir}/a`),
        unlink: () => c.me.unlink(`${dir}/c`),
        rmdir: () => c.me.rmdir(`${dir}/sub`),
      }
      for (const [way, change] of Object.entries(ways))
        expect(await changed(c, dir, change), way).toEqual(BOTH)
    },
  },
  {
    name: 'a directory does not move with what happens inside its entries',
    async run(c) {
      const dir = `${c.dir}/directory`
      await c.me.mkdir(dir)
      await c.me.writeFile(`${dir}/file`, 'x')
      await c.me.mkdir(`${dir}/sub`)
      const inside = async () => {
        await c.me.writeFile(`${dir}/file`, 'another content')
        await c.me.chmod(`${dir}/file`, 0o600)
        await c.me.writeFile(`${dir}/sub/new`, 'x')
        await c.me.names(dir)
        await refused('ENOENT', c.me.unlink(`${dir}/missing`))
        await refused('EEXIST', c.me.mkdir(`${dir}/sub`))
      }
      expect(await changed(c, dir, inside)).toEqual(NEITHER)
    },
  },
  {
    name: 'a write through shared memory moves mtime',
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, Buffer.alloc(8192, 1))
      const fd = await c.me.open(path, O_RDWR)
      const through = async () => {
        const memory = await c.me.map(fd, 8192)
        await c.me.mapWrite(memory, 10, 'through memory')
        await c.me.msync(memory)
        await c.me.unmap(memory)
      }
      expect(await changed(c, path, through)).toEqual(BOTH)
      expect((await c.second.readFile(path)).subarray(10, 24).toString()).toBe('through memory')
    },
  },
  {
    name: 'what is created has the present as all its times',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.symlink('file', `${c.dir}/link`)
      await c.me.mknod(`${c.dir}/fifo`, S_IFIFO | 0o600)
      for (const name of await c.me.names(c.dir)) {
        const { atimeNs, mtimeNs, ctimeNs } = await c.second.lstat(`${c.dir}/${name}`)
        expect([isNow(atimeNs), isNow(mtimeNs), isNow(ctimeNs)], name).toEqual([true, true, true])
      }
    },
  },
]
