import { expect } from 'vitest'
import { O_RDWR, S_IFIFO, XATTR_CREATE, XATTR_REPLACE } from '../../support/posix/constants.ts'
import { CAPABILITY_NET_RAW } from '../../support/posix/features.ts'
import { type CaseContext, type PosixCase, pattern, refused } from '../case.ts'

async function fileIn(c: CaseContext, name = 'file'): Promise<string> {
  const path = `${c.dir}/${name}`
  await c.me.writeFile(path, 'x')
  return path
}

async function listed(c: CaseContext, path: string): Promise<string[]> {
  return (await c.second.listxattr(path)).map((name) => name.toString('latin1'))
}

export const xattrs: readonly PosixCase[] = [
  {
    name: 'attributes are set, read, listed, replaced and removed, on files and directories',
    needs: ['userXattrs'],
    async run(c) {
      await c.me.mkdir(`${c.dir}/directory`)
      for (const path of [await fileIn(c), `${c.dir}/directory`]) {
        expect(await listed(c, path)).toEqual([])
        await c.me.setxattr(path, 'user.one', 'first')
        await c.me.setxattr(path, 'user.two', pattern(200))
        expect(await listed(c, path)).toEqual(['user.one', 'user.two'])
        expect((await c.second.getxattr(path, 'user.one')).toString()).toBe('first')
        expect((await c.second.getxattr(path, 'user.two')).equals(pattern(200))).toBe(true)
        await c.me.setxattr(path, 'user.one', 'a longer value than the first')
        await c.me.setxattr(path, 'user.two', '')
        expect((await c.second.getxattr(path, 'user.one')).toString()).toBe('a longer value than the first')
        expect((await c.second.getxattr(path, 'user.two')).length).toBe(0)
        await c.me.removexattr(path, 'user.one')
        expect(await listed(c, path)).toEqual(['user.two'])
        await refused('ENODATA', c.me.getxattr(path, 'user.one'))
        await refused('ENODATA', c.me.removexattr(path, 'user.one'))
      }
    },
  },
  {
    name: 'values are bytes, names are bytes, both come back as they were',
    needs: ['userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      const names = ['user.\xff\xfe', 'user.a b', 'user.caf\xc3\xa9', 'user.x.y.z', `user.${'n'.repeat(250)}`]
      for (const [index, name] of names.entries()) {
        await c.me.setxattr(path, Buffer.from(name, 'latin1'), Buffer.from([0, index, 255, 0]))
      }
      expect(await listed(c, path)).toEqual([...names].sort())
      for (const [index, name] of names.entries()) {
        const value = await c.second.getxattr(path, Buffer.from(name, 'latin1'))
        expect(value.equals(Buffer.from([0, index, 255, 0])), name).toBe(true)
      }
      await refused('ERANGE', c.me.setxattr(path, `user.${'n'.repeat(251)}`, 'x'))
    },
  },
  {
    name: 'XATTR_CREATE and XATTR_REPLACE insist',
    needs: ['userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      await refused('ENODATA', c.me.setxattr(path, 'user.a', 'x', XATTR_REPLACE))
      await c.me.setxattr(path, 'user.a', 'created', XATTR_CREATE)
      await refused('EEXIST', c.me.setxattr(path, 'user.a', 'x', XATTR_CREATE))
      expect((await c.me.getxattr(path, 'user.a')).toString()).toBe('created')
      await c.me.setxattr(path, 'user.a', 'replaced', XATTR_REPLACE)
      expect((await c.me.getxattr(path, 'user.a')).toString()).toBe('replaced')
    },
  },
  {
    name: 'a buffer that is too small is ERANGE, none at all asks for the size',
    needs: ['userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      await c.me.setxattr(path, 'user.a', pattern(100))
      expect(await c.me.getxattrInto(path, 'user.a', 0)).toBe(100)
      expect(await c.me.getxattrInto(path, 'user.a', 100)).toBe(100)
      expect(await c.me.getxattrInto(path, 'user.a', 5000)).toBe(100)
      await refused('ERANGE', c.me.getxattrInto(path, 'user.a', 99))
      expect(await c.me.listxattrInto(path, 0)).toBe('user.a'.length + 1)
      await refused('ERANGE', c.me.listxattrInto(path, 3))
    },
  },
  {
    name: 'large values: 3 KiB is kept, more than 64 KiB is E2BIG',
    needs: ['userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      await c.me.setxattr(path, 'user.large', pattern(3000))
      expect((await c.second.getxattr(path, 'user.large')).equals(pattern(3000))).toBe(true)
      await refused('E2BIG', c.me.setxattr(path, 'user.larger', Buffer.alloc(65_537)))
      expect(await listed(c, path)).toEqual(['user.large'])
    },
  },
  {
    name: 'attributes belong to the file: hard links share them, a rename and a write keep them',
    needs: ['userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      await c.me.setxattr(path, 'user.a', 'value')
      await c.me.link(path, `${c.dir}/link`)
      expect((await c.second.getxattr(`${c.dir}/link`, 'user.a')).toString()).toBe('value')
      await c.me.setxattr(`${c.dir}/link`, 'user.a', 'through the link')
      await c.me.rename(path, `${c.dir}/renamed`)
      await c.me.writeFile(`${c.dir}/renamed`, 'new content')
      await c.me.truncate(`${c.dir}/renamed`, 0)
      expect((await c.second.getxattr(`${c.dir}/renamed`, 'user.a')).toString()).toBe('through the link')
      await fileIn(c, 'new')
      await c.me.rename(`${c.dir}/new`, `${c.dir}/renamed`)
      expect(await listed(c, `${c.dir}/renamed`), 'replaced by a file without').toEqual([])
    },
  },
  {
    name: 'a descriptor and a path see the same attributes',
    needs: ['userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      const fd = await c.me.open(path, O_RDWR)
      await c.me.fsetxattr(fd, 'user.a', 'by descriptor')
      expect((await c.second.getxattr(path, 'user.a')).toString()).toBe('by descriptor')
      await c.second.setxattr(path, 'user.a', 'by path')
      expect((await c.me.fgetxattr(fd, 'user.a')).toString()).toBe('by path')
    },
  },
  {
    name: 'user attributes are for files and directories, and need write permission',
    needs: ['root', 'userXattrs'],
    async run(c) {
      const path = await fileIn(c)
      await c.me.symlink('file', `${c.dir}/link`)
      await c.me.mknod(`${c.dir}/fifo`, S_IFIFO | 0o666)
      await refused('EPERM', c.me.setxattr(`${c.dir}/link`, 'user.a', 'x'))
      await refused('EPERM', c.me.setxattr(`${c.dir}/fifo`, 'user.a', 'x'))
      await c.me.setxattrFollowing(`${c.dir}/link`, 'user.a', 'through the link')
      expect((await c.second.getxattr(path, 'user.a')).toString()).toBe('through the link')
      await c.me.chmod(path, 0o644)
      await refused('EACCES', c.alice.setxattr(path, 'user.a', 'x'))
      expect((await c.alice.getxattr(path, 'user.a')).toString()).toBe('through the link')
      await c.me.chmod(path, 0o622)
      await c.alice.setxattr(path, 'user.b', 'x')
      await refused('EACCES', c.alice.getxattr(path, 'user.a'))
    },
  },
  {
    name: 'in a sticky directory of another only the owner sets its attributes',
    needs: ['root', 'userXattrs'],
    async run(c) {
      await c.me.mkdir(`${c.dir}/tmp`)
      await c.me.chmod(`${c.dir}/tmp`, 0o1777)
      await refused('EPERM', c.alice.setxattr(`${c.dir}/tmp`, 'user.a', 'x'))
      await c.me.setxattr(`${c.dir}/tmp`, 'user.a', 'x')
      expect(await listed(c, `${c.dir}/tmp`)).toEqual(['user.a'])
    },
  },
  {
    name: 'trusted attributes are for root alone, on links too',
    needs: ['root', 'trustedXattrs'],
    async run(c) {
      const path = await fileIn(c)
      await c.me.chmod(path, 0o666)
      await c.me.symlink('file', `${c.dir}/link`)
      await c.me.setxattr(path, 'trusted.a', 'secret')
      await c.me.setxattr(`${c.dir}/link`, 'trusted.b', 'of the link')
      expect(await listed(c, path)).toEqual(['trusted.a'])
      expect(await listed(c, `${c.dir}/link`)).toEqual(['trusted.b'])
      expect((await c.second.getxattr(`${c.dir}/link`, 'trusted.b')).toString()).toBe('of the link')
      await refused('EPERM', c.alice.setxattr(path, 'trusted.a', 'x'))
      await refused('ENODATA', c.alice.getxattr(path, 'trusted.a'))
      expect(await c.alice.listxattr(path)).toEqual([])
    },
  },
  {
    name: 'security.capability is kept as it was set',
    needs: ['root', 'fileCapabilities'],
    async run(c) {
      const path = await fileIn(c)
      await c.me.setxattr(path, 'security.capability', CAPABILITY_NET_RAW)
      expect((await c.second.getxattr(path, 'security.capability')).equals(CAPABILITY_NET_RAW)).toBe(true)
      expect(await listed(c, path)).toEqual(['security.capability'])
      await c.me.removexattr(path, 'security.capability')
      expect(await listed(c, path)).toEqual([])
    },
  },
  {
    name: 'unknown namespaces are refused, missing files are missing',
    async run(c) {
      const path = await fileIn(c)
      await refused('EOPNOTSUPP', c.me.setxattr(path, 'nonsense.a', 'x'))
      await refused('EOPNOTSUPP', c.me.setxattr(path, 'noprefix', 'x'))
      await refused('ENOENT', c.me.setxattr(`${c.dir}/missing`, 'user.a', 'x'))
      await refused('ENOENT', c.me.listxattr(`${c.dir}/missing`))
      await refused('ENOENT', c.me.getxattr(`${c.dir}/missing`, 'user.a'))
    },
  },
]
