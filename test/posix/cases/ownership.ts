import { expect } from 'vitest'
import type { Remote } from '../../support/posix/agent.ts'
import {
  O_CREAT,
  O_EXCL,
  O_WRONLY,
  PERMISSIONS,
  S_IFCHR,
  S_IFIFO,
  S_IFSOCK,
} from '../../support/posix/constants.ts'
import { ALICE, BOB, type CaseContext, OTHERS, type PosixCase, refused, TEAM } from '../case.ts'

/** One of every kind of object that any user can make, under names that say which. */
async function makeOneOfEach(who: Remote, dir: string): Promise<string[]> {
  await who.writeFile(`${dir}/created-and-written`, 'x')
  await who.close(await who.open(`${dir}/created`, O_CREAT | O_WRONLY))
  await who.close(await who.open(`${dir}/created-exclusively`, O_CREAT | O_EXCL | O_WRONLY))
  await who.mkdir(`${dir}/directory`)
  await who.symlink('created', `${dir}/symlink`)
  await who.mknod(`${dir}/mknod`, 0o100644)
  await who.mknod(`${dir}/fifo`, S_IFIFO | 0o644)
  await who.mknod(`${dir}/socket`, S_IFSOCK | 0o644)
  return who.names(dir)
}

async function ownersIn(c: CaseContext, dir: string): Promise<Set<string>> {
  const owners = new Set<string>()
  for (const name of await c.me.names(dir)) {
    const { uid, gid } = await c.me.lstat(`${dir}/${name}`)
    owners.add(`${uid}:${gid}`)
  }
  return owners
}

async function modeOf(who: Remote, path: string): Promise<number> {
  return (await who.lstat(path)).mode & PERMISSIONS
}

export const ownership: readonly PosixCase[] = [
  {
    name: 'everything that is created belongs to its creator, user and group',
    needs: ['root'],
    async run(c) {
      for (const [name, who, owner] of [
        ['alice', c.alice, `${ALICE}:${ALICE}`],
        ['bob', c.bob, `${BOB}:${BOB}`],
        ['root', c.me, '0:0'],
      ] as const) {
        const dir = `${c.dir}/${name}`
        await c.me.mkdir(dir)
        await c.me.chmod(dir, 0o777)
        expect(await makeOneOfEach(who, dir)).toHaveLength(8)
        expect(await ownersIn(c, dir), `owners of what ${name} made`).toEqual(new Set([owner]))
      }
    },
  },
  {
    name: 'a hard link and a rename by another user leave the owner as it was',
    needs: ['root'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, 'x', 0o666)
      await c.alice.chmod(`${c.dir}/file`, 0o666)
      await c.me.link(`${c.dir}/file`, `${c.dir}/link`)
      await c.bob.rename(`${c.dir}/file`, `${c.dir}/renamed`)
      expect(await ownersIn(c, c.dir)).toEqual(new Set([`${ALICE}:${ALICE}`]))
    },
  },
  {
    name: 'writing to a file of somebody else does not change its owner',
    needs: ['root'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, 'x')
      await c.alice.chmod(`${c.dir}/file`, 0o666)
      await c.bob.writeFile(`${c.dir}/file`, 'bob was here')
      await c.me.writeFile(`${c.dir}/file`, 'root too')
      expect(await ownersIn(c, c.dir)).toEqual(new Set([`${ALICE}:${ALICE}`]))
    },
  },
  {
    name: 'a setgid directory hands its group to everything made in it',
    needs: ['root'],
    async run(c) {
      const dir = `${c.dir}/shared`
      await c.me.mkdir(dir)
      await c.me.chown(dir, -1, OTHERS)
      await c.me.chmod(dir, 0o2777)
      await makeOneOfEach(c.alice, dir)
      expect(await ownersIn(c, dir)).toEqual(new Set([`${ALICE}:${OTHERS}`]))
      expect(await modeOf(c.me, `${dir}/directory`), 'a directory in it is setgid too').toBe(0o2755)
      expect(await modeOf(c.me, `${dir}/created`), 'a file is not').toBe(0o644)
      await c.alice.mkdir(`${dir}/directory/below`)
      expect((await c.me.stat(`${dir}/directory/below`)).gid, 'and so on below').toBe(OTHERS)
    },
  },
  {
    name: 'in a setgid directory only a member of its group creates setgid executables',
    needs: ['root'],
    async run(c) {
      for (const [group, mode] of [
        [TEAM, 0o2775],
        [OTHERS, 0o775],
      ] as const) {
        const dir = `${c.dir}/${group}`
        await c.me.mkdir(dir)
        await c.me.chown(dir, -1, group)
        await c.me.chmod(dir, 0o2777)
        await c.alice.umask(0)
        await c.alice.close(await c.alice.open(`${dir}/file`, O_CREAT | O_WRONLY, 0o2775))
        expect(await modeOf(c.me, `${dir}/file`), `group ${group}`).toBe(mode)
      }
    },
  },
  {
    name: 'the umask is applied once, to files, directories and nodes',
    async run(c) {
      for (const umask of [0, 0o022, 0o027, 0o077, 0o777, 0o002]) {
        const dir = `${c.dir}/${umask.toString(8)}`
        await c.me.umask(0o022)
        await c.me.mkdir(dir)
        await c.me.umask(umask)
        await c.me.close(await c.me.open(`${dir}/file`, O_CREAT | O_WRONLY, 0o666))
        await c.me.close(await c.me.open(`${dir}/executable`, O_CREAT | O_WRONLY, 0o777))
        await c.me.mkdir(`${dir}/directory`, 0o777)
        await c.me.mkdir(`${dir}/sticky`, 0o1777)
        await c.me.mknod(`${dir}/node`, 0o100666)
        await c.me.mknod(`${dir}/fifo`, S_IFIFO | 0o666)
        const modes = await Promise.all(
          ['file', 'executable', 'directory', 'sticky', 'node', 'fifo'].map((name) =>
            modeOf(c.second, `${dir}/${name}`),
          ),
        )
        expect(modes, `umask ${umask.toString(8)}`).toEqual(
          [0o666, 0o777, 0o777, 0o1777, 0o666, 0o666].map((mode) => mode & ~umask),
        )
      }
    },
  },
  {
    name: 'the umask does not touch chmod, nor symbolic links',
    async run(c) {
      await c.me.umask(0o077)
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.chmod(`${c.dir}/file`, 0o666)
      await c.me.symlink('file', `${c.dir}/link`)
      expect(await modeOf(c.me, `${c.dir}/file`)).toBe(0o666)
      expect(await modeOf(c.me, `${c.dir}/link`)).toBe(0o777)
    },
  },
  {
    name: 'a file created read-only can be written through the descriptor that created it',
    needs: ['root'],
    async run(c) {
      const fd = await c.alice.open(`${c.dir}/file`, O_CREAT | O_EXCL | O_WRONLY, 0o444)
      expect(await c.alice.write(fd, 'content')).toBe(7)
      await c.alice.close(fd)
      const none = await c.alice.open(`${c.dir}/none`, O_CREAT | O_EXCL | O_WRONLY, 0)
      expect(await c.alice.write(none, 'content')).toBe(7)
      expect(await modeOf(c.me, `${c.dir}/none`)).toBe(0)
      await refused('EACCES', c.alice.open(`${c.dir}/file`, O_WRONLY))
    },
  },
  {
    name: 'only the owner changes the mode, only root gives a file away',
    needs: ['root'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, '')
      await refused('EPERM', c.bob.chmod(`${c.dir}/file`, 0o777))
      await refused('EPERM', c.bob.chown(`${c.dir}/file`, BOB, -1))
      await refused('EPERM', c.alice.chown(`${c.dir}/file`, BOB, -1))
      await refused('EPERM', c.bob.chown(`${c.dir}/file`, -1, TEAM))
      await c.me.chown(`${c.dir}/file`, BOB, TEAM)
      await refused('EPERM', c.alice.chmod(`${c.dir}/file`, 0o600))
      await c.bob.chmod(`${c.dir}/file`, 0o640)
      expect(await c.me.stat(`${c.dir}/file`)).toMatchObject({ uid: BOB, gid: TEAM, mode: 0o100640 })
    },
  },
  {
    name: 'an owner moves a file to a group of his, and to no other',
    needs: ['root'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, '')
      await c.alice.chown(`${c.dir}/file`, -1, TEAM)
      expect((await c.me.stat(`${c.dir}/file`)).gid).toBe(TEAM)
      await c.alice.chown(`${c.dir}/file`, ALICE, ALICE)
      expect((await c.me.stat(`${c.dir}/file`)).gid).toBe(ALICE)
      await refused('EPERM', c.alice.chown(`${c.dir}/file`, -1, OTHERS))
      await c.alice.chown(`${c.dir}/file`, -1, -1)
      expect((await c.me.stat(`${c.dir}/file`)).gid).toBe(ALICE)
    },
  },
  {
    name: 'ids use all of their 32 bits, and -1 leaves one as it is',
    needs: ['root'],
    async run(c) {
      const [uid, gid] = [3_000_000_001, 4_294_967_290]
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.chown(`${c.dir}/file`, uid, gid)
      expect(await c.me.stat(`${c.dir}/file`)).toMatchObject({ uid, gid })
      await c.me.chown(`${c.dir}/file`, ALICE, -1)
      expect(await c.me.stat(`${c.dir}/file`)).toMatchObject({ uid: ALICE, gid })
      await c.me.chown(`${c.dir}/file`, -1, BOB)
      expect(await c.me.stat(`${c.dir}/file`)).toMatchObject({ uid: ALICE, gid: BOB })
    },
  },
  {
    name: 'a symbolic link has an owner of its own',
    needs: ['root'],
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.alice.symlink('file', `${c.dir}/link`)
      await c.me.lchown(`${c.dir}/link`, BOB, TEAM)
      expect(await c.me.lstat(`${c.dir}/link`)).toMatchObject({ uid: BOB, gid: TEAM })
      expect(await c.me.stat(`${c.dir}/link`)).toMatchObject({ uid: 0, gid: 0 })
      await c.me.chown(`${c.dir}/link`, ALICE, -1)
      expect((await c.me.stat(`${c.dir}/file`)).uid, 'chown follows it').toBe(ALICE)
      expect((await c.me.lstat(`${c.dir}/link`)).uid).toBe(BOB)
    },
  },
  {
    name: 'an ordinary user makes no device nodes',
    needs: ['root'],
    async run(c) {
      await refused('EPERM', c.alice.mknod(`${c.dir}/null`, S_IFCHR | 0o666, 0x103n))
      expect(await c.me.names(c.dir)).toEqual([])
    },
  },
]
