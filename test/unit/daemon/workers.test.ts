import { mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadSettings } from '../../../src/config/load.ts'
import { callDaemon } from '../../../src/daemon/control-client.ts'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import { PROTOCOL } from '../../../src/daemon/messages.ts'
import { MountBusy, type MountDriver } from '../../../src/daemon/mount-driver.ts'
import { findRegistration } from '../../../src/daemon/registry.ts'
import { Supervisor } from '../../../src/daemon/supervisor.ts'
import { WorkerHandle } from '../../../src/daemon/worker-handle.ts'
import { eventually, gone } from '../../support/daemon/place.ts'
import { keepingLog } from '../../support/fuse/keeping-log.ts'

const FAKE_WORKER = new URL('../../support/daemon/fake-worker.ts', import.meta.url).href

let root: string
let program: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ferryfs-workers-'))
  program = join(root, 'worker.mjs')
})

afterEach(() => {
  rmSync(root, { recursive: true, force: true })
})

/** A worker whose whole program is this text. */
function worker(
  text: string,
  pingEveryMs?: number,
): { readonly handle: WorkerHandle; readonly output: string[]; readonly records: string[] } {
  writeFileSync(program, text)
  const output: string[] = []
  const records: string[] = []
  const handle = new WorkerHandle({
    file: program,
    connection: undefined,
    onMessage: () => undefined,
    onOutput: (line, isRecord) => (isRecord ? records : output).push(line),
    ...(pingEveryMs === undefined ? {} : { pingEveryMs }),
  })
  return { handle, output, records }
}

const LOADED = `process.send({ type: 'loaded', protocol: ${PROTOCOL} });`

describe('a worker process', () => {
  it('that dies while loading is not loaded, and its last words are kept', async () => {
    const { handle, output } = worker('throw new Error("no such module")')
    expect(await handle.loaded).toBe(false)
    expect(await handle.ready).toBe(false)
    expect(await handle.exited).toBe('exit status 1')
    await eventually('its words', () => output.some((line) => line.includes('no such module')))
    expect(handle.running).toBe(false)
  })

  it('what is said past the log is no record', async () => {
    const forged = '{"level":"info","msg":"all is well"}'
    const text = `process.stdout.write('{"level":"warn"}\\n'); process.stderr.write('oh\\n${forged}\\n')`
    const { handle, output, records } = worker(text)
    await handle.exited
    await eventually('its words', () => output.includes(forged))
    expect(records).toEqual(['{"level":"warn"}'])
  })

  it('of another protocol is not loaded', async () => {
    const { handle } = worker(`process.send({ type: 'loaded', protocol: ${PROTOCOL + 1} })`)
    expect(await handle.loaded).toBe(false)
    await handle.exited
  })

  it('says why it cannot start', async () => {
    const { handle } = worker(
      `${LOADED} process.send({ type: 'failed', message: 'no room', exitStatus: 4 }, () => process.exit(1))`,
    )
    expect(await handle.loaded).toBe(true)
    expect(await handle.ready).toBe(false)
    expect(handle.failure).toMatchObject({ message: 'no room', exitStatus: 4 })
  })

  it('P6: that hangs is killed', async () => {
    const { handle } = worker(`${LOADED} process.send({ type: 'ready' }, () => { for (;;); })`, 20)
    expect(await handle.ready).toBe(true)
    expect(await handle.exited).toBe('killed by SIGKILL')
    expect(handle.finished).toBe(false)
  })

  it('that answers is left alone', async () => {
    const { handle, records } = worker(
      `${LOADED} process.send({ type: 'ready' })
      let pings = 0
      process.on('message', () => {
        if (!process.connected) return
        process.send({ type: 'pong' })
        if (++pings === 30) { console.log('answered'); process.disconnect() }
      })`,
      5,
    )
    expect(await handle.exited).toBe('exit status 0')
    await eventually('its words', () => records.includes('answered'))
  })

  it('P6: that does not end in time is killed', async () => {
    const { handle } = worker(`${LOADED} setInterval(() => undefined, 1000)`)
    await handle.loaded
    handle.killAfter(10)
    expect(await handle.exited).toBe('killed by SIGKILL')
  })
})

describe('a supervisor without a kernel', () => {
  let calls: string[]
  let supervisor: Supervisor
  let log: ReturnType<typeof keepingLog>
  let resumes: boolean
  let answers: boolean
  let busy: boolean

  const driver: MountDriver = {
    open: () => {
      calls.push('open')
      return openSync('/dev/null', 'r+')
    },
    mount: async () => void calls.push('mount'),
    unmount: async (lazy) => {
      calls.push(lazy ? 'unmount lazily' : 'unmount')
      if (busy && !lazy) throw new MountBusy('/t')
    },
    answers: async () => answers,
    survivesKill: () => resumes,
  }

  beforeEach(() => {
    calls = []
    log = keepingLog()
    resumes = true
    answers = true
    busy = false
    mkdirSync(join(root, 'target'))
    writeFileSync(program, `await import('${FAKE_WORKER}')`)
    supervisor = new Supervisor({
      config: {
        ...loadSettings({ flags: {}, environment: {} }),
        source: root,
        target: join(root, 'target'),
        stateDir: join(root, 'state'),
      },
      runDir: join(root, 'run'),
      workerFile: program,
      driver,
      log,
      onOutput: () => undefined,
    })
  })

  afterEach(async () => {
    await supervisor.stop()
    await supervisor.stop()
  })

  function status(): Promise<StatusReport> {
    const registration = findRegistration(join(root, 'run'), join(root, 'target'))
    if (!registration) throw new Error('nothing is recorded')
    return callDaemon(registration, { command: 'status' })
  }

  async function ended(): Promise<void> {
    await supervisor.stop()
    await supervisor.ended
  }

  it('opens, mounts when the worker asks for it, and unmounts', async () => {
    await supervisor.start()
    expect(calls).toEqual(['open', 'mount'])
    await ended()
    expect(calls).toEqual(['open', 'mount', 'unmount'])
    expect(findRegistration(join(root, 'run'), join(root, 'target'))).toBeUndefined()
  })

  it('P7: a killed worker is replaced on the same connection', async () => {
    await supervisor.start()
    const { pid } = await status()
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    expect((await status()).workerStarts).toBe(2)
    expect(calls).toEqual(['open', 'mount'])
    await ended()
  })

  it('on a kernel that cannot resend, a killed worker is replaced on a new mount', async () => {
    resumes = false
    await supervisor.start()
    const { pid } = await status()
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    expect((await status()).workerStarts).toBe(2)
    expect(calls).toEqual(['open', 'mount', 'unmount lazily', 'open', 'mount'])
    await ended()
  })

  it('on such a kernel a hand-over still keeps the mount', async () => {
    resumes = false
    await supervisor.start()
    const { pid } = await status()
    await supervisor.handOver()
    await gone(pid)
    expect((await status()).workerStarts).toBe(2)
    expect(calls).toEqual(['open', 'mount'])
    await ended()
  })

  it.each([
    ['does not load', 'throw new Error("broken upgrade")'],
    ['speaks another protocol', `process.send({ type: 'loaded', protocol: ${PROTOCOL + 1} })`],
  ])('P7: an upgrade that %s leaves the old worker in place', async (_what, text) => {
    await supervisor.start()
    const { pid } = await status()
    writeFileSync(program, text)
    await supervisor.handOver()
    expect(await status()).toMatchObject({ pid, workerStarts: 1 })
    expect(log.lines.map(({ message }) => message).join()).toContain('the old one stays')
    await ended()
  })

  it('a mount that is in use is detached at the end, and its users are told in the log', async () => {
    busy = true
    await supervisor.start()
    await ended()
    expect(calls).toEqual(['open', 'mount', 'unmount', 'unmount lazily'])
    expect(log.lines).toContainEqual(expect.objectContaining({ level: 'warn' }))
  })

  it('a target that does not answer fails the start and leaves nothing', async () => {
    answers = false
    await expect(supervisor.start()).rejects.toThrow(/was mounted but does not answer/)
    expect(calls).toEqual(['open', 'mount', 'unmount lazily'])
    expect(findRegistration(join(root, 'run'), join(root, 'target'))).toBeUndefined()
    answers = true
    calls = []
    await supervisor.start()
    await ended()
  })

  it('is stopped while it starts', async () => {
    const starting = supervisor.start()
    await supervisor.stop()
    await expect(starting).rejects.toThrow(/stopped before the mount answered/)
  })
})
