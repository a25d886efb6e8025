import { execFile, spawn } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MODES } from '../../../src/base/modes.ts'
import { isAtLeast } from '../../../src/cli/machine.ts'
import { mountUsers } from '../../../src/cli/mount-users.ts'
import { runCli } from '../../../src/cli/run.ts'
import { statusLines } from '../../../src/cli/status.ts'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import { startCluster } from '../../support/riak-sim/cluster.ts'

let root: string
let source: string
let target: string
let state: string

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-cli-')))
  source = join(root, 'source')
  target = join(root, 'target')
  state = join(root, 'state')
  mkdirSync(source)
  mkdirSync(target)
})

afterEach(() => {
  rmSync(root, { recursive: true })
})

interface Outcome {
  readonly status: number
  readonly printed: string[]
  readonly noted: string[]
}

async function ferryfs(...args: string[]): Promise<Outcome> {
  const printed: string[] = []
  const noted: string[] = []
  const status = await runCli(args, {
    environment: {
      FERRYFS_RUN_DIR: join(root, 'run'),
      FERRYFS_STATE_ROOT: join(root, 'machine'),
      PATH: process.env.PATH,
    },
    print: (line) => printed.push(line),
    note: (line) => noted.push(line),
    terminal: undefined,
    workerFile: '/nowhere',
    loadRebuild: () => Promise.reject(new Error('not here')),
  })
  return { status, printed, noted }
}

const usage = (line: string | RegExp) => ({
  status: 2,
  printed: [],
  noted: [typeof line === 'string' ? line : expect.stringMatching(line)],
})

it('one line stays one line, whatever is in it', async () => {
  const name = join(root, 'x\n\u001b[2Jfailed  forged\u009b')
  const { status, printed, noted } = await ferryfs('status', name)
  expect(status).not.toBe(0)
  expect(printed).toEqual([])
  expect(noted).toHaveLength(1)
  expect(noted[0]).not.toMatch(/\p{Cc}/u)
  const help = await ferryfs('status', '--help')
  expect(help.printed.length).toBeGreaterThan(5)
})

describe('a command line that is wrong is one line and status 2', () => {
  it('an unknown option, command or a missing argument', async () => {
    expect(await ferryfs('mount', source, target, '--moed', 'drain')).toEqual(
      usage("ferryfs: unknown option '--moed' (Did you mean --mode?)"),
    )
    expect(await ferryfs('mout', source, target)).toEqual(
      usage("ferryfs: unknown command 'mout' (Did you mean mount?)"),
    )
    expect(await ferryfs('mount')).toEqual(usage("ferryfs: missing required argument 'source'"))
    expect(await ferryfs('mount', source)).toEqual(
      usage(/^ferryfs: missing required argument 'target': nothing is remembered of a mount at /),
    )
    expect(await ferryfs('mount', source, target, 'third')).toEqual(usage(/^ferryfs: too many arguments/))
    expect(await ferryfs('rebuild', '--store', 'memory:')).toEqual(
      usage(/^ferryfs: required option '--namespace <name>' not specified/),
    )
  })

  it('nothing at all shows the help', async () => {
    const { status, printed, noted } = await ferryfs()
    expect({ status, printed }).toEqual({ status: 2, printed: [] })
    expect(noted.join('\n')).toMatch(/Usage: ferryfs[\s\S]* mount [\s\S]* doctor /)
  })

  it('--help is no error', async () => {
    const { status, printed } = await ferryfs('mount', '--help')
    expect(status).toBe(0)
    expect(printed.join('\n')).toMatch(/--store <url>[\s\S]*--foreground/)
  })

  it('a migration that is steered and started at once', async () => {
    expect(await ferryfs('migrate', target, '--pause', '--wait')).toEqual(
      usage(/^ferryfs: --pause goes alone/),
    )
    expect(await ferryfs('migrate', target, '--pause', '--resume')).toEqual(
      usage(/^ferryfs: --pause goes alone/),
    )
    expect(await ferryfs('migrate', target, '--rate', 'fast')).toEqual(
      usage(/^ferryfs: --rate is "fast"; allowed:/),
    )
    expect(await ferryfs('migrate', target, '--concurrency', '0')).toEqual(
      usage('ferryfs: --concurrency is "0"; allowed: a whole number from 1 to 256'),
    )
  })
})

describe('mount says what is wrong before it changes anything', () => {
  const mount = (...more: string[]): Promise<Outcome> =>
    ferryfs('mount', source, target, '--state-dir', state, ...more)

  it('SOURCE', async () => {
    const missing = join(root, 'missing')
    expect(await ferryfs('mount', missing, target)).toEqual(
      usage(`ferryfs: SOURCE ${missing} does not exist; give the directory to migrate`),
    )
    writeFileSync(missing, '')
    expect(await ferryfs('mount', missing, target)).toEqual(
      usage(`ferryfs: SOURCE ${missing} is not a directory; give the directory to migrate`),
    )
  })

  it('TARGET', async () => {
    const missing = join(root, 'missing')
    expect(await ferryfs('mount', source, missing)).toEqual(
      usage(`ferryfs: TARGET ${missing} does not exist; give an existing directory to mount on`),
    )
    expect(await ferryfs('mount', source, '/proc')).toEqual(
      usage(/^ferryfs: TARGET \/proc is in use: proc \(proc\) is mounted there/),
    )
  })

  it('one inside the other, by real paths', async () => {
    mkdirSync(join(source, 'inside'))
    symlinkSync(join(source, 'inside'), join(root, 'link'))
    const inside = join(source, 'inside')
    for (const name of [inside, join(root, 'link')]) {
      expect(await ferryfs('mount', source, name)).toEqual(
        usage(`ferryfs: TARGET ${inside} lies inside SOURCE ${source}; give a directory outside`),
      )
      expect(await ferryfs('mount', name, source)).toEqual(
        usage(`ferryfs: SOURCE ${inside} lies inside TARGET ${source}; give a directory outside`),
      )
    }
    expect(await ferryfs('mount', source, source)).toEqual(
      usage(`ferryfs: SOURCE and TARGET are the same directory ${source}; give two`),
    )
  })

  it('a state directory or a store inside the mount or its source', async () => {
    for (const [name, directory] of [
      ['TARGET', target],
      ['SOURCE', source],
    ] as const) {
      const inside = join(directory, 'deep', 'inside')
      expect(await ferryfs('mount', source, target, '--state-dir', inside)).toEqual(
        usage(
          `ferryfs: the state directory ${inside} lies inside ${name} ${directory}; give a directory outside`,
        ),
      )
      expect(await mount('--store', `embedded:${inside}`)).toEqual(
        usage(`ferryfs: the store ${inside} lies inside ${name} ${directory}; give a directory outside`),
      )
    }
  })

  it('options, with what is allowed', async () => {
    expect(await mount('--mode', 'fast')).toEqual(
      usage(`ferryfs: --mode is "fast"; allowed: ${MODES.join(', ')}`),
    )
    expect(await mount('--store', 'redis://h')).toEqual(
      usage(/^ferryfs: --store is "redis:\/\/h"; allowed: embedded:/),
    )
    expect(await mount('--config', '/nowhere')).toEqual(
      usage(/^ferryfs: the configuration file \/nowhere cannot be read/),
    )
  })

  it('a state directory that is something else, which stays untouched', async () => {
    mkdirSync(state)
    writeFileSync(join(state, 'thesis.txt'), '')
    expect(await mount()).toEqual(
      usage(/^ferryfs: the state directory .* not of ferryfs \(it holds thesis.txt\)/),
    )
  })

  it('a volume that is detached may only be left out in store-only, where it is known', async () => {
    rmSync(source, { recursive: true })
    expect(await mount()).toEqual(usage(/^ferryfs: SOURCE .* does not exist/))
    expect(await mount('--mode', 'store-only')).toEqual(
      usage(/^ferryfs: SOURCE .* does not exist; give the directory/),
    )
  })
})

it.each(['status', 'mode', 'migrate', 'verify', 'unmount'])(
  '%s where nothing is mounted',
  async (command) => {
    expect(await ferryfs(command, target)).toEqual(
      usage(
        `ferryfs: nothing is mounted by ferryfs at ${target}; "ferryfs mount SOURCE ${target}" does that`,
      ),
    )
  },
)

describe('doctor', () => {
  it('looks at the machine and says what to do', async () => {
    const { status, printed } = await ferryfs('doctor')
    expect([0, 3]).toContain(status)
    expect(printed.join('\n')).toMatch(/^(ok|warn|fail) +Node\.js \d/m)
    for (const line of printed) expect(line).toMatch(/^(ok {4}|warn {2}|fail {2}| {6})\S/)
  })

  it('looks at an embedded store', async () => {
    const { printed } = await ferryfs('doctor', '--store', `embedded:${join(root, 'store')}`)
    expect(printed.at(-1)).toMatch(/the embedded store .* can be written/)
  })

  it('ends with 4 where no node of a cluster answers, and says what to do', async () => {
    const { status, printed } = await ferryfs('doctor', '--store', 'riak://127.0.0.1:1/')
    expect(status).toBe(4)
    expect(printed.at(-2)).toMatch(/^fail {2}.*127\.0\.0\.1:1/)
    expect(printed.at(-1)).toMatch(/^ {6}Is Riak running there/)
  })

  it('looks at every node and the bucket type of a cluster', async () => {
    await using cluster = await startCluster({ nodes: 2 })
    const { status, printed } = await ferryfs('doctor', '--store', `riak://${cluster.hosts}/`)
    expect(status).toBe(0)
    expect(printed.filter((line) => /^ok {4}127\.0\.0\.1:\d+ answers: /.test(line))).toHaveLength(2)
    expect(printed.at(-2)).toMatch(/^ok {4}an object was written, read and deleted/)
    expect(printed.at(-1)).toMatch(/^ok {4}keys can be listed/)
  })

  it('does not show what may be a password', async () => {
    const { status, noted } = await ferryfs('doctor', '--store', 'riak://u:hush@h')
    expect(status).toBe(2)
    expect(noted.join('')).not.toContain('hush')
  })

  it.each([
    ['6.9.0', true],
    ['6.18.44-fc', true],
    ['10.0', true],
    ['6.8.12-generic', false],
    ['5.15', false],
  ])('kernel %s is at least 6.9: %s', (version, answer) => {
    expect(isAtLeast(version, [6, 9])).toBe(answer)
  })
})

describe('who keeps a mount busy', () => {
  it('is found by working directory, open file and mapping, and nobody else is', async () => {
    const open = openSync(join(target, 'open'), 'w')
    const child = spawn('sleep', ['60'], { cwd: target, stdio: 'ignore' })
    try {
      await promisify(execFile)('true')
      const users = await mountUsers(target, new Set())
      expect(users).toContainEqual({ pid: child.pid, name: 'sleep', uses: ['cwd'] })
      expect(users.find(({ pid }) => pid === process.pid)?.uses).toEqual([`fd ${open}`])
      expect(await mountUsers(`${target}x`, new Set())).toEqual([])
      expect((await mountUsers(target, new Set([process.pid]))).map(({ pid }) => pid)).toEqual([child.pid])
    } finally {
      child.kill('SIGKILL')
      closeSync(open)
    }
  })
})

describe('status for people', () => {
  const report: StatusReport = {
    pid: 2,
    supervisorPid: 1,
    mode: 'drain',
    source: '/s',
    target: '/t',
    stateDir: '/st',
    namespace: 'n',
    transport: 'kernel',
    sourceReadonly: true,
    startedAt: '2026-01-01T00:00:00Z',
    workerStarts: 3,
    store: { url: 'riak://h', healthy: false, error: 'refused' },
    files: { total: 100, stored: 40, pending: 59, dirty: 1, failed: 60, drained: 7 },
    bytes: { total: 1000, stored: 999 },
    outbox: { length: 0, oldestSeconds: 0 },
    staging: { bytes: 1536, limit: 2048 },
    stateDiskAnswers: true,
    reads: { legacy: 1, store: 2, staging: 3, cache: 4, overtaken: 0 },
    migration: { state: 'running', bytesPerSecond: 2048, etaSeconds: 61 },
    failures: Array.from({ length: 60 }, (_, index) => ({ path: `f${index}`, reason: 'r' })),
  }

  it('has what matters, does not round up to done, and cuts a long list', () => {
    const lines = statusLines(report)
    expect(lines).toContain('mount      /s on /t (source untouched)')
    expect(lines).toContain('store      riak://h does not answer: refused')
    expect(lines).toContain('bytes      999 B of 1000 B stored (99%)')
    expect(lines).toContain('queue      empty')
    expect(lines).toContain('migration  running at 2.0 KiB/s, 1m 01s left')
    expect(lines).toContain('failures   60')
    expect(lines.filter((line) => line.startsWith('failed  '))).toHaveLength(50)
    expect(lines.at(-1)).toBe('… and 10 more: ferryfs status /t --json')
  })

  it('counts what failed that is of no file', () => {
    const failures = [{ path: '.', reason: 'changes that had been acknowledged were lost' }]
    const lines = statusLines({ ...report, files: { ...report.files, failed: 0 }, failures })
    expect(lines).toContain('failures   1')
    expect(lines.at(-1)).toContain('failed  .: changes')
  })
})
