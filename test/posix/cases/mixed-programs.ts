import { expect } from 'vitest'
import { aclEntries, encodeAcl } from '../../support/posix/acl.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'
import { O_RDWR, S_IFCHR, S_IFIFO } from '../../support/posix/constants.ts'
import { CAPABILITY_NET_RAW } from '../../support/posix/features.ts'
import { hasProgram, runProgram } from '../../support/posix/run-program.ts'
import { ALICE, BOB, bytesIn, type CaseContext, type PosixCase, pattern, TEAM } from '../case.ts'

/** A small tree with one of everything that a backup program has to carry. */
async function makeTree(c: CaseContext, root: string): Promise<void> {
  const { me } = c
  await me.mkdir(root)
  await me.mkdir(`${root}/d`)
  await me.mkdir(`${root}/d/empty`, 0o700)
  await me.writeFile(`${root}/d/file`, pattern(100_000))
  await me.writeFile(`${root}/empty`, '')
  await me.writeFile(`${root}/executable`, '#!/bin/sh\n', 0o755)
  await me.chmod(`${root}/executable`, 0o6755)
  await me.link(`${root}/d/file`, `${root}/hard-link`)
  await me.symlink('d/file', `${root}/link`)
  await me.symlink('nowhere/at all', `${root}/dangling`)
  await me.mknod(`${root}/fifo`, S_IFIFO | 0o640)
  await me.writeFile(bytesIn(root, '\xff not \xfe utf-8'), 'a name of bytes')
  await me.writeFile(`${root}/${'n'.repeat(255)}`, 'the longest name')
  const sparse = await me.open(`${root}/sparse`, O_RDWR | 0o100)
  await me.write(sparse, pattern(5000), 3 << 20)
  await me.ftruncate(sparse, 8 << 20)
  for (const [name, uid, gid] of [
    ['d', ALICE, TEAM],
    ['d/file', BOB, BOB],
    ['fifo', ALICE, ALICE],
  ] as const) {
    await me.chown(`${root}/${name}`, uid, gid)
  }
  await me.lchown(`${root}/link`, BOB, TEAM)
  await me.chmod(`${root}/d`, 0o2775)
  await me.mknod(`${root}/device`, S_IFCHR | 0o600, 0x103n)
  await me.setxattr(`${root}/d/file`, 'user.comment', pattern(300))
  await me.setxattr(`${root}/d`, 'user.comment', 'a directory')
  await me.setxattr(`${root}/executable`, 'security.capability', CAPABILITY_NET_RAW)
  const acl = encodeAcl(aclEntries('rwx', 'r-x', '---', { users: { [BOB]: 'rwx' }, mask: 'rwx' }))
  await me.setxattr(`${root}/d/empty`, 'system.posix_acl_default', acl)
  await me.setxattr(`${root}/d/empty`, 'system.posix_acl_access', acl)
  let moment = 1_000_000_000_123_456_789n
  for (const { path } of (await me.snapshot(root)).reverse()) {
    moment += 86_400_000_000_001n
    await me.lutimens(path === '' ? root : bytesIn(root, path), moment, moment)
  }
}

/** Runs a program with arguments that hold FROM and TO, and holds the copy against what it was made from. */
async function expectFaithful(c: CaseContext, program: string, args: string[]): Promise<void> {
  if (!(await hasProgram(program))) c.skip(`${program} is not installed`)
  const [from, to] = [`${c.dir}/from`, `${c.dir}/to`]
  await makeTree(c, from)
  const before = await c.me.snapshot(from)
  await runProgram(
    program,
    args.map((arg) => arg.replaceAll('FROM', from).replaceAll('TO', to).replaceAll('DIR', c.dir)),
    c.dir,
  )
  expect(compareTrees(before, await c.me.snapshot(to))).toEqual([])
  expect(compareTrees(before, await c.me.snapshot(from)), 'the original is untouched').toEqual([])
  expect((await c.me.stat(`${to}/sparse`)).blocks * 512, 'holes are kept').toBeLessThan(1 << 20)
}

const NEEDS = ['root', 'devices', 'acl', 'userXattrs', 'fileCapabilities', 'sparse', 'nanoseconds'] as const

export const mixedPrograms: readonly PosixCase[] = [
  {
    name: 'tar there and back loses nothing',
    needs: NEEDS,
    async run(c) {
      const script =
        'mkdir TO && tar --sparse --xattrs --xattrs-include=* --acls --numeric-owner --format=posix -C FROM -cf DIR/archive.tar . && ' +
        'tar --xattrs --xattrs-include=* --acls --numeric-owner --same-owner -p -C TO -xf DIR/archive.tar'
      if (!(await hasProgram('tar'))) c.skip('tar is not installed')
      await expectFaithful(c, 'sh', ['-c', script])
    },
  },
  {
    name: 'cp -a copies everything',
    needs: NEEDS,
    async run(c) {
      await expectFaithful(c, 'cp', ['-a', '--sparse=always', 'FROM', 'TO'])
    },
  },
  {
    name: 'rsync -aHAX copies everything, and finds nothing to do the second time',
    needs: NEEDS,
    async run(c) {
      await expectFaithful(c, 'rsync', ['-aHAX', '--sparse', '--specials', '--devices', 'FROM/', 'TO'])
      const again = await runProgram(
        'rsync',
        ['-aHAXi', '--checksum', `${c.dir}/from/`, `${c.dir}/to`],
        c.dir,
      )
      expect(again.stdout).toBe('')
    },
  },
  {
    name: 'mv of a tree keeps everything',
    needs: NEEDS,
    async run(c) {
      await makeTree(c, `${c.dir}/from`)
      const before = await c.me.snapshot(`${c.dir}/from`)
      await runProgram('mv', [`${c.dir}/from`, `${c.dir}/to`], c.dir)
      const after = await c.me.snapshot(`${c.dir}/to`)
      expect(compareTrees(before, after)).toEqual([])
      expect(after.map(({ ino }) => ino)).toEqual(before.map(({ ino }) => ino))
    },
  },
  {
    name: 'find, du and rm see and remove all of it',
    needs: NEEDS,
    async run(c) {
      await makeTree(c, `${c.dir}/from`)
      const count = (await c.me.snapshot(`${c.dir}/from`)).length
      const found = await runProgram('find', [`${c.dir}/from`, '-printf', 'x\\n'], c.dir)
      expect(found.stdout.trim().split('\n')).toHaveLength(count)
      const { stdout } = await runProgram('du', ['-s', '--block-size=1', `${c.dir}/from`], c.dir)
      expect(Number.parseInt(stdout, 10), 'holes not counted').toBeLessThan(4 << 20)
      await runProgram('rm', ['-r', `${c.dir}/from`], c.dir)
      expect(await c.me.names(c.dir)).toEqual([])
    },
  },
]
