import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { Bridge } from '../../../src/fuse/native/bridge.ts'
import { inode32, nativeStatFs, statWords } from '../../../src/fuse/native/convert.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'

const O_RDWR = 2
const HIDDEN = '.fuse_hidden0000000500000001'

describe('fuse-native: paths onto node ids', () => {
  let fileSystem: MemoryFileSystem
  let bridge: Bridge

  beforeEach(() => {
    fileSystem = new MemoryFileSystem()
    fileSystem.entryTtlMs = 60_000
    bridge = new Bridge(fileSystem, keepingLog())
  })

  async function file(path: string, content = ''): Promise<void> {
    await bridge.mknod(path, 0o100644, 0)
    const number = await bridge.open(path, O_RDWR)
    await bridge.write(number, 0, Buffer.from(content))
    await bridge.release(number)
  }

  const lookups = (): bigint => [...fileSystem.nodes.values()].reduce((sum, node) => sum + node.lookups, 0n)

  it('P6: gives every look-up back, and remembers directories only while it may', async () => {
    await bridge.mkdir('/a', 0o755)
    await bridge.mkdir('/a/b', 0o755)
    await file('/a/b/file', 'content')
    fileSystem.calls.length = 0
    await bridge.getattr('/a/b/file')
    await bridge.getattr('/a/b/file')
    expect(fileSystem.calls.filter((call) => call === 'lookup').length).toBe(2)
    await bridge.close()
    expect(lookups()).toBe(0n)
  })

  it('P6: remembers a bounded number of directories', async () => {
    for (let index = 0; index < 5000; index++) {
      await bridge.mkdir(`/d${index}`, 0o755)
      await expect(bridge.getattr(`/d${index}/x`)).rejects.toMatchObject({ code: 'ENOENT' })
    }
    expect(lookups()).toBe(4096n)
    await bridge.close()
    expect(lookups()).toBe(0n)
  })

  it('P1: a remembered directory is forgotten with its rename and removal', async () => {
    await bridge.mkdir('/a', 0o755)
    await bridge.mkdir('/a/b', 0o755)
    await file('/a/b/file', 'first')
    await bridge.rename('/a', '/z')
    await expect(bridge.getattr('/a/b/file')).rejects.toMatchObject({ code: 'ENOENT' })
    expect((await bridge.getattr('/z/b/file')).size).toBe(5)
    await bridge.unlink('/z/b/file')
    await bridge.rmdir('/z/b')
    await bridge.mkdir('/z/b', 0o755)
    await file('/z/b/file', 'the second')
    expect((await bridge.getattr('/z/b/file')).size).toBe(10)
  })

  it('P1: what libfuse hides is unlinked, and stays what it was to who has it open', async () => {
    await file('/file', 'content')
    const number = await bridge.open('/file', O_RDWR)
    await bridge.rename('/file', `/${HIDDEN}`)
    expect((await bridge.readdir('/')).names).toEqual(['.', '..'])
    expect((await bridge.getattr(`/${HIDDEN}`)).nlink).toBe(0)
    expect((await bridge.read(number, 0, 100)).toString()).toBe('content')
    await bridge.release(number)
    await bridge.close()
    expect(lookups()).toBe(0n)
    expect(fileSystem.nodes.size).toBe(1)
  })

  it('P2: a replaced open file is there until the new one is in its place', async () => {
    await file('/file', 'old')
    await file('/new', 'new')
    const number = await bridge.open('/file', O_RDWR)
    await bridge.rename('/file', `/${HIDDEN}`)
    expect(fileSystem.calls).not.toContain('unlink')
    await bridge.rename('/new', '/file')
    expect(fileSystem.calls).toContain('unlink')
    expect((await bridge.readdir('/')).names).toEqual(['.', '..', 'file'])
    expect((await bridge.read(number, 0, 100)).toString()).toBe('old')
  })

  it('P2: a closed file that a program gives such a name is a file', async () => {
    await file('/file', 'content')
    await bridge.rename('/file', `/${HIDDEN}`)
    expect((await bridge.readdir('/')).names).toContain(HIDDEN)
    await bridge.close()
    expect((await bridge.getattr(`/${HIDDEN}`)).size).toBe(7)
  })

  it('P1: a name that is not UTF-8 is refused in every operation', async () => {
    await file('/file')
    const mangled = '/a\ufffd'
    const calls = [
      () => bridge.getattr(mangled),
      () => bridge.mknod(mangled, 0o100644, 0),
      () => bridge.mkdir(mangled, 0o755),
      () => bridge.symlink('target', mangled),
      () => bridge.symlink('\ufffd', '/link'),
      () => bridge.link('/file', mangled),
      () => bridge.rename('/file', mangled),
      () => bridge.unlink(mangled),
      () => bridge.open(mangled, O_RDWR),
      () => bridge.readdir(mangled),
      () => bridge.setxattr('/file', 'user.\ufffd', Buffer.alloc(0), 0),
    ]
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'EILSEQ' })
  })

  it('P1: a file is open by several names only for reading', async () => {
    await file('/a', 'content')
    await bridge.link('/a', '/b')
    const reader = await bridge.open('/a', 0)
    const busy = { code: 'EBUSY' }
    await expect(bridge.open('/b', O_RDWR)).rejects.toMatchObject(busy)
    await expect(bridge.truncate('/b', 0)).rejects.toMatchObject(busy)
    const second = await bridge.open('/b', 0)
    const writer = bridge.open('/a', O_RDWR)
    await expect(writer).rejects.toMatchObject(busy)
    await bridge.release(second)
    await bridge.rename('/a', '/c')
    await bridge.release(await bridge.open('/c', O_RDWR))
    await bridge.release(reader)
    await bridge.truncate('/b', 0)
  })

  it('nobody makes a program that runs with the rights of the user who mounted', async () => {
    await bridge.mknod('/program', 0o106755, 0)
    expect((await bridge.getattr('/program')).mode).toBe(0o100755)
  })

  it('a handle that nobody opened is EBADF', async () => {
    await expect(bridge.read(77, 0, 1)).rejects.toMatchObject({ code: 'EBADF' })
  })
})

describe('fuse-native: numbers in 32 bits', () => {
  it('P1: no two files have one inode number, on a volume and in a store of fewer than 2^31 files', () => {
    const small = fc.bigInt(1n, (1n << 31n) - 1n)
    const own = fc.bigInt(0n, (1n << 31n) - 1n).map((count) => (1n << 48n) + count)
    fc.assert(
      fc.property(fc.uniqueArray(fc.oneof(small, own), { minLength: 2 }), (numbers) => {
        const folded = numbers.map(inode32)
        expect(new Set(folded).size).toBe(numbers.length)
        for (const number of folded)
          expect(Number.isInteger(number) && number > 0 && number < 2 ** 32).toBe(true)
      }),
    )
  })

  it('larger numbers are never 0, and always the same', () => {
    fc.assert(
      fc.property(fc.bigInt(1n << 31n, (1n << 64n) - 1n), (number) => {
        const folded = inode32(number)
        expect(folded).toBeGreaterThan(0)
        expect(folded).toBeLessThan(2 ** 32)
      }),
    )
  })

  it('attributes keep sizes beyond 4 GiB and a link count of 0', () => {
    const words = statWords({
      ino: 5n,
      mode: 0o100644,
      nlink: 0,
      uid: 1,
      gid: 2,
      rdev: 3,
      size: 2 ** 40 + 7,
      blocks: 2 ** 33,
      blksize: 4096,
      atimeNs: -1n,
      mtimeNs: 1_700_000_000_123_999_999n,
      ctimeNs: 0n,
    })
    const low = 1_700_000_000_123 % 2 ** 32
    const high = Math.floor(1_700_000_000_123 / 2 ** 32)
    expect([...words]).toEqual([0o100644, 1, 2, 7, 256, 0, 0, 5, 3, 4096, 0, 2, 0, 0, low, high, 0, 0])
  })

  it('a large volume is given in larger blocks', () => {
    const space = { bfree: 1n << 39n, bavail: 1n << 38n, files: 1n << 40n, ffree: 5n, namelen: 255 }
    const words = nativeStatFs({ ...space, blocks: 1n << 40n, bsize: 4096, frsize: 4096 })
    expect(words.blocks * words.frsize).toBe(2 ** 52)
    expect(words.blocks).toBeLessThan(2 ** 32)
    expect(words).toMatchObject({ files: 2 ** 32 - 1, ffree: 5, namemax: 255 })
  })
})
