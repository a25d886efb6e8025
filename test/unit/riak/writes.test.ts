import { expect, test } from 'vitest'
import { StoreError, StoreSuperseded } from '../../../src/store/errors.ts'
import { clusterWithStore, failureOf, object, replicas, storeOn, TYPE } from './support.ts'

test('P4: a put whose acknowledgement is lost leaves one value, not two siblings', async () => {
  const { cluster, store } = await clusterWithStore()
  for (const [number, kind] of (['drop-ack', 'reset', 'garbage', 'foreign'] as const).entries()) {
    cluster.inject({ kind, requests: ['RpbPutReq'], times: 1 })
    await store.put('files', 'k', object(`value ${number}`, number))
    expect(replicas(cluster, 'k')).toEqual([[`value ${number}`], [`value ${number}`], [`value ${number}`]])
  }
})

test('P4: after a lost acknowledgement the writer reads before it writes again', async () => {
  const { cluster, store } = await clusterWithStore()
  cluster.inject({ kind: 'drop-ack', requests: ['RpbPutReq'], times: 1 })
  await store.put('files', 'k', object('value', 1), { fresh: true })
  // Put (lost), head, put.
  expect(cluster.requestCount('RpbGetReq')).toBe(1)
  expect(cluster.requestCount('RpbPutReq')).toBe(2)
  expect(replicas(cluster, 'k')).toEqual([['value'], ['value'], ['value']])
})

test('P4: after a lost acknowledgement also a remembered context is not used before a read', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('v1', 1), { fresh: true })
  cluster.inject({ kind: 'drop-ack', requests: ['RpbPutReq'], times: 1 })
  await store.put('files', 'k', object('v2', 2))
  // Put, put (lost), head, put: had the last one come under the first one's context, a sibling would want a fourth.
  expect(cluster.requestCount('RpbGetReq')).toBe(1)
  expect(cluster.requestCount('RpbPutReq')).toBe(3)
  expect(replicas(cluster, 'k')).toEqual([['v2'], ['v2'], ['v2']])
})

test("a tombstone's context is taken over, so that making a key again takes one put", async () => {
  const { cluster, store } = await clusterWithStore({ deleteMode: 'keep' })
  await store.put('dirs', 'k', object('v1', 1))
  await store.delete('dirs', 'k', { epoch: 0, version: 1 })
  await store.put('dirs', 'k', object('v2', 2))
  expect(cluster.requestCount('RpbPutReq')).toBe(2)
  const copies = [...cluster.replicas(TYPE, 'ns.dirs', 'k').values()]
  expect(copies.map((values) => values.map(String))).toEqual([['v2'], ['v2'], ['v2']])
})

test('the context of the own last write saves the read before the next', async () => {
  const { cluster, store } = await clusterWithStore()
  for (let version = 1; version <= 10; version++)
    await store.put('files', 'k', object(`v${version}`, version), { fresh: version === 1 })
  expect(cluster.requestCount('RpbGetReq')).toBe(0)
  expect(cluster.requestCount('RpbPutReq')).toBe(10)
  expect(replicas(cluster, 'k')).toEqual([['v10'], ['v10'], ['v10']])
})

test('what another process left under a key is read first, and replaced', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('v1', 1))
  await store.put('dirs', 'k', object('v1', 1))
  const successor = await storeOn(cluster)
  await successor.put('files', 'k', object('v2', 2))
  await successor.put('dirs', 'k', object('v2', 2))
  // Each of the four puts came after a read.
  expect(cluster.requestCount('RpbGetReq')).toBe(4)
  expect(cluster.requestCount('RpbPutReq')).toBe(4)
  expect(replicas(cluster, 'k')).toEqual([['v2'], ['v2'], ['v2']])
  const older = await failureOf((await storeOn(cluster)).put('files', 'k', object('v1', 1)))
  expect(older).toBeInstanceOf(StoreSuperseded)
})

test('P1: a key that was believed to be fresh and is not ends with one value, the newest', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('v1', 1))
  const successor = await storeOn(cluster)
  await successor.put('files', 'k', object('v2', 2), { fresh: true })
  expect(replicas(cluster, 'k')).toEqual([['v2'], ['v2'], ['v2']])
  const late = await storeOn(cluster)
  expect(await failureOf(late.put('files', 'k', object('v1', 1), { fresh: true }))).toBeInstanceOf(
    StoreSuperseded,
  )
  expect((await late.get('files', 'k'))?.value.toString()).toBe('v2')
})

test('P4: a fresh key over a tombstone is no sibling of it', async () => {
  const { cluster, store } = await clusterWithStore({ deleteMode: 'keep' })
  await store.put('files', 'k', object('v1', 1))
  await store.delete('files', 'k', { epoch: 0, version: 1 })
  await (await storeOn(cluster)).put('files', 'k', object('v2', 2), { fresh: true })
  expect(replicas(cluster, 'k')).toEqual([['v2'], ['v2'], ['v2']])
})

test('P4: a put delivered twice with one context is folded into one value', async () => {
  const { cluster, store } = await clusterWithStore()
  const second = await storeOn(cluster)
  await store.put('files', 'k', object('v1', 1))
  await second.put('files', 'k', object('v2', 2))
  // The context that `store` remembers is older than v2: its put makes a sibling, sees it, and replaces both.
  await store.put('files', 'k', object('v3', 3))
  expect(replicas(cluster, 'k')).toEqual([['v3'], ['v3'], ['v3']])
})

test('P1: a writer with an old epoch that remembers its context is told that it was superseded', async () => {
  const { cluster, store } = await clusterWithStore()
  const successor = await storeOn(cluster)
  await store.put('files', 'k', object('old epoch', { epoch: 1, version: 5 }))
  await successor.put('files', 'k', object('new epoch', { epoch: 2, version: 1 }))
  const failure = await failureOf(store.put('files', 'k', object('late', { epoch: 1, version: 6 })))
  expect(failure).toBeInstanceOf(StoreSuperseded)
  expect((await store.get('files', 'k'))?.value.toString()).toBe('new epoch')
  expect(replicas(cluster, 'k')).toEqual([['new epoch'], ['new epoch'], ['new epoch']])
})

test.each([3000, 'keep', 'immediate'] as const)(
  'P1: deleted and made again there is one value and nothing comes back (delete_mode %s)',
  async (deleteMode) => {
    const { cluster, store } = await clusterWithStore({ deleteMode, clock: 'manual' })
    for (let round = 0; round < 3; round++) {
      await store.put('files', 'k', object(`life ${round}`, round * 10 + 1))
      await store.put('files', 'k', object(`life ${round}, again`, round * 10 + 2))
      expect(replicas(cluster, 'k')).toEqual(Array.from({ length: 3 }, () => [`life ${round}, again`]))
      await store.delete('files', 'k', { epoch: 0, version: round * 10 + 2 })
      expect(await store.get('files', 'k')).toBeUndefined()
      // With and without the tombstone still there.
      if (round === 1) cluster.advance(10_000)
    }
    cluster.advance(10_000)
    expect(await store.get('files', 'k')).toBeUndefined()
    if (deleteMode !== 'keep') expect(replicas(cluster, 'k')).toEqual([])
  },
)

test('P4: a fresh key whose put fails again and again is put blindly only once', async () => {
  const { cluster } = await clusterWithStore({ seed: 5 })
  const { host, port } = cluster.nodes[0] ?? { host: '', port: 0 }
  const store = await storeOn(cluster, 'timeout=400', `${host}:${port}`)
  const well = () => expect.poll(() => store.ping().then(() => 'well', String)).toBe('well')
  const keys = ['k1', 'k2', 'k3', 'k4']
  for (const number of [2, 3]) cluster.pause(number)
  for (let attempt = 0; attempt < 3; attempt++) {
    for (const key of keys) {
      await well()
      const failure = await failureOf(store.put('files', key, object('v', 1), { fresh: true }))
      // Where the first node has two of the replicas it succeeds.
      if (failure !== undefined) expect(failure).toBeInstanceOf(StoreError)
    }
  }
  // A repetition that had not been able to read would be a sibling, one more with each attempt.
  for (const key of keys) expect(new Set(replicas(cluster, key).map(String))).toEqual(new Set(['v']))
  for (const number of [2, 3]) await cluster.start(number)
  for (const key of keys) {
    await well()
    await store.put('files', key, object('v', 1), { fresh: true })
    expect(replicas(cluster, key)).toEqual([['v'], ['v'], ['v']])
  }
})

test('P1: a delete whose acknowledgement is lost has deleted, also for another process', async () => {
  const { cluster, store } = await clusterWithStore({ deleteMode: 'keep' })
  const other = await storeOn(cluster)
  for (const deleter of [store, other]) {
    await store.put('files', 'k', object('v', 1))
    cluster.inject({ kind: 'drop-ack', requests: ['RpbDelReq'], times: 1 })
    await deleter.delete('files', 'k', { epoch: 0, version: 1 })
    expect(await store.get('files', 'k')).toBeUndefined()
    for (const values of replicas(cluster, 'k')) expect(new Set(values)).toEqual(new Set(['†']))
  }
  await store.put('files', 'k', object('again', 2))
  expect(replicas(cluster, 'k')).toEqual([['again'], ['again'], ['again']])
})

test('P1: a delete reaches what this process wrote although no replica in sight shows it', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 4, deleteMode: 'keep' })
  await cluster.kill(1)
  await store.put('files', 'k', object('v', 1))
  await cluster.start(1)
  await cluster.kill(2)
  await cluster.kill(3)
  const gone = await failureOf(store.delete('files', 'k', { epoch: 0, version: 1 }))
  expect(gone).toBeUndefined()
  await cluster.start(2)
  await cluster.start(3)
  cluster.handoff()
  expect(await store.get('files', 'k')).toBeUndefined()
})

test('P1: a delete also holds down the copy on a node that is away', async () => {
  const { cluster, store } = await clusterWithStore({ deleteMode: 'keep' })
  const successor = await storeOn(cluster)
  const up = async (...numbers: number[]): Promise<void> => {
    for (const number of [1, 2, 3])
      await (numbers.includes(number) ? cluster.start(number) : cluster.kill(number))
    // Until the stores know which nodes are there: a put that fails on the way would change what is tested.
    for (const one of [store, successor])
      await expect.poll(() => one.ping().then(() => 'well', String)).toBe('well')
  }
  const patiently = (work: () => Promise<void>) =>
    expect.poll(() => work().then(() => 'done', String)).toBe('done')
  await store.put('files', 'k', object('v1', 1))
  await up(3)
  await patiently(() => store.put('files', 'k', object('v2', 2)))
  await up(1, 2)
  // The same version once more, from a process that repeats what its predecessor may not have finished.
  await patiently(() => successor.put('files', 'k', object('v2', 2)))
  await patiently(() => store.delete('files', 'k', { epoch: 0, version: 2 }))
  await up(1, 2, 3)
  cluster.handoff()
  expect(await store.get('files', 'k')).toBeUndefined()
})

test('P2: a put counts as done only with its write quorum', async () => {
  const { cluster } = await clusterWithStore()
  const strict = await storeOn(cluster, 'w=3&dw=3&timeout=1000')
  cluster.pause(3)
  const failure = await failureOf(strict.put('files', 'k', object('v', 1)))
  expect(failure).toBeInstanceOf(StoreError)
  expect(failure).toMatchObject({ retryable: true, outcomeUnknown: true })
  await cluster.start(3)
  await expect.poll(() => strict.put('files', 'k', object('v', 1)).then(() => 'done', String)).toBe('done')
  expect(replicas(cluster, 'k')).toEqual([['v'], ['v'], ['v']])
})

test('P4: chunks that are stored twice stay one', async () => {
  const { cluster, store } = await clusterWithStore()
  const chunk = object('chunk', 0)
  cluster.inject({ kind: 'drop-ack', requests: ['RpbPutReq'], times: 1 })
  await Promise.all([1, 2, 3].map(() => store.put('chunks', 'id/0-hash', chunk)))
  const copies = [...cluster.replicas(TYPE, 'ns.chunks', 'id/0-hash').values()]
  expect(copies.map((values) => values.length)).toEqual([1, 1, 1])
})

test('too many siblings of another client go away with the next put', async () => {
  const { cluster, store } = await clusterWithStore({ nodes: 1 })
  await store.put('files', 'k', object('v1', 1))
  cluster.inject({ kind: 'error', error: '{too_many_siblings,101}', requests: ['RpbPutReq'], times: 1 })
  await expect.poll(() => store.put('files', 'k', object('v2', 2)).then(() => 'done', String)).toBe('done')
})
