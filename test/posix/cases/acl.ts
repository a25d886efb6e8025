import { expect } from 'vitest'
import { aclEntries, decodeAcl, encodeAcl } from '../../support/posix/acl.ts'
import { O_CREAT, O_RDONLY, O_WRONLY, PERMISSIONS } from '../../support/posix/constants.ts'
import { BOB, CAROL, type CaseContext, type PosixCase, refused, TEAM } from '../case.ts'

const ACCESS = 'system.posix_acl_access'
const DEFAULT = 'system.posix_acl_default'

async function setAcl(c: CaseContext, path: string, ...acl: Parameters<typeof aclEntries>): Promise<void> {
  await c.me.setxattr(path, ACCESS, encodeAcl(aclEntries(...acl)))
}

async function aclOf(c: CaseContext, path: string, kind = ACCESS) {
  return decodeAcl(await c.me.getxattr(path, kind))
}

async function modeOf(c: CaseContext, path: string): Promise<number> {
  return (await c.me.stat(path)).mode & PERMISSIONS
}

export const accessControlLists: readonly PosixCase[] = [
  {
    name: 'a named user gets what the list says, as far as the mask lets him',
    needs: ['root', 'acl'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'secret')
      await c.me.chmod(path, 0o600)
      await refused('EACCES', c.bob.open(path, O_RDONLY))
      await setAcl(c, path, 'rw-', '---', '---', { users: { [BOB]: 'rw-' }, mask: 'rw-' })
      expect((await c.bob.readFile(path)).toString()).toBe('secret')
      await c.bob.writeFile(path, 'written', 0, O_WRONLY)
      await refused('EACCES', c.carol.open(path, O_RDONLY))
      await setAcl(c, path, 'rw-', '---', '---', { users: { [BOB]: 'rw-' }, mask: 'r--' })
      await refused('EACCES', c.bob.open(path, O_WRONLY))
      expect((await c.bob.readFile(path)).toString()).toBe('written')
    },
  },
  {
    name: 'removing the list that a file does not have succeeds and changes nothing',
    needs: ['acl'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'x')
      await c.me.chmod(path, 0o640)
      const { ctimeNs } = await c.me.stat(path)
      await c.me.removexattr(path, ACCESS)
      await c.me.removexattr(path, DEFAULT)
      const after = await c.me.stat(path)
      expect(after.mode & PERMISSIONS).toBe(0o640)
      expect(after.ctimeNs).toBe(ctimeNs)
    },
  },
  {
    name: 'a named group too, and a denied user is not helped by the others',
    needs: ['root', 'acl'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'x')
      await setAcl(c, path, 'rw-', '---', 'r--', {
        users: { [CAROL]: '---' },
        groups: { [TEAM]: 'r--' },
        mask: 'r--',
      })
      expect((await c.alice.readFile(path)).toString()).toBe('x')
      await refused('EACCES', c.carol.open(path, O_RDONLY))
    },
  },
  {
    name: 'mode bits and list are two views of one thing',
    needs: ['acl'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'x')
      await setAcl(c, path, 'rwx', 'r--', '--x', { users: { [BOB]: 'rwx' }, mask: 'rw-' })
      expect(await modeOf(c, path), 'the group bits show the mask').toBe(0o761)
      await c.me.chmod(path, 0o640)
      expect(await aclOf(c, path), 'chmod changes the mask').toEqual(
        aclEntries('rw-', 'r--', '---', { users: { [BOB]: 'rwx' }, mask: 'r--' }),
      )
      await setAcl(c, path, 'rw-', 'rw-', 'r--')
      expect(await modeOf(c, path)).toBe(0o664)
      await refused('ENODATA', c.me.getxattr(path, ACCESS))
    },
  },
  {
    name: 'a list can be removed',
    needs: ['root', 'acl'],
    async run(c) {
      const path = `${c.dir}/file`
      await c.me.writeFile(path, 'x')
      await setAcl(c, path, 'rw-', '---', '---', { users: { [BOB]: 'r--' }, mask: 'r--' })
      expect((await c.bob.readFile(path)).toString()).toBe('x')
      await c.me.removexattr(path, ACCESS)
      expect(await c.me.listxattr(path)).toEqual([])
      expect(await modeOf(c, path)).toBe(0o640)
      await refused('EACCES', c.bob.open(path, O_RDONLY))
    },
  },
  {
    name: 'a default list is inherited, and takes the place of the umask',
    needs: ['root', 'acl'],
    async run(c) {
      const dir = `${c.dir}/directory`
      await c.me.mkdir(dir)
      const inherited = aclEntries('rwx', 'r-x', '---', { users: { [BOB]: 'rwx' }, mask: 'rwx' })
      await c.me.setxattr(dir, DEFAULT, encodeAcl(inherited))
      await c.me.umask(0o077)
      await c.me.close(await c.me.open(`${dir}/file`, O_CREAT | O_WRONLY, 0o666))
      await c.me.mkdir(`${dir}/sub`, 0o770)
      await c.me.mknod(`${dir}/node`, 0o100600)

      expect(await modeOf(c, `${dir}/file`), 'file').toBe(0o660)
      expect(await aclOf(c, `${dir}/file`)).toEqual(
        aclEntries('rw-', 'r-x', '---', { users: { [BOB]: 'rwx' }, mask: 'rw-' }),
      )
      await refused('ENODATA', c.me.getxattr(`${dir}/file`, DEFAULT))
      expect(await modeOf(c, `${dir}/sub`), 'directory').toBe(0o770)
      expect(await aclOf(c, `${dir}/sub`)).toEqual(inherited)
      expect(await aclOf(c, `${dir}/sub`, DEFAULT)).toEqual(inherited)
      expect(await modeOf(c, `${dir}/node`), 'mknod').toBe(0o600)
      expect(await aclOf(c, `${dir}/node`)).toEqual(
        aclEntries('rw-', 'r-x', '---', { users: { [BOB]: 'rwx' }, mask: '---' }),
      )
    },
  },
  {
    name: 'a default list of plain entries gives plain modes',
    needs: ['acl'],
    async run(c) {
      const dir = `${c.dir}/directory`
      await c.me.mkdir(dir)
      await c.me.setxattr(dir, DEFAULT, encodeAcl(aclEntries('rwx', 'rwx', 'r-x')))
      await c.me.umask(0o077)
      await c.me.close(await c.me.open(`${dir}/file`, O_CREAT | O_WRONLY, 0o666))
      await c.me.mkdir(`${dir}/sub`, 0o777)
      expect(await modeOf(c, `${dir}/file`)).toBe(0o664)
      expect(await modeOf(c, `${dir}/sub`)).toBe(0o775)
      await refused('ENODATA', c.me.getxattr(`${dir}/file`, ACCESS))
    },
  },
  {
    name: 'a default list needs a directory, a list neither link nor nonsense',
    needs: ['acl'],
    async run(c) {
      await c.me.writeFile(`${c.dir}/file`, '')
      await c.me.symlink('file', `${c.dir}/link`)
      const acl = encodeAcl(aclEntries('rw-', 'r--', 'r--'))
      await refused('EACCES', c.me.setxattr(`${c.dir}/file`, DEFAULT, acl))
      await refused('EOPNOTSUPP', c.me.setxattr(`${c.dir}/link`, ACCESS, acl))
      await refused('EINVAL', c.me.setxattr(`${c.dir}/file`, ACCESS, acl.subarray(0, 12)))
      await refused(['EINVAL', 'EOPNOTSUPP'], c.me.setxattr(`${c.dir}/file`, ACCESS, 'nonsense!!!'))
      const withoutMask = encodeAcl(aclEntries('rw-', 'r--', 'r--', { users: { 7: 'r--' } }))
      await refused('EINVAL', c.me.setxattr(`${c.dir}/file`, ACCESS, withoutMask))
      expect(await c.me.listxattr(`${c.dir}/file`)).toEqual([])
    },
  },
  {
    name: 'only the owner sets a list',
    needs: ['root', 'acl'],
    async run(c) {
      await c.alice.writeFile(`${c.dir}/file`, '')
      await c.alice.chmod(`${c.dir}/file`, 0o666)
      const acl = encodeAcl(aclEntries('rw-', 'r--', 'r--', { users: { [BOB]: 'rw-' }, mask: 'rw-' }))
      await refused('EPERM', c.bob.setxattr(`${c.dir}/file`, ACCESS, acl))
      await c.alice.setxattr(`${c.dir}/file`, ACCESS, acl)
      expect((await c.carol.getxattr(`${c.dir}/file`, ACCESS)).toString('hex')).toBe(acl.toString('hex'))
    },
  },
]
