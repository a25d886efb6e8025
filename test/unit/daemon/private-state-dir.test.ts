import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FileLock } from '../../../src/base/file-lock.ts'
import { makeDirectories, makePrivateFile } from '../../../src/base/private.ts'
import { checkPrivate, makePrivate } from '../../../src/daemon/private-state-dir.ts'
import { checkStateDir, claimStateDir } from '../../../src/daemon/state-dir.ts'
import { gone } from '../../support/daemon/place.ts'

const isRoot = process.geteuid?.() === 0
const STRANGER = 12_345
const wanted = { source: '/s', target: '/t', namespace: 'n', store: 'embedded:' }

let root: string
let state: string
const ends: Array<() => Promise<void>> = []

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-private-')))
  chmodSync(root, 0o755)
  state = join(root, 'state')
  // As an older ferryfs, and a careless person, would have made it.
  for (const path of ['', 'store', 'store/ferryfs', 'staging']) mkdirSync(join(state, path), { mode: 0o755 })
  for (const path of FILES) writeFileSync(join(state, path), `content of ${path}`, { mode: 0o644 })
  for (const path of ['', 'store', 'store/ferryfs', 'staging']) chmodSync(join(state, path), 0o755)
})

afterEach(async () => {
  for (const end of ends.splice(0)) await end()
  rmSync(root, { recursive: true, force: true })
})

const FILES = [
  'catalog.db',
  'catalog.db-wal',
  'catalog.db-shm',
  'daemon.log',
  'store/ferryfs/index.sqlite',
  'staging/7',
]
const modeOf = (path: string): string => (lstatSync(join(state, path)).mode & 0o7777).toString(8)

/** A process of another user that runs a program for python3, once it has written something. */
const stranger = (program: string): Promise<number> => running(program, { uid: STRANGER, gid: STRANGER })

async function running(program: string, user: { readonly uid?: number; readonly gid?: number } = {}) {
  const child = spawn('python3', ['-c', program], { cwd: '/', ...user, stdio: ['ignore', 'pipe', 'inherit'] })
  const pid = child.pid ?? 0
  ends.push(async () => {
    child.kill('SIGKILL')
    await gone(pid)
  })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return pid
}

const holdOpen = (path: string): Promise<number> =>
  stranger(`import time; f=open(${JSON.stringify(join(state, path))}); print(1, flush=True); time.sleep(100)`)

describe('a state directory that was there before', () => {
  it('is private afterwards, with the content that it had', () => {
    makePrivate(state)
    for (const path of ['.', 'store', 'store/ferryfs', 'staging']) expect(modeOf(path)).toBe('700')
    for (const path of FILES.filter((each) => !each.endsWith('-shm'))) {
      expect(modeOf(path)).toBe('600')
      expect(readFileSync(join(state, path), 'utf8')).toBe(`content of ${path}`)
    }
    const before = statSync(join(state, 'catalog.db')).ino
    makePrivate(state)
    expect(statSync(join(state, 'catalog.db')).ino).toBe(before)
  })

  it('what others have open is not what is used from then on', () => {
    const old = openSync(join(state, 'catalog.db'), 'r')
    try {
      makePrivate(state)
      writeFileSync(join(state, 'catalog.db'), 'SECRET')
      const seen = Buffer.alloc(100)
      expect(seen.toString('utf8', 0, readSync(old, seen, 0, 100, 0))).toBe('content of catalog.db')
    } finally {
      closeSync(old)
    }
  })

  it('of one that nobody else got into only the rights change', () => {
    chmodSync(state, 0o700)
    const before = statSync(join(state, 'catalog.db')).ino
    makePrivate(state)
    expect(statSync(join(state, 'catalog.db')).ino).toBe(before)
    expect(modeOf('catalog.db')).toBe('600')
  })

  it.skipIf(!isRoot)('what others have open deep in it is named, and nothing changed there', async () => {
    const pid = await holdOpen('staging/7')
    const told = new RegExp(`staging/7 is held open by process ${pid} of user ${STRANGER}: end that first`)
    expect(() => makePrivate(state)).toThrow(told)
    // Asked again it is not forgotten.
    expect(() => makePrivate(state)).toThrow(told)
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    makePrivate(state)
    expect(modeOf('staging/7')).toBe('600')
  })

  const plants: [string, () => void, RegExp][] = [
    ['a symlink', () => symlinkSync('/etc/passwd', join(state, 'planted')), /planted is a symbolic link/],
    [
      'a symlink in a directory that was open',
      () => symlinkSync('/etc/passwd', join(state, 'staging/planted')),
      /staging\/planted is a symbolic link/,
    ],
    [
      'another name of a file elsewhere',
      () => {
        writeFileSync(join(root, 'elsewhere'), '')
        linkSync(join(root, 'elsewhere'), join(state, 'planted'))
      },
      /planted has another name elsewhere/,
    ],
    ...(isRoot
      ? ([
          [
            "somebody else's file",
            () => chownSync(join(state, 'catalog.db'), STRANGER, STRANGER),
            /catalog.db belongs to user 12345, not to user 0/,
          ],
          [
            "somebody else's directory",
            () => {
              mkdirSync(join(state, 'locks'))
              chownSync(join(state, 'locks'), STRANGER, STRANGER)
            },
            /locks belongs to user 12345/,
          ],
          ['another owner', () => chownSync(state, STRANGER, STRANGER), /state belongs to user 12345/],
        ] satisfies [string, () => void, RegExp][])
      : []),
  ]

  it.each(plants)('with %s in it is refused in one line', (_what, plant, words) => {
    plant()
    expect(() => makePrivate(state)).toThrow(words)
    expect(() => makePrivate(state)).toThrow(
      /^the state directory .* is not private and cannot be made so: [^\n]*$/,
    )
    expect(readFileSync('/etc/passwd', 'utf8')).toContain('root')
    expect(statSync('/etc/passwd').mode & 0o777).toBe(0o644)
  })

  const places = [
    'mount.json',
    'daemon.log',
    'catalog.db-shm',
    'catalog.db-witness',
    'staging',
    'locks/worker.lock',
  ]

  it.each(places)(
    'with something else in the place of %s is refused in one line, and nobody waits',
    (name) => {
      const path = join(state, name)
      mkdirSync(dirname(path), { recursive: true })
      const puts = [() => mkdirSync(path), () => execFileSync('mkfifo', [path]), () => symlinkSync('/', path)]
      for (const put of name === 'staging' ? puts.slice(1) : puts) {
        rmSync(path, { recursive: true, force: true })
        put()
        for (const use of [checkStateDir, claimStateDir])
          expect(() => use(state, wanted)).toThrow(
            new RegExp(
              `^[^\\n]*${name} is a (directory|fifo|symbolic link), and ferryfs has a [^\\n]*; take that away[^\\n]*$`,
            ),
          )
      }
    },
  )

  it('is only looked at before anything is made', () => {
    checkPrivate(join(root, 'none'))
    checkPrivate(state)
    expect(modeOf('.')).toBe('755')
    symlinkSync('/', join(state, 'planted'))
    expect(() => checkPrivate(state)).toThrow(/symbolic link/)
  })
})

describe('P6: the locks of a state directory', () => {
  beforeEach(() => {
    rmSync(state, { recursive: true })
    mkdirSync(state, { mode: 0o755 })
    writeFileSync(join(state, 'supervisor.lock'), '', { mode: 0o644 })
  })

  const lockOld = (): string => `
import os,fcntl,struct,time
fd=os.open(${JSON.stringify(join(state, 'supervisor.lock'))},os.O_RDONLY)
fcntl.fcntl(fd,fcntl.F_SETLK,struct.pack("hhqqi4x",fcntl.F_RDLCK,0,0x40000002,510,0))
print("locked",flush=True); time.sleep(100)`

  it.skipIf(!isRoot)(
    'that another user holds, where an older ferryfs had them, keep nobody from it',
    async () => {
      await stranger(lockOld())
      expect(() => FileLock.acquire(join(state, 'supervisor.lock'))).toThrow(/is held by another process/)
      checkStateDir(state, wanted)
      claimStateDir(state, wanted).release()
      expect(modeOf('.')).toBe('700')
      expect(modeOf('locks')).toBe('700')
      expect(modeOf('locks/supervisor.lock')).toBe('600')
    },
  )

  it('that an older daemon holds do, until it is gone', async () => {
    const pid = await running(lockOld())
    expect(() => checkStateDir(state, wanted)).toThrow(/is held by a running ferryfs/)
    expect(() => claimStateDir(state, wanted)).toThrow(/is held by a running ferryfs/)
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    claimStateDir(state, wanted).release()
    expect(lstatSync(join(state, 'supervisor.lock'), { throwIfNoEntry: false })).toBeUndefined()
  })

  it.skipIf(!isRoot)('cannot be opened by anybody else', async () => {
    const lock = claimStateDir(state, wanted)
    try {
      const path = JSON.stringify(join(state, 'locks/supervisor.lock'))
      await stranger(`
try: open(${path})
except PermissionError: print("refused", flush=True)
import time; time.sleep(100)`)
    } finally {
      lock.release()
    }
  })
})

describe('directories and files of one user', () => {
  it('a directory is made with all above it, and what cannot be is an error, not a loop', () => {
    expect(makeDirectories(join(root, 'a/b/c'), 0o700)).toBe(join(root, 'a'))
    expect(makeDirectories(join(root, 'a/b/c'), 0o700)).toBeUndefined()
    expect(() => makeDirectories('/proc/nothing/here', 0o700)).toThrow(/ENOENT/)
    writeFileSync(join(root, 'file'), '')
    expect(() => makeDirectories(join(root, 'file'), 0o700)).toThrow(/EEXIST/)
    expect(() => makeDirectories(join(root, 'file/below'), 0o700)).toThrow(/ENOTDIR/)
  })

  it('a file is made empty, and keeps what is in it', () => {
    const path = join(root, 'private')
    makePrivateFile(path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    writeFileSync(path, 'content')
    chmodSync(path, 0o666)
    makePrivateFile(path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readFileSync(path, 'utf8')).toBe('content')
  })
})
