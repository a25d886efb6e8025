import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { callDaemon, DaemonError, DaemonGone } from '../../../src/daemon/control-client.ts'
import type { ControlRequest } from '../../../src/daemon/control-protocol.ts'
import { type ControlHandler, ControlServer } from '../../../src/daemon/control-server.ts'
import { type Progress, Refused } from '../../../src/daemon/engine.ts'
import { exitStatusOf } from '../../../src/daemon/exit-status.ts'
import { startTicks } from '../../../src/daemon/process.ts'
import type { Registration } from '../../../src/daemon/registry.ts'
import { StoreCorrupt, StoreTimeout, StoreUnavailable } from '../../../src/store/errors.ts'
import { MemoryTree } from '../../support/restore/memory-tree.ts'

const progress: Progress = {
  phase: 'copying',
  files: 1,
  filesTotal: 2,
  bytes: 10,
  bytesTotal: 20,
  bytesPerSecond: 5,
  etaSeconds: null,
}

describe('commands and daemon over the control socket', () => {
  let directory: string
  let registration: Registration
  const closing: (() => Promise<unknown>)[] = []

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-control-'))
    registration = {
      target: '/t',
      source: '/s',
      stateDir: directory,
      socket: join(directory, 'control.sock'),
      supervisorPid: process.pid,
      supervisorTicks: startTicks(process.pid) ?? 0,
    }
  })

  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
    rmSync(directory, { recursive: true })
  })

  async function serve(carryOut: ControlHandler['carryOut']): Promise<ControlServer> {
    const tree = async () => new MemoryTree()
    const server = await ControlServer.listen(registration.socket, { carryOut, tree })
    closing.push(() => server.close())
    return server
  }

  /** A server that is not ours: each connection gets what the function does to it. */
  async function fake(onConnection: (socket: Socket) => void): Promise<Server> {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      closing.push(async () => socket.destroy())
      onConnection(socket)
    })
    await new Promise<void>((resolve) => server.listen(registration.socket, resolve))
    closing.push(async () => server.close())
    return server
  }

  it('the socket belongs to its owner, also in the place of one that a killed worker left', async () => {
    writeFileSync(registration.socket, '')
    await serve(async () => ({}))
    expect(statSync(registration.socket).mode & 0o777).toBe(0o600)
  })

  it('a request gets progress, then its result', async () => {
    const asked: ControlRequest[] = []
    await serve(async (request, run) => {
      asked.push(request)
      run.onProgress(progress)
      return { files: 1, bytes: 10, remaining: 0, changed: 0, failures: [] }
    })
    const seen: Progress[] = []
    const result = await callDaemon(
      registration,
      { command: 'migrate', wait: true, rate: 7 },
      { onProgress: (step) => seen.push(step) },
    )
    expect(result).toEqual({ files: 1, bytes: 10, remaining: 0, changed: 0, failures: [] })
    expect(seen).toEqual([progress])
    expect(asked).toEqual([{ command: 'migrate', wait: true, rate: 7 }])
  })

  it.each([
    [new Refused('not now'), 3],
    [new UsageError('bad'), 2],
    [new StoreUnavailable('down'), 4],
    [new Error('lease', { cause: new StoreTimeout('slow') }), 4],
    [new StoreCorrupt('rotten'), 1],
    [new Error('other'), 1],
    ['a text', 1],
  ])('an error crosses with its words and its exit status: %s', async (error, status) => {
    await serve(() => Promise.reject(error))
    const failure = await callDaemon(registration, { command: 'pause' }).catch((caught: unknown) => caught)
    expect(failure).toBeInstanceOf(DaemonError)
    expect(exitStatusOf(failure)).toBe(status)
    expect(String(failure)).toContain(error instanceof Error ? error.message : error)
  })

  it('P6: who asked and went away is no longer worked for', async () => {
    const aborted = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    await serve((_request, run) => {
      begun.resolve()
      run.signal.addEventListener('abort', () => aborted.resolve())
      return new Promise(() => undefined)
    })
    const stop = new AbortController()
    const call = callDaemon(registration, { command: 'verify' }, { signal: stop.signal })
    await begun.promise
    stop.abort(new Error('interrupted'))
    await expect(call).rejects.toThrow('interrupted')
    await aborted.promise
  })

  it('a worker that dies in mid-answer is asked again', async () => {
    let calls = 0
    await fake((socket) => {
      calls += 1
      if (calls === 1) socket.destroy()
      else if (calls === 2) socket.end('{"progress":{"phase":"co')
      else socket.end('{"result":{}}\n')
    })
    expect(await callDaemon(registration, { command: 'resume' })).toEqual({})
    expect(calls).toBe(3)
  })

  it('what must not be begun twice is not', async () => {
    let calls = 0
    await fake((socket) => {
      calls += 1
      socket.once('data', () => socket.destroy())
    })
    const call = callDaemon(registration, { command: 'migrate', wait: true }, { again: false })
    await expect(call).rejects.toThrow(/did not answer: the connection was closed; see .*daemon.log/)
    expect(calls).toBe(1)
  })

  it('P6: a worker that says nothing is given up in bounded time', async () => {
    await fake(() => undefined)
    const call = callDaemon(registration, { command: 'status' }, { silenceMs: 50 })
    await expect(call).rejects.toThrow(
      /^the ferryfs daemon of \/t \(process \d+\) did not answer: nothing heard/,
    )
  })

  it('a daemon that is dead is told from one that is slow', async () => {
    const dead = { ...registration, supervisorTicks: 1 }
    await expect(callDaemon(dead, { command: 'status' })).rejects.toThrow(DaemonGone)
    await expect(callDaemon(dead, { command: 'status' })).rejects.toThrow(
      `"ferryfs mount /s /t --state-dir ${directory}" takes up where it ended, and so does "ferryfs mount /t"`,
    )
  })

  it('an answer of another format is refused', async () => {
    await serve(async () => ({ mode: 'fast' }))
    await expect(callDaemon(registration, { command: 'mode' })).rejects.toThrow(/answers in another format/)
  })

  it('what a newer worker adds to its status is kept', async () => {
    const report = {
      pid: 1,
      supervisorPid: 2,
      mode: 'mirror',
      source: '/s',
      target: '/t',
      stateDir: '/st',
      namespace: 'n',
      transport: 'kernel',
      sourceReadonly: false,
      startedAt: '',
      workerStarts: 1,
      store: { url: 'memory:', healthy: false, error: 'down', latencyMs: 4 },
      files: { total: 0, stored: 0, pending: 0, dirty: 0, failed: 0, drained: 0 },
      bytes: { total: 0, stored: 0 },
      outbox: { length: 0, oldestSeconds: 0 },
      staging: { bytes: 0, limit: 0 },
      stateDiskAnswers: true,
      reads: { legacy: 0, store: 0, staging: 0, cache: 0, overtaken: 0 },
      migration: { state: 'done', bytesPerSecond: 0, etaSeconds: null },
      failures: [],
      invented: true,
    }
    await serve(async () => report)
    expect(await callDaemon(registration, { command: 'status' })).toEqual(report)
  })

  it('closing lets answers out and takes the socket away', async () => {
    const server = await serve(async () => ({}))
    await callDaemon(registration, { command: 'pause' })
    await server.close()
    expect(existsSync(registration.socket)).toBe(false)
  })
})
