import { constants } from 'node:fs'
import { expect } from 'vitest'
import type { Remote } from '../../support/posix/agent.ts'
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, PERMISSIONS } from '../../support/posix/constants.ts'
import { ALICE, BOB, CAROL, type CaseContext, type PosixCase, refused, TEAM } from '../case.ts'

const { R_OK, W_OK, X_OK } = constants

/** Which of read and write a user gets on a file. */
async function opens(who: Remote, path: string): Promise<string> {
  const outcome = async (flags: number, letter: string) => {
    const fd = await who.open(path, flags).catch(() => undefined)
    if (fd === undefined) return '-'
    await who.close(fd)
    return letter
  }
  return (await outcome(O_RDONLY, 'r')) + (await outcome(O_WRONLY, 'w'))
}

async function directoryOf(c: CaseContext, name: string, owner: number, mode: number): Promise<string> {
  const dir = `${c.dir}/${name}`
  await c.me.mkdir(dir)
  await c.me.chown(dir, owner, owner)
  await c.me.chmod(dir, mode)
  return dir
}

export const permissions: readonly PosixCase[] = [
  {
    name: 'owner, group and others each get their own bits and no more',
    needs: ['root'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'x')
      await c.me.chown(path, ALICE, TEAM)
      for (const [mode, alice, bob, carol] of [
        [0o600, 'rw', '--', '--'],
        [0o060, '--', 'rw', '--'],
        [0o006, '--', '--', 'rw'],
        [0o640, 'rw', 'r-', '--'],
        [0o246, '-w', 'r-', 'rw'],
        [0o000, '--', '--', '--'],
      ] as const) {
        await c.me.chmod(path, mode)
        const got = [await opens(c.alice, path), await opens(c.bob, path), await opens(c.carol, path)]
        expect(got, mode.toString(8)).toEqual([alice, bob, carol])
        expect(await opens(c.me, path), 'root').toBe('rw')
      }
    },
  },
  {
    name: 'access(2) answers as open does, and for root by the execute bits',
    needs: ['root'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'x')
      await c.me.chown(path, ALICE, TEAM)
      await c.me.chmod(path, 0o540)
      await c.alice.access(path, R_OK | X_OK)
      await refused('EACCES', c.alice.access(path, W_OK))
      await c.bob.access(path, R_OK)
      await refused('EACCES', c.bob.access(path, X_OK))
      await refused('EACCES', c.carol.access(path, R_OK))
      await c.me.access(path, R_OK | W_OK | X_OK)
      await c.me.chmod(path, 0o666)
      await refused('EACCES', c.me.access(path, X_OK))
    },
  },
  {
    name: 'a directory without x cannot be passed, without r not listed, without w not changed',
    needs: ['root'],
    async run(c) {
      const dir = await directoryOf(c, 'd', ALICE, 0o700)
      await c.alice.writeFile(`${dir}/file`, 'x')
      await c.alice.chmod(`${dir}/file`, 0o666)

      await c.alice.chmod(dir, 0o600)
      expect(await c.alice.names(dir)).toEqual(['file'])
      await refused('EACCES', c.alice.stat(`${dir}/file`))
      await refused('EACCES', c.alice.open(`${dir}/file`, O_RDONLY))
      await refused('EACCES', c.alice.chdir(dir))

      await c.alice.chmod(dir, 0o300)
      await refused('EACCES', c.alice.names(dir))
      expect((await c.alice.readFile(`${dir}/file`)).toString()).toBe('x')
      await c.alice.writeFile(`${dir}/another`, 'y')

      await c.alice.chmod(dir, 0o500)
      await refused('EACCES', c.alice.open(`${dir}/new`, O_CREAT | O_WRONLY))
      await refused('EACCES', c.alice.mkdir(`${dir}/new`))
      await refused('EACCES', c.alice.symlink('x', `${dir}/new`))
      await refused('EACCES', c.alice.link(`${dir}/file`, `${dir}/new`))
      await refused('EACCES', c.alice.unlink(`${dir}/file`))
      await refused('EACCES', c.alice.rename(`${dir}/file`, `${dir}/new`))
      await refused('EACCES', c.alice.rename(`${dir}/file`, `${c.dir}/outside`))
      await c.alice.writeFile(`${dir}/file`, 'content needs no write permission on the directory')

      await c.alice.chmod(dir, 0o700)
      expect(await c.alice.names(dir)).toEqual(['another', 'file'])
    },
  },
  {
    name: 'a change of a directory mode takes effect at once for whoever was in it before',
    needs: ['root'],
    async run(c) {
      const dir = await directoryOf(c, 'd', BOB, 0o755)
      await c.me.writeFile(`${dir}/file`, 'x')
      expect((await c.carol.readFile(`${dir}/file`)).toString()).toBe('x')
      await c.bob.chmod(dir, 0o700)
      await refused('EACCES', c.carol.stat(`${dir}/file`))
      await refused('EACCES', c.carol.open(`${dir}/file`, O_RDONLY))
      await c.bob.chmod(dir, 0o711)
      expect((await c.carol.readFile(`${dir}/file`)).toString()).toBe('x')
      await refused('EACCES', c.carol.names(dir))
    },
  },
  {
    name: 'a descriptor keeps the access that it was opened with',
    needs: ['root'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, 'before')
      const fd = await c.alice.open(`${c.dir}/file`, O_RDWR)
      await c.me.chown(`${c.dir}/file`, 0, 0)
      await c.me.chmod(`${c.dir}/file`, 0)
      await refused('EACCES', c.alice.open(`${c.dir}/file`, O_RDONLY))
      await c.alice.write(fd, 'after', 0)
      expect((await c.alice.read(fd, 100, 0)).toString()).toBe('aftere')
      await c.alice.ftruncate(fd, 5)
      expect((await c.me.readFile(`${c.dir}/file`)).toString()).toBe('after')
    },
  },
  {
    name: 'supplementary groups count',
    needs: ['root'],
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, 'for the team')
      await c.me.chown(`${c.dir}/file`, 0, TEAM)
      await c.me.chmod(`${c.dir}/file`, 0o060)
      expect((await c.alice.readFile(`${c.dir}/file`)).toString()).toBe('for the team')
      await c.bob.writeFile(`${c.dir}/file`, 'by the team')
      await refused('EACCES', c.carol.open(`${c.dir}/file`, O_RDONLY))
    },
  },
  {
    name: 'in a sticky directory only owners remove and rename',
    needs: ['root'],
    async run(c) {
      const dir = await directoryOf(c, 'tmp', CAROL, 0o1777)
      await c.alice.writeFile(`${dir}/file`, 'x')
      await c.alice.chmod(`${dir}/file`, 0o666)
      await c.alice.mkdir(`${dir}/sub`)
      await c.bob.writeFile(`${dir}/bobs`, 'y')
      await refused('EPERM', c.bob.unlink(`${dir}/file`))
      await refused('EPERM', c.bob.rename(`${dir}/file`, `${dir}/mine`))
      await refused('EPERM', c.bob.rename(`${dir}/bobs`, `${dir}/file`))
      await refused('EPERM', c.bob.rmdir(`${dir}/sub`))
      await c.bob.writeFile(`${dir}/file`, 'writing is another thing', 0, O_WRONLY)
      await c.alice.rename(`${dir}/file`, `${dir}/moved`)
      await c.carol.unlink(`${dir}/moved`)
      await c.alice.rmdir(`${dir}/sub`)
      expect(await c.me.names(dir)).toEqual(['bobs'])
    },
  },
  {
    name: 'truncate by path needs write permission, utimes explicit times the owner',
    needs: ['root'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, 'content')
      await c.alice.chmod(`${c.dir}/file`, 0o644)
      await refused('EACCES', c.bob.truncate(`${c.dir}/file`, 0))
      await refused('EACCES', c.bob.touch(`${c.dir}/file`))
      await refused('EPERM', c.bob.utimens(`${c.dir}/file`, 0n, 0n))
      await c.alice.chmod(`${c.dir}/file`, 0o666)
      await c.bob.touch(`${c.dir}/file`)
      await c.bob.utimens(`${c.dir}/file`, 'now', 'now')
      await refused('EPERM', c.bob.utimens(`${c.dir}/file`, 0n, 0n))
      await refused('EPERM', c.bob.utimens(`${c.dir}/file`, 'now', 'omit'))
      await c.bob.utimens(`${c.dir}/file`, 'omit', 'omit')
      await c.bob.truncate(`${c.dir}/file`, 3)
      await c.alice.utimens(`${c.dir}/file`, 1n, 2n)
      expect(await c.me.stat(`${c.dir}/file`)).toMatchObject({ size: 3, atimeNs: 1n, mtimeNs: 2n })
    },
  },
  {
    name: 'a program runs if its bits let the caller, a script too',
    needs: ['root'],
    async run(c) {
      const script = `${c.dir}/script`
      await c.alice.writeFile(script, '#!/bin/sh\necho "ran with $1"\n')
      await c.alice.chmod(script, 0o644)
      expect(await c.alice.execute(script, ['x'])).toMatchObject({ code: 'EACCES' })
      await c.alice.chmod(script, 0o750)
      expect(await c.alice.execute(script, ['it'])).toMatchObject({ status: 0, stdout: 'ran with it\n' })
      expect(await c.carol.execute(script, ['it'])).toMatchObject({ code: 'EACCES' })
      await c.me.writeFile(`${c.dir}/binary`, await c.me.readFile('/bin/echo'))
      await c.me.chmod(`${c.dir}/binary`, 0o755)
      expect(await c.carol.execute(`${c.dir}/binary`, ['hello'])).toMatchObject({
        status: 0,
        stdout: 'hello\n',
      })
    },
  },
  {
    name: 'chmod keeps and reports all twelve bits',
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.mkdir(`${c.dir}/directory`)
      for (const mode of [0o7777, 0o4755, 0o2755, 0o1644, 0o6711, 0, 0o111, 0o444]) {
        for (const name of ['file', 'directory']) {
          await c.me.chmod(`${c.dir}/${name}`, mode)
          expect((await c.second.stat(`${c.dir}/${name}`)).mode & PERMISSIONS, name).toBe(mode)
        }
      }
      const fd = await c.me.open(`${c.dir}/file`, O_RDONLY)
      await c.me.fchmod(fd, 0o4711)
      expect((await c.second.stat(`${c.dir}/file`)).mode & PERMISSIONS).toBe(0o4711)
    },
  },
]
