import { spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { registryFile } from '../../../src/config/paths.ts'
import { FileLock, LockHeld } from '../../../src/base/file-lock.ts'
import { isRunning, startTicks } from '../../../src/daemon/process.ts'
import {
  findRegistration,
  makeRunDirectory,
  register,
  supervisorAlive,
  unregister,
} from '../../../src/daemon/registry.ts'
import {
  acquireWorkerLock,
  checkStateDir,
  claimStateDir,
  type Identity,
  readIdentity,
  recordIdentity,
} from '../../../src/daemon/state-dir.ts'
import { gone } from '../../support/daemon/place.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-state-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

/** Another process that takes a lock and says so. */
async function holder(path: string): Promise<{ readonly pid: number; readonly kill: () => void }> {
  const module = new URL('../../../src/base/file-lock.ts', import.meta.url).href
  const script = `const { FileLock } = await import('${module}')
    globalThis.lock = FileLock.acquire(process.argv[1])
    process.stdout.write('held')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return { pid: child.pid ?? 0, kill: () => void child.kill('SIGKILL') }
}

describe('a lock between processes', () => {
  it('is held by one, and vanishes with kill -9 of its holder', async () => {
    const path = join(directory, 'lock')
    const other = await holder(path)
    expect(() => FileLock.acquire(path)).toThrow(LockHeld)
    other.kill()
    await gone(other.pid)
    const lock = FileLock.acquire(path)
    lock.release()
    lock.release()
    FileLock.acquire(path).release()
  })

  it('waits for the end of the holder when told to', async () => {
    acquireWorkerLock(directory, 0).release()
    const other = await holder(join(directory, 'locks/worker.lock'))
    const waiting = new Promise<FileLock>((resolve) => {
      // The wait blocks this thread; the kill comes from a process of its own.
      spawn('sh', ['-c', `kill -9 ${other.pid}`], { stdio: 'ignore' })
      resolve(acquireWorkerLock(directory, 20_000))
    })
    ;(await waiting).release()
  })

  it('a file that is no lock is an error, not a lock', () => {
    const path = join(directory, 'lock')
    writeFileSync(path, 'not a database at all, but longer than a header of one hundred bytes'.repeat(3))
    expect(() => FileLock.acquire(path)).toThrow(/not a database/)
  })
})

describe('a state directory', () => {
  const wanted: Identity = {
    source: '/s',

    target: '/t',
    namespace: 'n',
    store: 'embedded:',
  }
  const stateDir = (): string => join(directory, 'state')

  it('is made for its owner only, and claimed by one process at a time', async () => {
    const lock = claimStateDir(stateDir(), wanted)
    expect(statSync(stateDir()).mode & 0o777).toBe(0o700)
    recordIdentity(stateDir(), wanted)
    lock.release()
    const other = await holder(join(stateDir(), 'locks/supervisor.lock'))
    const refusal = /^the state directory .* is held by a running ferryfs that serves \/t; unmount that first/
    expect(() => claimStateDir(stateDir(), wanted)).toThrow(refusal)
    expect(() => checkStateDir(stateDir(), wanted)).toThrow(refusal)
    other.kill()
    await gone(other.pid)
    checkStateDir(stateDir(), wanted)
    claimStateDir(stateDir(), wanted).release()
  })

  it('is bound to a mount only once there is something to own', () => {
    claimStateDir(stateDir(), wanted).release()
    claimStateDir(stateDir(), { ...wanted, source: '/other', store: 'memory:' }).release()
    expect(readIdentity(stateDir())).toBeUndefined()
  })

  it.each<[Partial<Identity>, RegExp]>([
    [{ source: '/x' }, /belongs to another mount: its source is \/s, not \/x/],
    [{ namespace: 'x' }, /belongs to another mount: its namespace is n, not x/],
    [{ store: 'riak://a' }, /knows what lies in the store embedded:, not in riak:\/\/a/],
    [{ store: 'embedded:/x' }, /knows what lies in the store embedded:, not in embedded:\/x/],
  ])('refuses another mount: %j', (other, words) => {
    claimStateDir(stateDir(), wanted).release()
    recordIdentity(stateDir(), wanted)
    expect(() => checkStateDir(stateDir(), { ...wanted, ...other })).toThrow(words)
    expect(() => claimStateDir(stateDir(), { ...wanted, ...other })).toThrow(words)
    claimStateDir(stateDir(), wanted).release()
  })

  it('takes another target', () => {
    recordIdentityIn({})
    checkStateDir(stateDir(), { ...wanted, target: '/x' })
    recordIdentity(stateDir(), { ...wanted, target: '/x' })
    expect(readIdentity(stateDir())).toEqual({ ...wanted, target: '/x' })
  })

  it('takes other addresses of the same kind of store', () => {
    recordIdentityIn({ store: 'riak://a:8087' })
    checkStateDir(stateDir(), { ...wanted, store: 'riak://b:8087,c:8087' })
  })

  it('made by rebuild, takes the first mount that comes', () => {
    recordIdentityIn({ source: null, target: null })
    checkStateDir(stateDir(), wanted)
    recordIdentity(stateDir(), wanted)
    recordIdentity(stateDir(), { ...wanted, source: null, target: null })
    expect(readIdentity(stateDir())).toEqual(wanted)
  })

  it('is not a directory with other things in it', () => {
    mkdirSync(stateDir())
    writeFileSync(join(stateDir(), 'thesis.txt'), '')
    expect(() => checkStateDir(stateDir(), wanted)).toThrow(
      /not empty and not of ferryfs \(it holds thesis.txt\)/,
    )
    expect(() => claimStateDir(stateDir(), wanted)).toThrow(/not empty/)
    expect(existsSync(join(stateDir(), 'locks'))).toBe(false)
  })

  it.each(['{', '{}', '{"format":2,"source":"/s","target":"/t","namespace":"n","store":"memory:"}'])(
    'with a record that is not understood is refused: %s',
    (record) => {
      mkdirSync(stateDir())
      writeFileSync(join(stateDir(), 'mount.json'), record)
      expect(() => checkStateDir(stateDir(), wanted)).toThrow(/mount.json cannot be read/)
    },
  )

  it('below a file is refused in one line', () => {
    writeFileSync(stateDir(), '')
    expect(() => claimStateDir(join(stateDir(), 'below'), wanted)).toThrow(/cannot be created: ENOTDIR/)
  })

  function recordIdentityIn(other: Partial<Identity>): void {
    claimStateDir(stateDir(), wanted).release()
    recordIdentity(stateDir(), { ...wanted, ...other })
  }
})

describe('the record of running mounts', () => {
  it('leads from a target to its daemon, until that takes it away', () => {
    makeRunDirectory(directory)
    register(directory, { target: '/t', source: '/s', stateDir: '/st', socket: '/st/control.sock' })
    const found = findRegistration(directory, '/t')
    expect(found).toMatchObject({ source: '/s', supervisorPid: process.pid })
    expect(found && supervisorAlive(found)).toBe(true)
    expect(findRegistration(directory, '/other')).toBeUndefined()
    unregister(directory, '/t')
    expect(findRegistration(directory, '/t')).toBeUndefined()
  })

  it("does not take a successor's record away, and knows a process number used again", () => {
    register(directory, { target: '/t', source: '/s', stateDir: '/st', socket: '/st/control.sock' })
    const found = findRegistration(directory, '/t')
    expect(found && supervisorAlive({ ...found, supervisorTicks: found.supervisorTicks - 1 })).toBe(false)
    expect(found && supervisorAlive({ ...found, supervisorPid: 2 ** 22 + 1 })).toBe(false)
    writeFileSync(registryFile(directory, '/t'), JSON.stringify({ ...found, supervisorPid: 1 }))
    unregister(directory, '/t')
    expect(findRegistration(directory, '/t')).toMatchObject({ supervisorPid: 1 })
  })

  it('half a record is as good as none', () => {
    register(directory, { target: '/t', source: '/s', stateDir: '/st', socket: '/st/control.sock' })
    const file = registryFile(directory, '/t')
    writeFileSync(file, readFileSync(file, 'utf8').slice(0, 40))
    expect(findRegistration(directory, '/t')).toBeUndefined()
    writeFileSync(file, '[1]')
    expect(findRegistration(directory, '/t')).toBeUndefined()
  })

  it('is not kept where others may write', () => {
    chmodSync(directory, 0o777)
    expect(() => makeRunDirectory(directory)).toThrow(/belongs to somebody else or is writable for others/)
  })
})

it('a process is known by its number and its start', () => {
  const ticks = startTicks(process.pid) ?? -1
  expect(isRunning(process.pid, ticks)).toBe(true)
  expect(isRunning(process.pid, ticks + 1)).toBe(false)
  expect(startTicks(2 ** 22 + 1)).toBeUndefined()
})
