import { dirname } from 'node:path'
import { expect } from 'vitest'
import { Opcode } from '../../../src/fuse/kernel/protocol.ts'
import type { Remote } from '../posix/agent.ts'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  SEEK_HOLE,
  XATTR_CREATE,
} from '../posix/constants.ts'

/** One operation of an application that a crash meets, on names and files of its own. */
export interface Begun {
  /** The system calls, as an application makes them. */
  readonly act: () => Promise<unknown>
  /** What is to be seen once they have taken place. */
  readonly done: () => Promise<void>
  readonly undone: () => Promise<void>
  /** What may be left where the daemon died half way for good. */
  readonly partly?: () => Promise<void>
}

export interface CrashOperation {
  /** Of the request that carries it. */
  readonly opcode: number
  /** Makes what it needs below an empty directory. */
  readonly begin: (call: Remote, directory: string) => Promise<Begun>
}

const LONG = 'l'.repeat(200)

const absent = (call: Remote, path: string): Promise<void> =>
  expect(call.lstat(path)).rejects.toThrow('ENOENT')
const content = async (call: Remote, path: string, expected: string): Promise<void> =>
  expect((await call.readFile(path)).toString()).toBe(expected)

/** An operation on a file of 200 bytes that is open for reading and writing. */
function onFile(
  opcode: number,
  act: (call: Remote, fd: number, path: string) => Promise<unknown>,
  done: (call: Remote, path: string) => Promise<void>,
  more: {
    undone?: (call: Remote, path: string) => Promise<void>
    partly?: (call: Remote, path: string) => Promise<void>
    flags?: number
  } = {},
): CrashOperation {
  return {
    opcode,
    begin: async (call, directory) => {
      const path = `${directory}/file`
      await call.writeFile(path, LONG, 0o644)
      const fd = await call.open(path, O_RDWR | (more.flags ?? 0))
      const undone = more.undone ?? ((_call: Remote, at: string) => content(call, at, LONG))
      return {
        act: () => act(call, fd, path),
        done: () => done(call, path),
        undone: () => undone(call, path),
        partly: () => (more.partly ?? undone)(call, path),
      }
    },
  }
}

/** An operation that makes a name. */
const making = (
  opcode: number,
  act: (call: Remote, path: string) => Promise<unknown>,
  expected: object,
): CrashOperation => ({
  opcode,
  begin: async (call, directory) => {
    const path = `${directory}/new`
    return {
      act: () => act(call, path),
      done: async () => expect(await call.lstat(path)).toMatchObject({ nlink: 1, ...expected }),
      undone: () => absent(call, path),
    }
  },
})

const renaming = (flags: number, opcode: number): CrashOperation => ({
  opcode,
  begin: async (call, directory) => {
    const [from, to] = [`${directory}/from`, `${directory}/to`]
    await call.writeFile(from, 'from')
    if (flags !== RENAME_NOREPLACE) await call.writeFile(to, 'to')
    const whole = async (a: string | undefined, b: string | undefined): Promise<void> => {
      await (a === undefined ? absent(call, from) : content(call, from, a))
      await (b === undefined ? absent(call, to) : content(call, to, b))
    }
    return {
      act: () => call.renameat2(from, to, flags),
      done: () => whole(flags === RENAME_EXCHANGE ? 'to' : undefined, 'from'),
      undone: () => whole('from', flags === RENAME_NOREPLACE ? undefined : 'to'),
    }
  },
})

const mode = (expected: object) => async (call: Remote, path: string) =>
  expect(await call.stat(path)).toMatchObject(expected)

/** Operations that change something. */
export const CHANGES: Readonly<Record<string, CrashOperation>> = {
  create: making(
    Opcode.CREATE,
    async (call, path) => call.close(await call.open(path, O_CREAT | O_EXCL | O_RDWR, 0o640)),
    { mode: 0o100640, size: 0 },
  ),
  'create without a name': making(
    Opcode.TMPFILE,
    async (call, path) => {
      const fd = await call.open(dirname(path), O_TMPFILE | O_RDWR, 0o640)
      await call.write(fd, 'nameless')
      await call.linkFd(fd, path)
      await call.write(fd, ' no more')
      await call.close(fd)
      await content(call, path, 'nameless no more')
    },
    { mode: 0o100640 },
  ),
  mkdir: making(Opcode.MKDIR, (call, path) => call.mkdir(path, 0o750), { mode: 0o040750, nlink: 2 }),
  symlink: making(Opcode.SYMLINK, (call, path) => call.symlink('target', path), { size: 6 }),
  mknod: making(Opcode.MKNOD, (call, path) => call.mknod(path, 0o010640), { mode: 0o010640 }),
  link: onFile(
    Opcode.LINK,
    (call, _fd, path) => call.link(path, `${path}-2`),
    async (call, path) => {
      expect((await call.stat(path)).nlink).toBe(2)
      await content(call, `${path}-2`, LONG)
    },
    { undone: (call, path) => absent(call, `${path}-2`) },
  ),
  rename: renaming(0, Opcode.RENAME),
  'rename without replacing': renaming(RENAME_NOREPLACE, Opcode.RENAME2),
  'rename that exchanges': renaming(RENAME_EXCHANGE, Opcode.RENAME2),
  'rename of a directory': {
    opcode: Opcode.RENAME,
    begin: async (call, directory) => {
      const [from, to] = [`${directory}/from`, `${directory}/to`]
      for (const path of [from, to]) await call.mkdir(path)
      await call.writeFile(`${from}/below`, 'below')
      return {
        act: () => call.rename(from, to),
        done: async () => {
          await absent(call, from)
          await content(call, `${to}/below`, 'below')
        },
        undone: () => content(call, `${from}/below`, 'below'),
      }
    },
  },
  unlink: onFile(
    Opcode.UNLINK,
    async (call, fd, path) => {
      await call.close(fd)
      await call.unlink(path)
    },
    (call, path) => absent(call, path),
  ),
  'unlink of an open file': {
    opcode: Opcode.UNLINK,
    begin: async (call, directory) => {
      const path = `${directory}/open`
      await call.writeFile(path, LONG)
      const fd = await call.open(path, O_RDWR)
      return {
        act: async () => {
          await call.unlink(path)
          await call.write(fd, 'STILL', 3)
          await call.dropCache(fd)
          expect(Buffer.from(await call.read(fd, 300, 0)).toString()).toBe(`lllSTILL${LONG.slice(8)}`)
          expect((await call.fstat(fd)).nlink).toBe(0)
          await call.close(fd)
        },
        done: () => absent(call, path),
        undone: () => content(call, path, LONG),
      }
    },
  },
  rmdir: {
    opcode: Opcode.RMDIR,
    begin: async (call, directory) => {
      const path = `${directory}/empty`
      await call.mkdir(path)
      return {
        act: () => call.rmdir(path),
        done: () => absent(call, path),
        undone: async () => expect(await call.names(path)).toEqual([]),
      }
    },
  },
  chmod: onFile(Opcode.SETATTR, (call, fd) => call.fchmod(fd, 0o600), mode({ mode: 0o100600 }), {
    undone: mode({ mode: 0o100644 }),
  }),
  chown: onFile(Opcode.SETATTR, (call, fd) => call.fchown(fd, 1234, 2345), mode({ uid: 1234, gid: 2345 }), {
    undone: mode({ uid: 0, gid: 0 }),
    partly: mode({ uid: 1234, gid: 2345 }),
  }),
  utimes: onFile(
    Opcode.SETATTR,
    (call, fd) => call.futimens(fd, 5n, 1_000_000_007n),
    mode({ mtimeNs: 1_000_000_007n }),
    { undone: async (call, path) => expect((await call.stat(path)).mtimeNs).toBeGreaterThan(1n << 60n) },
  ),
  'setxattr that creates': onFile(
    Opcode.SETXATTR,
    (call, fd) => call.fsetxattr(fd, 'user.x', 'value', XATTR_CREATE),
    async (call, path) => expect((await call.getxattr(path, 'user.x')).toString()).toBe('value'),
    { undone: async (call, path) => expect(await call.listxattr(path)).toEqual([]) },
  ),
  removexattr: {
    opcode: Opcode.REMOVEXATTR,
    begin: async (call, directory) => {
      const path = `${directory}/file`
      await call.writeFile(path, LONG)
      await call.setxattr(path, 'user.x', 'value')
      return {
        act: () => call.removexattr(path, 'user.x'),
        done: async () => expect(await call.listxattr(path)).toEqual([]),
        undone: async () => expect((await call.getxattr(path, 'user.x')).toString()).toBe('value'),
      }
    },
  },
  write: onFile(
    Opcode.WRITE,
    (call, fd) => call.write(fd, 'WRITTEN', 5),
    (call, path) => content(call, path, `lllllWRITTEN${LONG.slice(12)}`),
  ),
  append: onFile(
    Opcode.WRITE,
    async (call, fd) => {
      for (const line of ['one\n', 'two\n', 'three\n']) expect(await call.write(fd, line)).toBe(line.length)
    },
    (call, path) => content(call, path, `${LONG}one\ntwo\nthree\n`),
    { flags: O_APPEND },
  ),
  truncate: onFile(
    Opcode.SETATTR,
    (call, fd) => call.ftruncate(fd, 10),
    (call, path) => content(call, path, LONG.slice(0, 10)),
  ),
  fallocate: onFile(
    Opcode.FALLOCATE,
    (call, fd) => call.fallocate(fd, 0, 150, 100),
    (call, path) => content(call, path, LONG + '\0'.repeat(50)),
  ),
  'fallocate that punches a hole': onFile(
    Opcode.FALLOCATE,
    (call, fd) => call.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5, 7),
    (call, path) => content(call, path, `lllll${'\0'.repeat(7)}${LONG.slice(12)}`),
  ),
  copy_file_range: {
    opcode: Opcode.COPY_FILE_RANGE_64,
    begin: async (call, directory) => {
      const [from, to] = [`${directory}/from`, `${directory}/to`]
      await call.writeFile(from, 'alpha')
      await call.writeFile(to, LONG)
      const [source, target] = [await call.open(from, O_RDONLY), await call.open(to, O_RDWR)]
      return {
        act: async () => expect(await call.copyFileRange(source, 1, target, 198, 4)).toBe(4),
        done: () => content(call, to, `${LONG.slice(2)}lpha`),
        undone: () => content(call, to, LONG),
      }
    },
  },
  fsync: onFile(
    Opcode.FSYNC,
    async (call, fd) => {
      await call.write(fd, 'SYNCED', 0)
      await call.fsync(fd)
    },
    (call, path) => content(call, path, `SYNCED${LONG.slice(6)}`),
    { undone: (call, path) => content(call, path, `SYNCED${LONG.slice(6)}`) },
  ),
  close: onFile(
    Opcode.FLUSH,
    async (call, fd) => {
      await call.write(fd, 'CLOSED', 0)
      await call.close(fd)
    },
    (call, path) => content(call, path, `CLOSED${LONG.slice(6)}`),
  ),
}

const nothing = async (): Promise<void> => undefined

const looking = (
  opcode: number,
  act: (call: Remote, fd: number, path: string) => Promise<unknown>,
): CrashOperation => onFile(opcode, act, nothing, { undone: nothing })

/** Operations that only look. */
export const LOOKS: Readonly<Record<string, CrashOperation>> = {
  lookup: looking(Opcode.LOOKUP, (call, _fd, path) =>
    expect(call.stat(`${path}-that-is-not-there`)).rejects.toThrow('ENOENT'),
  ),
  open: looking(Opcode.OPEN, async (call, _fd, path) => call.close(await call.open(path, O_RDONLY))),
  read: looking(Opcode.READ, async (call, fd) => {
    await call.dropCache(fd)
    expect(Buffer.from(await call.read(fd, 300, 0)).toString()).toBe(LONG)
  }),
  lseek: looking(Opcode.LSEEK, async (call, fd) => expect(await call.lseek(fd, 0, SEEK_HOLE)).toBe(200)),
  getxattr: looking(Opcode.GETXATTR, (call, _fd, path) =>
    expect(call.getxattr(path, 'user.none')).rejects.toThrow('ENODATA'),
  ),
  listxattr: looking(Opcode.LISTXATTR, async (call, _fd, path) =>
    expect(await call.listxattr(path)).toEqual([]),
  ),
  statfs: looking(Opcode.STATFS, async (call, _fd, path) =>
    expect((await call.statvfs(path)).namemax).toBe(255),
  ),
  opendir: looking(Opcode.OPENDIR, async (call, _fd, path) =>
    expect(await call.names(dirname(path))).toEqual(['file']),
  ),
  releasedir: looking(Opcode.RELEASEDIR, async (call, _fd, path) =>
    expect(await call.names(dirname(path))).toEqual(['file']),
  ),
  fsyncdir: looking(Opcode.FSYNCDIR, async (call, _fd, path) => {
    const fd = await call.open(dirname(path), O_RDONLY | O_DIRECTORY)
    await call.fsync(fd)
    await call.close(fd)
  }),
  release: looking(Opcode.RELEASE, (call, fd) => call.close(fd)),
  readlink: {
    opcode: Opcode.READLINK,
    begin: async (call, directory) => {
      await call.symlink('target', `${directory}/link`)
      return {
        act: async () => expect((await call.readlink(`${directory}/link`)).toString()).toBe('target'),
        done: nothing,
        undone: nothing,
      }
    },
  },
}

/** By its name here. */
export function operationOf(name: string): CrashOperation {
  const operation = CHANGES[name] ?? LOOKS[name]
  if (!operation) throw new Error(`no operation ${name}`)
  return operation
}
