import { expect } from 'vitest'
import type { Remote } from '../../support/posix/agent.ts'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  PERMISSIONS,
} from '../../support/posix/constants.ts'
import { CAPABILITY_NET_RAW } from '../../support/posix/features.ts'
import { ALICE, type CaseContext, OTHERS, type PosixCase, refused, TEAM } from '../case.ts'

const CAPABILITY = 'security.capability'

/** A file of root's that everybody may write to and that would run as root. */
async function privilegedFile(c: CaseContext, mode = 0o6777): Promise<string> {
  const path = `${c.dir}/${(await c.me.names(c.dir)).length}`
  await c.me.writeFile(path, 'a program')
  await c.me.chmod(path, mode)
  return path
}

async function modeOf(c: CaseContext, path: string): Promise<string> {
  return ((await c.me.stat(path)).mode & PERMISSIONS).toString(8)
}

async function through(who: Remote, path: string, flags: number, use: (fd: number) => Promise<unknown>) {
  const fd = await who.open(path, flags)
  await use(fd)
  await who.close(fd)
}

export const privileges: readonly PosixCase[] = [
  {
    name: 'a write by an ordinary user takes setuid and setgid away',
    needs: ['root'],
    async run(c) {
      const path = await privilegedFile(c)
      await through(c.alice, path, O_WRONLY, (fd) => c.alice.write(fd, 'X', 0))
      expect(await modeOf(c, path)).toBe('777')
    },
  },
  {
    name: 'so does every other way to change the content',
    needs: ['root', 'fallocate', 'punchHole', 'copyFileRange'],
    async run(c) {
      const ways: Record<string, (path: string) => Promise<unknown>> = {
        write: (path) => through(c.alice, path, O_WRONLY, (fd) => c.alice.write(fd, 'X', 0)),
        truncate: (path) => c.alice.truncate(path, 3),
        ftruncate: (path) => through(c.alice, path, O_WRONLY, (fd) => c.alice.ftruncate(fd, 100)),
        'open with O_TRUNC': (path) => through(c.alice, path, O_WRONLY | O_TRUNC, async () => undefined),
        fallocate: (path) => through(c.alice, path, O_WRONLY, (fd) => c.alice.fallocate(fd, 0, 0, 10_000)),
        'punching a hole': (path) =>
          through(c.alice, path, O_WRONLY, (fd) =>
            c.alice.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4),
          ),
        copy_file_range: (path) =>
          through(c.alice, path, O_RDWR, (fd) => c.alice.copyFileRange(fd, 0, fd, 4, 4)),
      }
      for (const [way, change] of Object.entries(ways)) {
        const path = await privilegedFile(c)
        await change(path)
        expect(await modeOf(c, path), way).toBe('777')
        // To somebody who is not of its group the bit is a privilege, whoever may execute.
        const lock = await privilegedFile(c, 0o2767)
        await c.alice.stat(lock)
        await change(lock)
        expect(await modeOf(c, lock), `${way}, no group execute`).toBe('767')
      }
    },
  },
  {
    name: 'root writes and keeps setuid and setgid',
    needs: ['root'],
    async run(c) {
      const path = await privilegedFile(c)
      await through(c.me, path, O_WRONLY, (fd) => c.me.write(fd, 'X', 0))
      await c.me.truncate(path, 3)
      expect(await modeOf(c, path)).toBe('6777')
    },
  },
  {
    name: 'setgid without group execute is no privilege to its group and is kept by a member',
    needs: ['root'],
    async run(c) {
      const path = await privilegedFile(c)
      await c.me.chown(path, ALICE, TEAM)
      await c.me.chmod(path, 0o2666)
      await through(c.alice, path, O_WRONLY, (fd) => c.alice.write(fd, 'X', 0))
      expect(await modeOf(c, path)).toBe('2666')
    },
  },
  {
    name: 'chown takes setuid and setgid away, from a directory it does not',
    needs: ['root'],
    async run(c) {
      const byRoot = await privilegedFile(c)
      await c.me.chown(byRoot, ALICE, TEAM)
      expect(await modeOf(c, byRoot), 'by root').toBe('777')

      const byOwner = await privilegedFile(c)
      await c.me.chown(byOwner, ALICE, ALICE)
      await c.me.chmod(byOwner, 0o6777)
      await c.alice.chown(byOwner, -1, TEAM)
      expect(await modeOf(c, byOwner), 'by the owner').toBe('777')

      await c.me.mkdir(`${c.dir}/directory`)
      await c.me.chmod(`${c.dir}/directory`, 0o6777)
      await c.me.chown(`${c.dir}/directory`, ALICE, TEAM)
      expect(await modeOf(c, `${c.dir}/directory`)).toBe('6777')
    },
  },
  {
    name: 'an owner outside the group cannot set setgid: the bit is dropped without an error',
    needs: ['root'],
    async run(c) {
      const path = await privilegedFile(c, 0o777)
      await c.me.chown(path, ALICE, OTHERS)
      await c.alice.chmod(path, 0o2777)
      expect(await modeOf(c, path)).toBe('777')
      await c.me.chown(path, -1, TEAM)
      await c.alice.chmod(path, 0o2777)
      expect(await modeOf(c, path), 'in a group of his').toBe('2777')
    },
  },
  {
    name: 'file capabilities are kept, and go with the first change of content or owner',
    needs: ['root', 'fileCapabilities'],
    async run(c) {
      const ways: Record<string, (path: string) => Promise<unknown>> = {
        'a write': (path) => through(c.alice, path, O_WRONLY, (fd) => c.alice.write(fd, 'X', 0)),
        'a write by root': (path) => through(c.me, path, O_WRONLY, (fd) => c.me.write(fd, 'X', 0)),
        truncate: (path) => c.alice.truncate(path, 2),
        chown: (path) => c.me.chown(path, ALICE, -1),
      }
      for (const [way, change] of Object.entries(ways)) {
        const path = await privilegedFile(c, 0o777)
        await c.me.setxattr(path, CAPABILITY, CAPABILITY_NET_RAW)
        await c.me.chmod(path, 0o766)
        await c.me.rename(path, `${path}.renamed`)
        await c.me.rename(`${path}.renamed`, path)
        expect((await c.me.getxattr(path, CAPABILITY)).toString('hex'), way).toBe(
          CAPABILITY_NET_RAW.toString('hex'),
        )
        await change(path)
        await refused('ENODATA', c.me.getxattr(path, CAPABILITY))
      }
    },
  },
  {
    name: 'an ordinary user sets no file capabilities',
    needs: ['root', 'fileCapabilities'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, '')
      await refused('EPERM', c.alice.setxattr(`${c.dir}/file`, CAPABILITY, CAPABILITY_NET_RAW))
      await refused('ENODATA', c.me.getxattr(`${c.dir}/file`, CAPABILITY))
    },
  },
]
