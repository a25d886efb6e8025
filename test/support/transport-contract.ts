import { createHash, randomBytes } from 'node:crypto'
import { promises as fs } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AttributeAnswer, RequestContext } from '../../src/fuse/operations.ts'
import type { LogLine } from './fuse/keeping-log.ts'
import { MemoryFileSystem } from './fuse/memory-file-system.ts'
import { python, run, shell } from './fuse/mounted.ts'

/** A transport that serves a file system from this process on a directory of its own. */
interface ServedMount {
  readonly target: string
  readonly lines: readonly LogLine[]
  /** Resolves with the reason when the transport says that nothing is served any more. */
  readonly ended: Promise<string>
  /** Unmounts, waits for the end, removes the directory. */
  close(): Promise<void>
}

export type Serve = (fileSystem: MemoryFileSystem) => Promise<ServedMount>

interface Situation {
  readonly fileSystem: MemoryFileSystem
  readonly target: string
  path(...names: string[]): string
}

type Check = (s: Situation) => Promise<void>

/**
 * What not every transport can do: what is expected of one that can, and of one that cannot. The names are those of the
 * table in docs/transports.md.
 */
interface Ability {
  readonly can: Check
  readonly cannot: Check
}

/** Runs as an unprivileged user with the umask 027. */
const asStranger = (script: string, ...args: string[]): Promise<string> =>
  run(
    'setpriv',
    '--reuid=1234',
    '--regid=2345',
    '--clear-groups',
    '--',
    'sh',
    '-euc',
    `umask 027; ${script}`,
    'sh',
    ...args,
  )

/** The symbolic errno that a system call of python's ends with, or what it returns. */
const outcome = (expression: string, ...args: string[]): Promise<string> =>
  python(
    `
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0: raise OSError(ctypes.get_errno(), '')
    return result
args = [os.fsencode(a) for a in sys.argv[1:]]
try: print(${expression})
except OSError as e: print(errno.errorcode[e.errno])`,
    ...args,
  ).then((text) => text.trim())

export const ABILITIES = {
  'owner-of-new-files': {
    can: (s) => newFilesBelongTo(s, '1234:2345'),
    cannot: (s) => newFilesBelongTo(s, `${process.geteuid?.()}:${process.getegid?.()}`),
  },
  'set-id-at-creation': {
    can: async ({ path }) => {
      await python('import os,sys; os.umask(0); os.open(sys.argv[1], os.O_CREAT, 0o6755)', path('set-id'))
      expect((await fs.stat(path('set-id'))).mode & 0o7777).toBe(0o6755)
    },
    cannot: async ({ path }) => {
      await python('import os,sys; os.umask(0); os.open(sys.argv[1], os.O_CREAT, 0o6755)', path('set-id'))
      expect((await fs.stat(path('set-id'))).mode & 0o7777).toBe(0o755)
      await fs.chmod(path('set-id'), 0o6755)
      expect((await fs.stat(path('set-id'))).mode & 0o7777).toBe(0o6755)
    },
  },
  nanoseconds: {
    can: async ({ path }) => {
      await shell('touch -d "2001-02-03 04:05:06.123456789" "$1"', path('fine'))
      expect((await fs.stat(path('fine'), { bigint: true })).mtimeNs).toBe(981_173_106_123_456_789n)
    },
    cannot: async ({ path }) => {
      await shell('touch -d "2001-02-03 04:05:06.123456789" "$1"', path('fine'))
      expect((await fs.stat(path('fine'), { bigint: true })).mtimeNs).toBe(981_173_106_123_000_000n)
    },
  },
  'times-before-1970': {
    can: async ({ path }) => {
      await shell('touch "$1"; touch -d "1969-12-31 23:59:58" "$1"', path('old'))
      expect((await fs.stat(path('old'))).mtimeMs).toBe(-2000)
    },
    cannot: async ({ fileSystem, path }) => {
      await shell('touch "$1"', path('old'))
      const { ino } = await fs.stat(path('old'), { bigint: true })
      await expect(run('touch', '-d', '1969-12-31 23:59:58', path('old'))).rejects.toThrow(/not supported/)
      fileSystem.node(ino).mtimeNs = -2_000_000_000n
      expect((await fs.stat(path('old'))).mtimeMs).toBe(0)
    },
  },
  'one-time-alone': {
    can: async ({ path }) => {
      await shell('touch -d @100 "$1"; touch -m -d @200 "$1"', path('one'))
      expect(await fs.stat(path('one'))).toMatchObject({ atimeMs: 100_000, mtimeMs: 200_000 })
    },
    cannot: async ({ path }) => {
      await shell('touch -d @100 "$1"; touch -m -d @200 "$1"; touch -a -d @300 "$1"', path('one'))
      expect(await fs.stat(path('one'))).toMatchObject({ atimeMs: 100_000, mtimeMs: 100_000 })
    },
  },
  'names-of-any-bytes': {
    can: async ({ target }) => {
      const file = Buffer.concat([Buffer.from(`${target}/`), Buffer.from('a\xffb', 'latin1')])
      await fs.writeFile(file, 'bytes')
      expect(await fs.readFile(file, 'utf8')).toBe('bytes')
      await fs.unlink(file)
    },
    cannot: async ({ fileSystem, target, path }) => {
      const named = (name: string) => Buffer.concat([Buffer.from(`${target}/`), Buffer.from(name, 'latin1')])
      const code = { code: 'EILSEQ' }
      await expect(fs.writeFile(named('a\xffb'), 'x')).rejects.toMatchObject(code)
      // A file that is there is listed, so that whoever copies the tree hears of it, and not mistaken for another one.
      fileSystem.put('strange', Buffer.from('strange'))
      const ino = fileSystem.node(1n).entries.get('strange') ?? 0n
      fileSystem.node(1n).entries.delete('strange')
      fileSystem.node(1n).entries.set('a\xffb', ino)
      fileSystem.put('a\ufffdb', Buffer.from('another file'))
      expect(await fs.readdir(target)).toContain('a\ufffdb')
      await expect(fs.readFile(named('a\xffb'))).rejects.toMatchObject(code)
      await expect(fs.readFile(path('a\ufffdb'))).rejects.toMatchObject(code)
      fileSystem.node(1n).entries.delete('a\xffb')
      fileSystem.node(1n).entries.delete(Buffer.from('a\ufffdb').toString('latin1'))
    },
  },
  'inode-numbers-of-64-bits': {
    can: async ({ fileSystem, path }) => {
      await large(fileSystem)
      expect((await fs.stat(path('large'), { bigint: true })).ino).toBe(LARGE)
    },
    cannot: async ({ fileSystem, path }) => {
      await large(fileSystem)
      const { ino } = await fs.stat(path('large'), { bigint: true })
      expect(ino).toBe(0xffff_ffffn - (LARGE - (1n << 48n)))
      expect(await shell('ls -i "$1" | grep " large$"', path())).toContain(String(ino))
    },
  },
  'hard-links-open-at-once': {
    can: async ({ path }) => {
      await fs.writeFile(path('link-a'), 'before')
      await fs.link(path('link-a'), path('link-b'))
      await using reader = await fs.open(path('link-a'))
      await reader.read(Buffer.alloc(6), 0, 6, 0)
      await fs.writeFile(path('link-b'), 'after!', { flag: 'r+' })
      expect((await reader.read(Buffer.alloc(6), 0, 6, 0)).buffer.toString()).toBe('after!')
    },
    cannot: async ({ path }) => {
      await fs.writeFile(path('link-a'), 'before')
      await fs.link(path('link-a'), path('link-b'))
      const busy = { code: 'EBUSY' }
      {
        await using reader = await fs.open(path('link-a'))
        await reader.read(Buffer.alloc(6), 0, 6, 0)
        expect(await fs.readFile(path('link-b'), 'utf8')).toBe('before')
        await expect(fs.open(path('link-b'), 'r+')).rejects.toMatchObject(busy)
        await expect(fs.truncate(path('link-b'), 1)).rejects.toMatchObject(busy)
      }
      await eventuallyClosed(() => fs.writeFile(path('link-b'), 'after!', { flag: 'r+' }))
      expect(await fs.readFile(path('link-a'), 'utf8')).toBe('after!')
    },
  },
  'rename-flags': {
    can: async ({ path }) => {
      await fs.writeFile(path('one'), '1')
      await fs.writeFile(path('two'), '2')
      expect(await outcome(EXCHANGE, path('one'), path('two'))).toBe('0')
      expect(await fs.readFile(path('one'), 'utf8')).toBe('2')
    },
    cannot: async ({ path }) => {
      await fs.writeFile(path('one'), '1')
      await fs.writeFile(path('two'), '2')
      expect(await outcome(EXCHANGE, path('one'), path('two'))).toBe('EINVAL')
      expect(await fs.readFile(path('one'), 'utf8')).toBe('1')
    },
  },
  fallocate: {
    can: async ({ path }) => {
      await run('fallocate', '-l', '16384', path('allocated'))
      expect((await fs.stat(path('allocated'))).size).toBe(16_384)
    },
    cannot: async ({ path }) => {
      const allocate = 'call(libc.fallocate(os.open(args[0], os.O_CREAT | os.O_RDWR), 0, 0, 16384))'
      expect(await outcome(allocate, path('allocated'))).toBe('ENOTSUP')
    },
  },
  'seek-holes': {
    can: async ({ fileSystem, path }) => {
      await fs.writeFile(path('holes'), 'data')
      expect(await outcome('os.lseek(os.open(args[0], os.O_RDONLY), 0, os.SEEK_HOLE)', path('holes'))).toBe(
        '4',
      )
      expect(fileSystem.calls).toContain('lseek')
    },
    cannot: async ({ fileSystem, path }) => {
      await fs.writeFile(path('holes'), 'data')
      // The kernel's own answer: all of it is data.
      expect(await outcome('os.lseek(os.open(args[0], os.O_RDONLY), 0, os.SEEK_HOLE)', path('holes'))).toBe(
        '4',
      )
      expect(fileSystem.calls).not.toContain('lseek')
    },
  },
  'access-control-lists': {
    can: async ({ path }) => {
      await fs.writeFile(path('acl'), 'for you', { mode: 0o600 })
      await run('setfacl', '-m', 'u:1234:r', path('acl'))
      expect(await asStranger('cat "$1"', path('acl'))).toBe('for you')
    },
    cannot: async ({ path }) => {
      await fs.writeFile(path('acl'), 'for you', { mode: 0o600 })
      await expect(run('setfacl', '-m', 'u:1234:r', path('acl'))).rejects.toThrow(/not supported/)
    },
  },
  'unlinked-in-a-removed-directory': {
    can: async ({ path }) => {
      await fs.mkdir(path('doomed'))
      expect(await outcome(READ_DOOMED, path('doomed'))).toBe("b'content'")
    },
    cannot: async ({ path }) => {
      await fs.mkdir(path('doomed'))
      expect(await outcome(READ_DOOMED, path('doomed'))).toBe('ENOENT')
    },
  },
} as const satisfies Readonly<Record<string, Ability>>

export type AbilityName = keyof typeof ABILITIES

async function newFilesBelongTo({ path }: Situation, owner: string): Promise<void> {
  await fs.mkdir(path('shared'))
  await fs.chmod(path('shared'), 0o777)
  await asStranger('cd "$1"; : > file; mkdir dir', path('shared'))
  const listed = await shell('cd "$1"; stat -c "%n %u:%g %a" file dir', path('shared'))
  expect(listed).toBe(`file ${owner} 640\ndir ${owner} 750\n`)
}

const LARGE = (1n << 48n) + 7n
const EXCHANGE = 'call(libc.renameat2(-100, args[0], -100, args[1], 2))'
const READ_DOOMED =
  "(fd := os.open(args[0] + b'/f', os.O_CREAT | os.O_RDWR), os.write(fd, b'content'), os.unlink(args[0] + b'/f'), " +
  'os.rmdir(args[0]), os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED), os.pread(fd, 7, 0))[5]'

function large(fileSystem: MemoryFileSystem): Promise<void> {
  const own = fileSystem.put('large', Buffer.from('content'))
  const node = fileSystem.node(own)
  fileSystem.nodes.delete(own)
  fileSystem.nodes.set(LARGE, Object.assign(node, { ino: LARGE }))
  fileSystem.node(1n).entries.set('large', LARGE)
  return Promise.resolve()
}

/** The kernel tells of a close after it has returned. */
async function eventuallyClosed(attempt: () => Promise<void>): Promise<void> {
  await expect
    .poll(
      () =>
        attempt().then(
          () => 'done',
          (error: unknown) => error,
        ),
      { timeout: 10_000 },
    )
    .toBe('done')
}

interface Options {
  readonly name: string
  readonly serve: Serve
  /** What this transport cannot do; docs/transports.md has the same list. */
  readonly lacks: readonly AbilityName[]
}

/** What every transport has to do, on a real mount of a file system in memory that runs in the test's own process. */
export function transportContract({ name, serve, lacks }: Options): void {
  describe(`transport ${name}`, () => {
    let fileSystem: Failing
    let mount: ServedMount
    let s: Situation

    beforeAll(async () => {
      fileSystem = new Failing()
      mount = await serve(fileSystem)
      s = { fileSystem, target: mount.target, path: (...names) => join(mount.target, ...names) }
    })
    afterAll(() => mount.close())

    for (const [title, check] of Object.entries(COMMON)) it(title, () => check(s))

    describe('abilities', () => {
      for (const [ability, { can, cannot }] of Object.entries(ABILITIES)) {
        const lacking = lacks.some((lack) => lack === ability)
        it(`${lacking ? 'has not' : 'has'} ${ability}`, () => (lacking ? cannot : can)(s))
      }
    })

    it('P6: a file system that throws what it should not costs its caller an EIO, and nobody else anything', async () => {
      await fs.writeFile(s.path('fails'), '')
      for (const how of ['throw', 'reject'] as const) {
        fileSystem.how = how
        await expect(fs.stat(s.path('fails'))).rejects.toMatchObject({ code: 'EIO' })
      }
      fileSystem.how = undefined
      expect((await fs.stat(s.path('fails'))).size).toBe(0)
      // A file system that says so is no fault.
      expect(mount.lines.filter(({ level }) => level === 'error').length).toBeGreaterThanOrEqual(2)
    })

    it('P6: gives back every open file and every look-up of what is gone', async () => {
      await shell('rm -rf "$1"/*', mount.target)
      await expect.poll(() => fileSystem.openHandles.size).toBe(0)
      // The kernel keeps one or two of the last.
      const unused = () =>
        [...fileSystem.nodes.values()].filter(({ nlink, lookups }) => nlink === 0 && lookups > 0n).length
      await expect.poll(unused).toBeLessThanOrEqual(2)
    })

    it('says so when somebody else unmounts', async () => {
      await run('umount', mount.target)
      expect(await mount.ended).toBe('unmounted')
    })
  })
}

class Failing extends MemoryFileSystem {
  how: 'throw' | 'reject' | undefined

  override lookup(context: RequestContext, parent: bigint, name: Buffer) {
    if (this.how === 'throw' && name.toString() === 'fails') throw new TypeError('thrown')
    if (this.how === 'reject' && name.toString() === 'fails') return Promise.reject(new Error('rejected'))
    return super.lookup(context, parent, name)
  }

  override getattr(context: RequestContext, node: bigint): AttributeAnswer | Promise<AttributeAnswer> {
    if (this.how !== undefined && node !== 1n) throw new TypeError('thrown')
    return super.getattr(context, node)
  }
}

const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex')

const COMMON: Readonly<Record<string, Check>> = {
  'serves what programs do with files and directories': async ({ path }) => {
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
    await run('mkfifo', path('basic/fifo'))
    expect((await fs.stat(path('basic/fifo'))).isFIFO()).toBe(true)
    await fs.rm(path('basic'), { recursive: true })
  },

  'P1: 16 MiB of random bytes come back, by cached and by direct I/O': async ({ path }) => {
    const content = randomBytes(16 << 20)
    await fs.writeFile(path('random'), content)
    expect(await run('sha256sum', path('random'))).toContain(sha256(content))
    const direct = await shell('dd if="$1" iflag=direct bs=1M status=none | sha256sum', path('random'))
    expect(direct).toContain(sha256(content))
    await shell(
      `dd if="$1" of="$1.copy" bs=4099 status=none; cmp "$1" "$1.copy"
       dd if="$1" of="$1.copy" oflag=direct conv=notrunc bs=1M status=none; cmp "$1" "$1.copy"`,
      path('random'),
    )
  },

  'hands over a write of 1 MiB in at most 8 calls': async ({ fileSystem, path }) => {
    await fs.writeFile(path('wide'), '')
    fileSystem.calls.length = 0
    await shell('dd if=/dev/zero of="$1" bs=1M count=1 conv=notrunc status=none', path('wide'))
    expect((await fs.stat(path('wide'))).size).toBe(1 << 20)
    expect(fileSystem.calls.filter((call) => call === 'write').length).toBeLessThanOrEqual(8)
  },

  'P1: an unlinked open file can be used, and has no trace': async ({ path }) => {
    await fs.mkdir(path('unlinked'))
    await using file = await fs.open(path('unlinked/file'), 'w+')
    await file.write('before ')
    await fs.unlink(path('unlinked/file'))
    expect(await fs.readdir(path('unlinked'))).toEqual([])
    await expect(fs.stat(path('unlinked/file'))).rejects.toMatchObject({ code: 'ENOENT' })
    await file.write('after')
    expect((await file.read(Buffer.alloc(12), 0, 12, 0)).buffer.toString()).toBe('before after')
    expect(await file.stat()).toMatchObject({ size: 12, nlink: 0 })
    await file.truncate(6)
    await file.datasync()
    expect((await file.stat()).size).toBe(6)
    await fs.writeFile(path('unlinked/file'), 'another')
    expect((await file.stat()).size).toBe(6)
    expect(await fs.readFile(path('unlinked/file'), 'utf8')).toBe('another')
  },

  'P1: who has a file open keeps it when another is renamed over it': async ({ path }) => {
    await fs.mkdir(path('replaced'))
    await fs.writeFile(path('replaced/file'), 'old')
    await using reader = await fs.open(path('replaced/file'))
    await fs.writeFile(path('replaced/new'), 'new')
    await fs.rename(path('replaced/new'), path('replaced/file'))
    expect((await reader.read(Buffer.alloc(3), 0, 3, 0)).buffer.toString()).toBe('old')
    expect(await fs.readFile(path('replaced/file'), 'utf8')).toBe('new')
    expect(await fs.readdir(path('replaced'))).toEqual(['file'])
  },

  'an open file follows the renames of its directories': async ({ path }) => {
    await fs.mkdir(path('moving/deep'), { recursive: true })
    await using file = await fs.open(path('moving/deep/file'), 'w+')
    await fs.rename(path('moving'), path('moved'))
    await fs.mkdir(path('moving/deep'), { recursive: true })
    await fs.writeFile(path('moving/deep/file'), 'another')
    await file.write('mine')
    expect(await fs.readFile(path('moved/deep/file'), 'utf8')).toBe('mine')
    expect(await fs.readFile(path('moving/deep/file'), 'utf8')).toBe('another')
  },

  'lists 3,000 entries': async ({ fileSystem, path }) => {
    await fs.mkdir(path('many'))
    const directory = fileSystem.node((await fs.stat(path('many'), { bigint: true })).ino)
    const names = Array.from({ length: 3000 }, (_, index) => `entry-${String(index).padStart(5, '0')}`)
    for (const name of names) {
      directory.entries.set(name, fileSystem.put(name, Buffer.from(name)))
      fileSystem.node(1n).entries.delete(name)
    }
    expect((await fs.readdir(path('many'))).sort()).toEqual(names)
    await fs.rm(path('many'), { recursive: true })
  },

  'keeps extended attributes, binary, large and empty ones': async ({ path }) => {
    await fs.writeFile(path('xattr'), '')
    await run('setfattr', '-n', 'user.binary', '-v', '0x00ff0a', path('xattr'))
    await run('setfattr', '-n', 'user.large', '-v', 'x'.repeat(60_000), path('xattr'))
    await run('setfattr', '-n', 'user.empty', path('xattr'))
    expect(await run('getfattr', '-n', 'user.binary', '-e', 'hex', path('xattr'))).toContain('0x00ff0a')
    expect(await run('getfattr', '-d', path('xattr'))).toContain('x'.repeat(60_000))
    const sizes = 'sorted(len(os.getxattr(args[0], n)) for n in os.listxattr(args[0]))'
    expect(await outcome(sizes, path('xattr'))).toBe('[0, 3, 60000]')
    const short = 'call(libc.getxattr(args[0], b"user.large", ctypes.create_string_buffer(10), 10))'
    expect(await outcome(short, path('xattr'))).toBe('ERANGE')
    const shortList = 'call(libc.listxattr(args[0], ctypes.create_string_buffer(10), 10))'
    expect(await outcome(shortList, path('xattr'))).toBe('ERANGE')
    await run('setfattr', '-x', 'user.binary', path('xattr'))
    await expect(run('getfattr', '-n', 'user.binary', path('xattr'))).rejects.toThrow(/No such attribute/)
  },

  'maps files, and what is written there arrives': async ({ path }) => {
    await fs.writeFile(path('mapped'), Buffer.alloc(10_000, 0x2e))
    await python(
      `
import mmap, sys
with open(sys.argv[1], 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[8190:8194] = b'PAGE'
    m.flush(); m.close()`,
      path('mapped'),
    )
    expect((await fs.readFile(path('mapped'), 'latin1')).slice(8189, 8195)).toBe('.PAGE.')
  },

  'sets both times, each to its own': async ({ path }) => {
    await fs.writeFile(path('times'), '')
    await fs.utimes(path('times'), 1_000_000_000.5, 1_111_111_111.25)
    expect(await fs.stat(path('times'))).toMatchObject({
      atimeMs: 1_000_000_000_500,
      mtimeMs: 1_111_111_111_250,
    })
  },

  'has the kernel check access': async ({ path }) => {
    await fs.writeFile(path('secret'), 'secret', { mode: 0o600 })
    await expect(asStranger('cat "$1"', path('secret'))).rejects.toThrow(/Permission denied/)
  },

  'takes set-id bits away from a file that somebody else writes': async ({ path }) => {
    await shell('echo content > "$1"; chmod 6777 "$1"', path('set-id-file'))
    await asStranger('echo x >> "$1"', path('set-id-file'))
    expect((await fs.stat(path('set-id-file'))).mode & 0o6000).toBe(0)
  },

  'locks files in the kernel': async ({ path }) => {
    await fs.writeFile(path('lock'), '')
    await shell('exec 9<"$1"; flock 9; ! flock -n "$1" true; exec 9<&-; flock "$1" true', path('lock'))
  },

  'tells how full it is': async ({ target }) => {
    expect(await fs.statfs(target)).toMatchObject({ bsize: 4096, blocks: 1_000_000, bavail: 400_000 })
  },

  'P2: fsync and fdatasync reach the file system': async ({ fileSystem, target, path }) => {
    fileSystem.calls.length = 0
    await shell('dd if=/dev/zero of="$1" bs=4k count=1 conv=fsync status=none; sync -d "$1"', path('synced'))
    await python('import os,sys; os.fsync(os.open(sys.argv[1], os.O_RDONLY))', target)
    expect(fileSystem.calls).toEqual(expect.arrayContaining(['fsync', 'fdatasync', 'fsyncdir']))
  },

  'P2: O_SYNC writes are synced': async ({ fileSystem, path }) => {
    fileSystem.calls.length = 0
    await shell('dd if=/dev/zero of="$1" bs=4k count=2 oflag=sync status=none', path('o-sync'))
    expect(
      fileSystem.calls.filter((call) => call === 'fsync' || call === 'fdatasync').length,
    ).toBeGreaterThan(1)
  },
}
