import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ControlServer } from '../../../src/daemon/control-server.ts'
import { startTicks } from '../../../src/daemon/process.ts'
import type { Registration } from '../../../src/daemon/registry.ts'
import { DaemonTree } from '../../../src/daemon/tree-client.ts'
import { FrameParser } from '../../../src/daemon/tree-frames.ts'
import { SourceError } from '../../../src/migration/index.ts'
import { MemoryTree } from '../../support/restore/memory-tree.ts'
import { describeDirectory, describeTree } from '../../support/restore/plain-tree.ts'
import { restoreTo } from '../../support/restore/restore-to.ts'

describe('a tree that is read through its daemon', () => {
  let directory: string
  let registration: Registration
  let tree: MemoryTree
  const closing: Array<() => Promise<unknown>> = []

  beforeEach(() => {
    directory = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-tree-')))
    registration = {
      target: '/t',
      source: '/s',
      stateDir: directory,
      socket: join(directory, 'control.sock'),
      supervisorPid: process.pid,
      supervisorTicks: startTicks(process.pid) ?? 0,
    }
    tree = new MemoryTree()
    const below = tree.directory()
    tree.put('below', below)
    for (let n = 0; n < 10; n += 1) tree.put(Buffer.from([0xff, 0x41 + n]), tree.regular(`file ${n}`), below)
    tree.put('large', tree.regular(Buffer.alloc(5_000_000, 'abc')))
    tree.put('link', tree.symlink('below'))
    tree.put('attributes', tree.regular('', { xattrs: Buffer.alloc(0), mtimeNs: -5n, uid: 7 }))
  })

  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
    rmSync(directory, { recursive: true, force: true })
  })

  async function serve(): Promise<ControlServer> {
    const server = await ControlServer.listen(registration.socket, {
      carryOut: () => Promise.reject(new Error('of no use')),
      tree: async () => tree,
    })
    closing.push(() => server.close())
    return server
  }

  function client(silenceMs?: number): DaemonTree {
    const made = new DaemonTree(registration, silenceMs)
    closing.push(() => made.close())
    return made
  }

  it('P5: everything crosses: names of any bytes, chunks, attributes', async () => {
    await serve()
    const dest = join(directory, 'dest')
    expect((await restoreTo(client(), dest)).findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
  })

  it('P7: a worker that dies is asked again by the same question', async () => {
    let server = await serve()
    let asked = 0
    tree.onAsk = async () => {
      asked += 1
      if (asked % 7 !== 0) return
      await server.close()
      server = await serve()
    }
    const dest = join(directory, 'dest')
    expect((await restoreTo(client(), dest)).findings).toEqual([])
    expect(describeDirectory(dest)).toEqual(describeTree(tree))
    expect(asked).toBeGreaterThan(14)
  })

  it('errors cross with what can be done about them', async () => {
    await serve()
    const asking = client()
    for (const kind of ['away', 'changed', 'other'] as const) {
      tree.onAsk = () => {
        throw new SourceError(kind, `it is ${kind}`)
      }
      await expect(asking.root()).rejects.toMatchObject({ kind, message: `it is ${kind}` })
    }
  })

  it('P6: a daemon that is dead, or says nothing, is given up', async () => {
    const dead = new DaemonTree({ ...registration, supervisorTicks: 1 })
    await expect(dead.root()).rejects.toMatchObject({
      kind: 'gone',
      message: expect.stringContaining(`"ferryfs restore --state-dir ${directory} DEST" goes on without it`),
    })
    const sockets: Socket[] = []
    const silent = createServer((socket) => sockets.push(socket.on('error', () => undefined)))
    await new Promise<void>((resolve) => silent.listen(registration.socket, resolve))
    closing.push(async () => {
      for (const socket of sockets) socket.destroy()
      silent.close()
    })
    await expect(client(50).root()).rejects.toMatchObject({
      kind: 'gone',
      message: expect.stringMatching(/did not answer: /),
    })
  })

  it('an answer of another format, and a question of one, end the conversation and nothing else', async () => {
    await serve()
    const speak = (bytes: Buffer): Promise<void> =>
      new Promise((resolve) => {
        const socket = connect(registration.socket, () => socket.write('{"command":"tree"}\n'))
        socket.once('data', () => socket.write(bytes))
        socket.on('error', () => undefined).once('close', () => resolve())
      })
    await speak(Buffer.alloc(64, 0xff))
    await speak(Buffer.from([10, 0, 0, 0, 200, 0, 0, 0, 1, 2, 3, 4, 5, 6]))
    await speak(Buffer.concat([Buffer.from([6, 0, 0, 0, 2, 0, 0, 0]), Buffer.from('{}')]))
    expect(await client().totals()).toEqual({ files: 15, bytes: 0 })
  })

  it('frames are put together from parts of any length', () => {
    const parser = new FrameParser()
    const frame = Buffer.concat([Buffer.from([9, 0, 0, 0, 2, 0, 0, 0]), Buffer.from('{}xyz')])
    const found = [...Buffer.concat([frame, frame])].flatMap((byte) => parser.push(Buffer.from([byte])))
    expect(found.map(({ header, body }) => [header, body.toString()])).toEqual([
      [{}, 'xyz'],
      [{}, 'xyz'],
    ])
    expect(() => parser.push(Buffer.alloc(16))).toThrow('a frame of 0 bytes')
  })
})
