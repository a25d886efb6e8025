import { expect, test } from 'vitest'
import { StoreCorrupt, StoreUnavailable } from '../../../src/store/errors.ts'
import type { Cluster } from '../../support/riak-sim/cluster.ts'
import { RawClient } from '../../support/riak-sim/raw-client.ts'
import { clusterWithStore, failureOf, NAMESPACE, object, replicas, storeOn, TYPE } from './support.ts'

const KEYS = Array.from({ length: 200 }, (_, number) => `file ${number}`)
const at = (version: number) => ({ epoch: 0, version })

function hostOf(cluster: Cluster, node: number): string {
  const { host, port } = cluster.nodes[node - 1] ?? { host: '', port: 0 }
  return `${host}:${port}`
}

test('P1: with two of three nodes dead an expected object is found or unavailable, never absent', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 3 }, 'w=3&dw=3')
  await Promise.all(KEYS.map((key) => store.put('files', key, object(key, 1))))
  await cluster.kill(2)
  await cluster.kill(3)
  const outcomes = await Promise.all(
    KEYS.map(async (key) => {
      const found = await store.get('files', key, { expect: at(1) }).catch((error: unknown) => error)
      if (found instanceof Error) {
        expect(found).toBeInstanceOf(StoreUnavailable)
        return 'unavailable'
      }
      expect(found).toEqual(object(key, 1))
      return 'found'
    }),
  )
  // Two of sixteen preference lists have no replica on the first node.
  const unavailable = outcomes.filter((outcome) => outcome === 'unavailable').length
  expect(unavailable).toBeGreaterThan(0)
  expect(unavailable).toBeLessThan(50)

  await cluster.start(2)
  await expect
    .poll(async () =>
      (await Promise.all(KEYS.map((key) => failureOf(store.get('files', key, { expect: at(1) }))))).filter(
        Boolean,
      ),
    )
    .toEqual([])
})

test('P1: acknowledged writes that are gone from sight are unavailable, and come back with their nodes', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 3 })
  await Promise.all(KEYS.map((key) => store.put('files', key, object('old', 1))))
  await cluster.kill(3)
  await Promise.all(KEYS.map((key) => store.put('files', key, object('new', 2))))
  await cluster.start(3)
  await cluster.kill(1)
  await cluster.kill(2)

  const survivor = await storeOn(cluster, 'timeout=5000', hostOf(cluster, 3))
  for (const key of KEYS) {
    const failure = await failureOf(survivor.get('files', key, { expect: at(2) }))
    expect(failure).toBeInstanceOf(StoreUnavailable)
    expect(String(failure)).toMatch(
      /version 0\.2 was stored, the nodes that answer show (nothing|version 0\.1)/,
    )
  }

  await cluster.start(1)
  await cluster.start(2)
  for (const key of KEYS) {
    expect((await survivor.get('files', key, { expect: at(2) }))?.value.toString()).toBe('new')
  }
})

test('P4: without a catalog nothing is taken for absent or current that not all owners were asked for', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 3 })
  await Promise.all(KEYS.map((key) => store.put('files', key, object('old', 1))))
  await cluster.kill(3)
  await Promise.all(KEYS.map((key) => store.put('files', key, object('new', 2))))
  await cluster.start(3)
  await cluster.kill(2)
  const survivors = await storeOn(cluster, 'timeout=5000', `${hostOf(cluster, 1)},${hostOf(cluster, 3)}`)
  for (const key of KEYS) {
    const found = await survivors.get('files', key, { everywhere: true }).catch((error: unknown) => error)
    if (found instanceof Error) expect(found).toBeInstanceOf(StoreUnavailable)
    else expect(found).toEqual(object('new', 2))
  }
  await cluster.start(2)
  const gone = 'never stored'
  expect(await survivors.get('files', gone, { everywhere: true })).toBeUndefined()
  for (const key of KEYS)
    expect(await survivors.get('files', key, { everywhere: true })).toEqual(object('new', 2))
})

test('P4: two of three replicas that lost what they acknowledged do not hide it from who has no catalog', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 5 })
  for (const key of KEYS.slice(0, 40)) {
    await store.put('dirs', key, object('old', 1))
    const end = cluster.inject({ kind: 'lose-write', key, times: 2 })
    await store.put('dirs', key, object('new', 2))
    end()
    expect((await store.get('dirs', key, { everywhere: true }))?.value.toString()).toBe('new')
  }
})

test('P1: stale replicas that answer first do not show', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 5 })
  for (const r of ['one', 'quorum', 'all']) {
    const reader = await storeOn(cluster, `r=${r}`)
    for (let number = 0; number < 40; number++) {
      const key = `${r} ${number}`
      await store.put('files', key, object('old', 1))
      // Two of three replicas acknowledge the new version and lose it.
      const end = cluster.inject({ kind: 'lose-write', key, times: 2 })
      await store.put('files', key, object('new', 2))
      end()
      const found = await reader.get('files', key, { expect: at(2) })
      expect(found?.value.toString()).toBe('new')
    }
  }
})

test('P1: a key that another client wrote siblings under is resolved by epoch, then version', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('epoch 0, version 9', { epoch: 0, version: 9 }))
  await store.put('files', 'other', object('epoch 1, version 2', { epoch: 1, version: 2 }))
  await store.put('files', 'third', object('epoch 1, version 1', { epoch: 1, version: 1 }))
  for (const from of ['other', 'third']) await copy(cluster, from, 'k')
  expect(replicas(cluster, 'k')[0]).toHaveLength(3)
  expect((await store.get('files', 'k'))?.value.toString()).toBe('epoch 1, version 2')
  // The read has written the winner over all of them.
  expect(replicas(cluster, 'k')).toEqual([
    ['epoch 1, version 2'],
    ['epoch 1, version 2'],
    ['epoch 1, version 2'],
  ])
})

test('P1: two copies of one version with different bytes are StoreCorrupt; equal ones are one', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('one', 1))
  await store.put('files', 'same', object('one', 1))
  await store.put('files', 'different', object('two', 1))
  await copy(cluster, 'same', 'k')
  expect(replicas(cluster, 'k')[0]).toEqual(['one', 'one'])
  expect((await store.get('files', 'k'))?.value.toString()).toBe('one')
  await copy(cluster, 'different', 'k')
  const failure = await failureOf(store.get('files', 'k'))
  expect(failure).toBeInstanceOf(StoreCorrupt)
  expect(String(failure)).toContain('files "k"')
  await store.put('files', 'k', object('three', 2))
  expect(replicas(cluster, 'k')).toEqual([['three'], ['three'], ['three']])
})

test('P1: a value damaged on one replica is read from another, on all of them it is StoreCorrupt', async () => {
  const { cluster, store } = await clusterWithStore()
  await store.put('files', 'k', object('precious', 1))
  for (let round = 0; round < 20; round++) {
    cluster.inject({ kind: 'corrupt', key: 'k', times: 1 })
    expect((await store.get('files', 'k', { expect: at(1) }))?.value.toString()).toBe('precious')
  }
  cluster.damage(TYPE, NAMESPACE, 'k')
  const failure = await failureOf(store.get('files', 'k', { expect: at(1) }))
  expect(failure).toBeInstanceOf(StoreCorrupt)
  expect(String(failure)).toContain('does not fit its checksum')
})

// With the nodes of the others gone a damaged replica would be all that there is. Riak shows it beside them as a sibling.
test.each([1, 2])(
  'P4: %i damaged replicas are replaced by the whole ones when they are met',
  async (copies) => {
    const { cluster, store } = await clusterWithStore()
    for (const key of KEYS.slice(0, 20)) {
      await store.put('files', key, object('precious', 1))
      cluster.damage(TYPE, NAMESPACE, key, copies)
      for (let reads = 0; reads < 20; reads++)
        expect((await store.get('files', key, { expect: at(1) }))?.value.toString()).toBe('precious')
      expect(replicas(cluster, key)).toEqual([['precious'], ['precious'], ['precious']])
    }
  },
)

test('P1: what something else wrote into the bucket is StoreCorrupt, not content', async () => {
  const { cluster, store } = await clusterWithStore()
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
  await client.request('RpbPutReq', { ...named('k'), content: { value: Buffer.from('foreign') } })
  expect(await failureOf(store.get('files', 'k'))).toBeInstanceOf(StoreCorrupt)
})

test('P1: a network split in two does not show old content on either side', async () => {
  const { cluster, store } = await clusterWithStore({ seed: 9 })
  await store.put('files', 'k', object('old', 1))
  cluster.partition([1], [2, 3])
  const left = await storeOn(cluster, 'timeout=5000', hostOf(cluster, 1))
  const right = await storeOn(cluster, 'timeout=5000', hostOf(cluster, 2))
  await right.put('files', 'k', object('new', 2))
  expect(await failureOf(left.get('files', 'k', { expect: at(2) }))).toBeInstanceOf(StoreUnavailable)
  expect((await store.get('files', 'k', { expect: at(2) }))?.value.toString()).toBe('new')
  cluster.heal()
  cluster.handoff()
  expect((await left.get('files', 'k', { expect: at(2) }))?.value.toString()).toBe('new')
  expect((await store.get('files', 'k', { expect: at(2) }))?.value.toString()).toBe('new')
})

function named(key: string): { type: Buffer; bucket: Buffer; key: Buffer } {
  return { type: Buffer.from(TYPE), bucket: Buffer.from(NAMESPACE), key: Buffer.from(key) }
}

/** Puts a copy of an object under another key without its context: a sibling of what is there. */
async function copy(cluster: Cluster, from: string, to: string): Promise<void> {
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
  const answer = await client.request('RpbGetReq', named(from))
  const content =
    'fields' in answer && Array.isArray(answer.fields.content) ? answer.fields.content[0] : undefined
  await client.request('RpbPutReq', { ...named(to), content, w: 3, dw: 3 })
}
