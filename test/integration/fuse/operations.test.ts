import { createHash, randomBytes } from 'node:crypto'
import { promises as fs } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import type { AttributeAnswer, DirectorySink, RequestContext } from '../../../src/fuse/operations.ts'
import { MemoryFileSystem } from '../../support/fuse/memory-file-system.ts'
import { describeMounted, type Mounted, mounted, python, run, shell } from '../../support/fuse/mounted.ts'

const UNPRIVILEGED = ['setpriv', '--reuid=1234', '--regid=2345', '--clear-groups', '--'] as const

describeMounted('a real mount', () => {
  const fileSystem = new MemoryFileSystem()
  let mount: Mounted
  let target: string
  const path = (...names: string[]): string => join(target, ...names)

  beforeAll(async () => {
    mount = await mounted(fileSystem)
    target = mount.target
  })
  afterAll(async () => {
    await mount.close()
    expect(mount.log.lines.filter((line) => line.level === 'error')).toEqual([])
  })

  it('serves what programs do with files and directories', async () => {
    await fs.mkdir(path('basic/a/b'), { recursive: true })
    await fs.writeFile(path('basic/file'), 'hello')
    await fs.appendFile(path('basic/file'), ' world')
    expect(await fs.readFile(path('basic/file'), 'utf8')).toBe('hello world')
    await fs.truncate(path('basic/file'), 5)
    await fs.link(path('basic/file'), path('basic/a/link'))
    await fs.symlink('../file', path('basic/a/symlink'))
    expect(await fs.readlink(path('basic/a/symlink'))).toBe('../file')
    expect(await fs.readFile(path('basic/a/symlink'), 'utf8')).toBe('hello')
    await fs.rename(path('basic/a'), path('basic/c'))
    await fs.chmod(path('basic/file'), 0o640)
    await fs.chown(path('basic/file'), 7, 8)
    expect(await fs.stat(path('basic/c/link'))).toMatchObject({
      nlink: 2,
      size: 5,
      mode: 0o100640,
      uid: 7,
      gid: 8,
    })
    await expect(fs.rmdir(path('basic/c'))).rejects.toMatchObject({ code: 'ENOTEMPTY' })
    await expect(fs.readFile(path('basic/none'))).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(fs.mkdir(path('basic/c'))).rejects.toMatchObject({ code: 'EEXIST' })
    await fs.writeFile(path('basic/file'), 'new', { flag: 'w' })
    expect(await fs.readFile(path('basic/c/link'), 'utf8')).toBe('new')
    await fs.rm(path('basic'), { recursive: true })
    expect(await fs.readdir(target)).not.toContain('basic')
  })

  it('copies a tree there and back without a difference', async () => {
    await shell(
      `cp -a /usr/share/zoneinfo "$1/tree" 2>/dev/null || cp -a /etc "$1/tree"
       cp -a "$1/tree" "$1/copy"; diff -r "$1/tree" "$1/copy"; rm -r "$1/tree" "$1/copy"`,
      target,
    )
  })

  it('P1: 64 MiB of random bytes come back, by cached and by direct I/O', async () => {
    const content = randomBytes(64 * 1024 * 1024)
    await fs.writeFile(path('random'), content)
    const sum = createHash('sha256').update(content).digest('hex')
    expect(await run('sha256sum', path('random'))).toContain(sum)
    const direct = await shell('dd if="$1" iflag=direct bs=1M status=none | sha256sum', path('random'))
    expect(direct).toContain(sum)
    await shell(
      `dd if="$1/random" of="$1/direct" oflag=direct bs=1M status=none; cmp "$1/random" "$1/direct"
       dd if="$1/random" of="$1/direct" bs=4099 skip=3 seek=3 conv=notrunc status=none
       cmp "$1/random" "$1/direct"; rm "$1/random" "$1/direct"`,
      target,
    )
  })

  it('gives new files to whoever made them, masked by the umask', async () => {
    await shell('mkdir -m 777 "$1/open"', target)
    await run(
      ...(UNPRIVILEGED as unknown as [string, ...string[]]),
      'sh',
      '-euc',
      'umask 027; cd "$1"; touch file; mkdir dir; mkfifo fifo; ln -s x symlink',
      'sh',
      path('open'),
    )
    const listed = await run(
      'stat',
      '-c',
      '%n %u:%g %a',
      path('open/file'),
      path('open/dir'),
      path('open/fifo'),
    )
    expect(listed.replaceAll(path('open/'), '')).toBe(
      'file 1234:2345 640\ndir 1234:2345 750\nfifo 1234:2345 640\n',
    )
    expect(await fs.lstat(path('open/symlink'))).toMatchObject({ uid: 1234, gid: 2345 })
  })

  it('has the kernel check access', async () => {
    await fs.writeFile(path('secret'), 'secret', { mode: 0o600 })
    const [command, ...args] = UNPRIVILEGED
    await expect(run(command, ...args, 'cat', path('secret'))).rejects.toThrow(/Permission denied/)
  })

  it('takes setuid away from a file that somebody else writes or truncates', async () => {
    const [command, ...args] = UNPRIVILEGED
    for (const [index, change] of ['echo x >> "$1"', 'truncate -s 1 "$1"'].entries()) {
      const file = path(`setuid${index}`)
      await shell('echo content > "$1"; chmod 6777 "$1"', file)
      await run(command, ...args, 'sh', '-euc', change, 'sh', file)
      expect((await fs.stat(file)).mode & 0o6000).toBe(0)
    }
  })

  it('keeps times to the nanosecond, before 1970 too', async () => {
    await shell(
      `touch "$1"; touch -a -d '2001-02-03 04:05:06.123456789' "$1"
       touch -m -d '1969-12-31 23:59:58.000000001' "$1"`,
      path('times'),
    )
    const { atimeNs, mtimeNs } = await fs.stat(path('times'), { bigint: true })
    expect(atimeNs).toBe(981_173_106_123_456_789n)
    expect(mtimeNs).toBe(-1_999_999_999n)
    await run('touch', path('times'))
    expect((await fs.stat(path('times'))).mtime.getFullYear()).toBeGreaterThan(2020)
  })

  it('lists 5,000 entries, with attributes in the same requests', async () => {
    await fs.mkdir(path('many'))
    const names = Array.from({ length: 5000 }, (_, index) => `entry-${String(index).padStart(5, '0')}`)
    const directory = fileSystem.node((await fs.stat(path('many'), { bigint: true })).ino)
    for (const name of names) {
      directory.entries.set(name, fileSystem.put(name, Buffer.from(name)))
      fileSystem.node(1n).entries.delete(name)
    }
    fileSystem.entryTtlMs = fileSystem.attributeTtlMs = 60_000
    fileSystem.calls.length = 0
    expect((await fs.readdir(path('many'))).sort()).toEqual(names)
    const listed = await run('ls', '-l', path('many'))
    fileSystem.entryTtlMs = fileSystem.attributeTtlMs = 0
    expect(listed.trim().split('\n').length).toBe(5001)
    expect(fileSystem.calls).toContain('readdirplus')
    // READDIRPLUS is adaptive: some names may be looked up, most must not.
    expect(fileSystem.calls.filter((call) => call === 'lookup').length).toBeLessThan(1000)
    await fs.rm(path('many'), { recursive: true })
  })

  it('takes any bytes for a name, 255 of them', async () => {
    const name = Buffer.from(Array.from({ length: 255 }, (_, index) => (index % 255) + 1)).map((byte) =>
      byte === 0x2f ? 0xff : byte,
    )
    const file = Buffer.concat([Buffer.from(`${target}/`), name])
    await fs.writeFile(file, 'bytes')
    expect((await fs.readdir(target, { encoding: 'buffer' })).some((found) => found.equals(name))).toBe(true)
    expect(await fs.readFile(file, 'utf8')).toBe('bytes')
    await fs.unlink(file)
    const tooLong = Buffer.concat([Buffer.from(`${target}/`), Buffer.alloc(256, 0x61)])
    await expect(fs.writeFile(tooLong, '')).rejects.toMatchObject({ code: 'ENAMETOOLONG' })
  })

  it('maps files, and what is written there arrives', async () => {
    const program = `
import mmap, sys
with open(sys.argv[1], 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[0:5] = b'MAPPE'; m[8190:8194] = b'PAGE'
    m.flush(); m.close()`
    for (const directIo of [false, true]) {
      await fs.writeFile(path('mapped'), Buffer.alloc(10_000, 0x2e))
      fileSystem.openAnswer = { directIo }
      await python(program, path('mapped'))
      fileSystem.openAnswer = {}
      const content = await fs.readFile(path('mapped'), 'latin1')
      expect(content.length).toBe(10_000)
      expect(content.slice(0, 6)).toBe('MAPPE.')
      expect(content.slice(8189, 8195)).toBe('.PAGE.')
    }
  })

  it('renames with flags', async () => {
    const rename2 = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
a, b, flags = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2]), int(sys.argv[3])
print(ctypes.get_errno() if libc.renameat2(-100, a, -100, b, flags) else 0)`
    await fs.writeFile(path('one'), '1')
    await fs.writeFile(path('two'), '2')
    expect(await python(rename2, path('one'), path('two'), '1')).toBe('17\n')
    expect(await python(rename2, path('one'), path('two'), '2')).toBe('0\n')
    expect(await fs.readFile(path('one'), 'utf8')).toBe('2')
    expect(fileSystem.calls).toContain('rename 2')
  })

  it('allocates, punches holes, seeks data and copies ranges', async () => {
    await fs.writeFile(path('range'), Buffer.alloc(8192, 1))
    await run('fallocate', '-l', '16384', path('range'))
    expect((await fs.stat(path('range'))).size).toBe(16_384)
    await run('fallocate', '-p', '-o', '0', '-l', '4096', path('range'))
    const content = await fs.readFile(path('range'))
    expect([content[0], content[4095], content[4096]]).toEqual([0, 0, 1])
    const seeks = await python(
      `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
print(os.lseek(fd, 5, os.SEEK_DATA), os.lseek(fd, 5, os.SEEK_HOLE))
try: os.lseek(fd, 99999, os.SEEK_DATA)
except OSError as e: print(e.errno)
out = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
print(os.copy_file_range(fd, out, 8192, 4096, 0))`,
      path('range'),
      path('copied'),
    )
    expect(seeks).toBe('5 16384\n6\n8192\n')
    expect(await fs.readFile(path('copied'))).toEqual(content.subarray(4096, 12_288))
    expect(fileSystem.calls).toContain('copyFileRange')
  })

  it('keeps extended attributes, binary ones and lists', async () => {
    await fs.writeFile(path('xattr'), '')
    await run('setfattr', '-n', 'user.binary', '-v', '0x00ff0a', path('xattr'))
    await run('setfattr', '-n', 'user.large', '-v', 'x'.repeat(60_000), path('xattr'))
    expect(await run('getfattr', '-n', 'user.binary', '-e', 'hex', path('xattr'))).toContain('0x00ff0a')
    expect(await run('getfattr', '-d', path('xattr'))).toContain('x'.repeat(60_000))
    await run('setfattr', '-x', 'user.binary', path('xattr'))
    await expect(run('getfattr', '-n', 'user.binary', path('xattr'))).rejects.toThrow(/No such attribute/)
  })

  it('has the kernel check POSIX ACLs', async () => {
    await fs.writeFile(path('acl'), 'for you', { mode: 0o600 })
    await run('setfacl', '-m', 'u:1234:r', path('acl'))
    const [command, ...args] = UNPRIVILEGED
    expect(await run(command, ...args, 'cat', path('acl'))).toBe('for you')
  })

  it('P7: locks work between processes, in the kernel', async () => {
    await fs.writeFile(path('lock'), '')
    const program = `
import fcntl, subprocess, sys
for take in ('fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)', 'fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)'):
    f = open(sys.argv[1], 'r+')
    exec(take)
    other = "import fcntl,sys\\nf=open(sys.argv[1],'r+')\\n" + take
    print(subprocess.run([sys.executable, '-c', other, sys.argv[1]], stderr=subprocess.DEVNULL).returncode)
    f.close()
    print(subprocess.run([sys.executable, '-c', other, sys.argv[1]], stderr=subprocess.DEVNULL).returncode)`
    expect(await python(program, path('lock'))).toBe('1\n0\n1\n0\n')
  })

  it('refuses what it does not do in the words of a local file system', async () => {
    const tmpfile = `
import errno, os, sys
try: os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR)
except OSError as e: print(errno.errorcode[e.errno])`
    expect(await python(tmpfile, target)).toMatch(/^(EOPNOTSUPP|ENOTSUP)\n$/)
    await fs.writeFile(path('attributes'), '')
    await expect(run('lsattr', path('attributes'))).rejects.toThrow(/Inappropriate ioctl|not supported/)
    expect(await run('stat', '-c', '%W', path('attributes'))).toMatch(/^(0|-)\n$/)
  })

  it('tells how full it is', async () => {
    expect(await fs.statfs(target)).toMatchObject({ bsize: 4096, blocks: 1_000_000, bavail: 400_000 })
  })

  it('P2: fsync and fdatasync reach the file system', async () => {
    fileSystem.calls.length = 0
    await shell('dd if=/dev/zero of="$1" bs=4k count=1 conv=fsync status=none; sync -d "$1"', path('synced'))
    expect(fileSystem.calls).toEqual(expect.arrayContaining(['fsync', 'fdatasync']))
  })

  it('P1: a name that was not there is looked up again', async () => {
    await expect(fs.stat(path('later'))).rejects.toMatchObject({ code: 'ENOENT' })
    fileSystem.put('later', Buffer.from('now'))
    expect(await fs.readFile(path('later'), 'utf8')).toBe('now')
  })

  it('P6: every open file and look-up is given back', async () => {
    // The kernel gives a handle back behind the close(2) that was the last.
    await vi.waitFor(() => expect(fileSystem.openHandles.size).toBe(0), { timeout: 30_000 })
    await shell('mkdir "$1/forgotten"; touch "$1/forgotten/file"; rm -r "$1/forgotten"', target)
    const unused = [...fileSystem.nodes.values()].filter((node) => node.nlink === 0)
    expect(unused.length).toBeLessThanOrEqual(2)
  })
})

/** Lets the kernel keep everything. */
class Cached extends MemoryFileSystem {
  override readonly openAnswer = { keepCache: true, cacheDirectory: true }
  override entryTtlMs = 3_600_000
  override attributeTtlMs = 3_600_000
}

describeMounted('cache invalidations', () => {
  it('P1: attributes, content and names are asked for again', async () => {
    const fileSystem = new Cached()
    const ino = fileSystem.put('file', Buffer.from('old content'))
    const mount = await mounted(fileSystem)
    const file = join(mount.target, 'file')
    try {
      expect(await fs.readFile(file, 'utf8')).toBe('old content')
      await fs.stat(file)
      const node = fileSystem.node(ino)
      node.content = Buffer.from('new content')
      node.mode = 0o100600
      expect((await fs.stat(file)).mode).toBe(0o100644)
      expect(await fs.readFile(file, 'utf8')).toBe('old content')

      mount.session.notifier.invalidateNode(ino, 0, 0)
      await expect.poll(() => fs.readFile(file, 'utf8')).toBe('new content')
      expect((await fs.stat(file)).mode).toBe(0o100600)

      const other = fileSystem.put('other', Buffer.from('another file'))
      fileSystem.node(1n).entries.set('file', other)
      expect((await fs.stat(file, { bigint: true })).ino).toBe(ino)
      mount.session.notifier.invalidateName(1n, Buffer.from('file'))
      await expect.poll(async () => (await fs.stat(file, { bigint: true })).ino).toBe(other)
      mount.session.notifier.invalidateName(1n, Buffer.from('unknown'))
      mount.session.notifier.invalidateNode(999n, 0, 0)
      await mount.session.stop()
      expect(mount.log.lines.filter((line) => line.level !== 'debug')).toEqual([])
    } finally {
      await mount.close()
    }
  })

  it('P6: do not deadlock with requests on the same node and directory that wait', async () => {
    const reading = Promise.withResolvers<void>()
    const removing = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    class Slow extends Cached {
      override async read(
        context: RequestContext,
        ino: bigint,
        handle: bigint,
        offset: number,
        size: number,
      ): Promise<Buffer> {
        reading.resolve()
        await released.promise
        return super.read(context, ino, handle, offset, size)
      }
      override unlink(context: RequestContext, parent: bigint, name: Buffer): Promise<void> {
        removing.resolve()
        return released.promise.then(() => super.unlink(context, parent, name))
      }
    }
    const fileSystem = new Slow()
    const ino = fileSystem.put('file', Buffer.alloc(100_000, 0x61))
    fileSystem.put('removed', Buffer.alloc(0))
    const mount = await mounted(fileSystem)
    try {
      const content = run('cat', join(mount.target, 'file'))
      await reading.promise
      const removal = run('rm', join(mount.target, 'removed'))
      await removing.promise
      // The pages are locked for the READ, the directory for the UNLINK: the kernel lets both of these wait.
      mount.session.notifier.invalidateNode(ino, 0, 0)
      mount.session.notifier.invalidateName(1n, Buffer.from('file'))
      mount.session.notifier.invalidateNode(1n, -1, 0)
      expect(await run('stat', '-f', '-c', '%s', mount.target)).toBe('4096\n')
      released.resolve()
      expect((await content).length).toBe(100_000)
      await removal
    } finally {
      released.resolve()
      await mount.close()
    }
  })
})

describeMounted('a file system that does what it should not', () => {
  class Misbehaving extends MemoryFileSystem {
    how: 'throw' | 'late' | 'reject' | 'nonsense' = 'throw'
    override getattr(context: RequestContext, node: bigint): AttributeAnswer | Promise<AttributeAnswer> {
      const answer = super.getattr(context, node)
      if (node === 1n) return answer
      if (this.how === 'late') return new Promise((resolve) => setImmediate(() => resolve(answer)))
      if (this.how === 'reject') return Promise.reject(new Error('rejected'))
      if (this.how === 'nonsense') return Object.create(null)
      throw new TypeError('thrown')
    }
    override readdir(
      context: RequestContext,
      node: bigint,
      handle: bigint,
      cookie: bigint,
      sink: DirectorySink,
    ): void | Promise<void> {
      if (this.how === 'nonsense') {
        for (;;) sink.add({ name: Buffer.from('x'), ino: 1n, type: 4, cookie: 1n })
      }
      return super.readdir(context, node, handle, cookie, sink)
    }
  }

  it('P6: callers get EIO and the mount goes on', async () => {
    const fileSystem = new Misbehaving()
    fileSystem.put('file', Buffer.from('content'))
    const mount = await mounted(fileSystem)
    const file = join(mount.target, 'file')
    try {
      for (const how of ['throw', 'reject', 'nonsense'] as const) {
        fileSystem.how = how
        await expect(fs.stat(file)).rejects.toMatchObject({ code: 'EIO' })
      }
      await expect(fs.readdir(mount.target)).rejects.toMatchObject({ code: 'EIO' })
      fileSystem.how = 'late'
      expect((await fs.stat(file)).size).toBe(7)
      expect(mount.log.lines.filter((line) => line.level === 'error').length).toBe(4)
    } finally {
      await mount.close()
    }
  })
})
