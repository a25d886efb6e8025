import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'
import { StoreUnavailable } from '../../../src/store/errors.ts'
import { ping } from '../../../src/store/riak/client.ts'
import { Deadline } from '../../../src/store/riak/deadline.ts'
import { RiakNode } from '../../../src/store/riak/node.ts'
import { parseRiakUrl } from '../../../src/store/riak/url.ts'
import type { Cluster } from '../../support/riak-sim/cluster.ts'
import { clusterWithStore, failureOf, object, TYPE } from './support.ts'

afterEach(() => vi.restoreAllMocks())

function gets(cluster: Cluster, node: number): number {
  return cluster.nodes[node - 1]?.requests.get('RpbGetReq') ?? 0
}

test('P6: load moves off a slow node', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('v', 1))
  cluster.inject({ kind: 'delay', node: cluster.nodes[0]?.name ?? '', milliseconds: 250 })
  const before = [1, 2, 3].map((node) => gets(cluster, node))
  // One after the other: each finds all nodes without work, so that only what they took before tells them apart.
  for (let count = 0; count < 60; count++) await store.get('files', 'k')
  const [slow = 0, ...others] = [1, 2, 3].map((node, index) => gets(cluster, node) - (before[index] ?? 0))
  expect(slow).toBeLessThanOrEqual(6)
  expect(others.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(54)
})

test('P6, P4: a node that hangs costs a few requests their share of time, then none, and is back by itself', async () => {
  const { cluster, store } = await clusterWithStore({}, 'timeout=600&r=one')
  for (let count = 0; count < 12; count++) await store.put('files', `k${count}`, object('v', 1))
  cluster.pause(1)
  const ask = async (): Promise<number> => {
    const failures = await Promise.all(
      Array.from({ length: 12 }, (_, count) => failureOf(store.get('files', `k${count}`))),
    )
    return failures.filter((failure) => failure !== undefined).length
  }
  // Every request is answered by another node within its time, also while the first is not yet known to hang.
  for (let round = 0; round < 5; round++) expect(await ask()).toBe(0)
  const asked = gets(cluster, 1)
  for (let round = 0; round < 20; round++) expect(await ask()).toBe(0)
  expect(gets(cluster, 1)).toBe(asked)

  await cluster.start(1)
  const isAsked = async (): Promise<boolean> => {
    await ask()
    return gets(cluster, 1) > asked
  }
  await expect.poll(isAsked).toBe(true)
})

// The library's breaker goes by the clock of the day: with that set back by a day, every node that was out stayed out for a day.
test('P4: nodes that were out are back by themselves although the clock of the day was set back', async () => {
  const { cluster, store } = await clusterWithStore({}, 'timeout=600')
  await store.put('files', 'k', object('v', 1))
  for (const node of [1, 2, 3]) await cluster.kill(node)
  await expect.poll(async () => String(await failureOf(store.get('files', 'k')))).toContain('left alone')
  const now = Date.now
  vi.spyOn(Date, 'now').mockImplementation(() => now() - 86_400_000)
  for (const node of [1, 2, 3]) await cluster.start(node)
  await expect.poll(() => failureOf(store.get('files', 'k'))).toBeUndefined()
})

// The ping has two seconds, and what ran out of so short a part of the ten of an operation was taken for no sign of illness: each
// ping without an answer brought the node back, and the next requests waited for it until three of them had failed.
test('P6: with the default timeout, too, a node that does not answer its ping stays out', async () => {
  let connections = 0
  const silent = createServer((socket) => {
    connections += 1
    socket.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const address = silent.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const log = { warn: vi.fn(), info: vi.fn() }
  const { connections: most, timeoutMs } = parseRiakUrl(`riak://127.0.0.1:${address.port}`)
  const node = new RiakNode(
    { host: '127.0.0.1', port: address.port },
    { type: 'ferryfs', tls: undefined, connections: most, timeoutMs, log },
  )
  try {
    using deadline = new Deadline(timeoutMs / 4, [])
    await Promise.allSettled([1, 2, 3].map(() => node.run(ping(), deadline.signal)))
    expect(node.isWell).toBe(false)
    // A second ping is sent only because the first has not brought the node back.
    await expect.poll(() => connections >= 3 + 2 || node.isWell).toBe(true)
    expect(log.info).not.toHaveBeenCalled()
  } finally {
    node.close()
    silent.close()
  }
})

test('P6: no more connections to a node than the URL allows, whatever is asked at once', async () => {
  const { cluster, store } = await clusterWithStore({ nodes: 1 }, 'connections=3')
  let most = 0
  const watch = setInterval(() => {
    most = Math.max(most, cluster.nodes[0]?.connections ?? 0)
  }, 1)
  try {
    cluster.inject({ kind: 'delay', milliseconds: 10 })
    await Promise.all(
      Array.from({ length: 40 }, (_, count) => store.put('files', `k${count}`, object('v', 1))),
    )
  } finally {
    clearInterval(watch)
  }
  expect(most).toBe(3)
})

test('P6: more requests than may wait for a connection are refused at once', async () => {
  const { cluster, store } = await clusterWithStore({ nodes: 1 }, 'connections=1')
  await store.ping()
  cluster.pause(1)
  const asked = Array.from({ length: 1100 }, (_, count) => failureOf(store.get('files', `k${count}`)))
  const first = await Promise.race(asked)
  expect(first).toBeInstanceOf(StoreUnavailable)
  expect(String(first)).toContain('1024 requests wait for a connection already')
  await cluster.start(1)
  const failures = await Promise.all(asked)
  expect(failures.filter((failure) => failure === undefined).length).toBeGreaterThan(1000)
})

test('close: a process with live, hanging and dead nodes ends by itself', async () => {
  const { cluster } = await clusterWithStore()
  await cluster.kill(2)
  cluster.pause(3)
  const program = `
    import { openRiakStore } from './src/store/riak/index.ts'
    const log = { info() {}, warn() {} }
    const store = await openRiakStore('riak://${cluster.hosts}/?type=${TYPE}&timeout=1000', { namespace: 'ns', log })
    const pending = [1, 2, 3, 4, 5].map((n) => store.get('files', 'k' + n).catch(() => 'failed'))
    await pending[0]
    await store.close()
    await Promise.all(pending)
    console.log('closed')
  `
  const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (output += data.toString()))
  const code = await new Promise((resolve) => child.once('close', resolve))
  expect({ code, output }).toEqual({ code: 0, output: 'closed\n' })
})

test('after close the nodes have no connection left', async () => {
  const { cluster, store } = await clusterWithStore()
  await Promise.all(Array.from({ length: 20 }, (_, count) => store.put('files', `k${count}`, object('v', 1))))
  await store.close()
  await expect.poll(() => cluster.nodes.map(({ connections }) => connections)).toEqual([0, 0, 0])
})
