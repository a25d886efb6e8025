import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { inspectRiak } from '../../../src/store/riak/inspect.ts'
import { type Cluster, type ClusterOptions, startCluster } from '../../support/riak-sim/cluster.ts'
import { RawClient } from '../../support/riak-sim/raw-client.ts'
import { failureOf, object } from './support.ts'

const log = pino({ level: 'silent' })
const BUCKETS = ['ns', 'ns.chunks', 'ns.dirs', 'ns.meta']

async function clusterOf(options: ClusterOptions = {}): Promise<Cluster> {
  const cluster = await startCluster(options)
  onTestFinished(() => cluster.close())
  return cluster
}

/** The nodes, counted from 1, that keep siblings in all buckets of the namespace. */
const told = (cluster: Cluster): number[] =>
  [1, 2, 3].filter((number) => BUCKETS.every((bucket) => cluster.propsOf(number, bucket)?.allowMult === true))

test('riak-sim: properties reach the other nodes some time after the set', async () => {
  const cluster = await clusterOf({ clock: 'manual', seed: 3 })
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
  for (const bucket of BUCKETS)
    await client.request('RpbSetBucketReq', { bucket: Buffer.from(bucket), props: { allow_mult: true } })
  expect(told(cluster)).toEqual([1])
  await cluster.kill(3)
  cluster.advance(7600)
  expect(told(cluster)).toEqual([1, 2])
  await cluster.start(3)
  cluster.advance(15_200)
  expect(told(cluster)).toEqual([1, 2, 3])
})

test('open: untyped buckets on three nodes: each node is told and asked, none waits for another', async () => {
  const cluster = await clusterOf({ gossipMs: [1e8, 1e8] })
  const store = await openRiakStore(`riak://${cluster.hosts}`, { namespace: 'ns', log })
  onTestFinished(() => store.close())
  expect(told(cluster)).toEqual([1, 2, 3])
  await store.put('files', 'k', object('value'))
})

test('open: untyped buckets with a node away: it hears of it when it is back', async () => {
  const cluster = await clusterOf({ gossipMs: [1, 20] })
  await cluster.kill(2)
  const store = await openRiakStore(`riak://${cluster.hosts}/?timeout=3000`, { namespace: 'ns', log })
  onTestFinished(() => store.close())
  expect(told(cluster)).toEqual([1, 3])
  await cluster.start(2)
  await expect.poll(() => told(cluster)).toEqual([1, 2, 3])
})

test.each([
  ['says so', { datatype: 'set' }, /datatype is set/, true],
  ['says nothing', { datatype: 'set', silent: true }, /it has a datatype/, true],
  ['says so', { writeOnce: true }, /write_once is true/, true],
  ['says nothing', { writeOnce: true, silent: true }, /has the bucket type write_once\?/, false],
] as const)('doctor and open: a type that %s: %j', async (_, props, reason, atOpen) => {
  const cluster = await clusterOf({ types: { odd: props } })
  const url = `riak://${cluster.hosts}/?type=odd&timeout=3000`
  const findings = (await inspectRiak(url, log)).filter(({ ok }) => !ok)
  expect(findings.map(({ what }) => what).join('\n')).toMatch(reason)
  expect(findings[0]?.advice?.join('\n')).toContain('bucket-type create odd-ferryfs')
  const failure = await failureOf(
    openRiakStore(url, { namespace: 'ns', log }).then(async (store) => {
      onTestFinished(() => store.close())
      await store.put('meta', 'namespace', object('lease'), { replaces: 'nothing' })
    }),
  )
  expect(String(failure)).toMatch(reason)
  if (atOpen) expect(String(failure)).toContain('ferryfs doctor')
})

test('P4: a node that has just started answers pings before it serves: requests go to the others', async () => {
  const cluster = await clusterOf()
  const store = await openRiakStore(`riak://${cluster.hosts}/?type=ferryfs&timeout=3000`, {
    namespace: 'ns',
    log,
  })
  onTestFinished(() => store.close())
  await cluster.kill(1)
  await cluster.start(1, 1e8)
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
  expect(await client.request('RpbPingReq', {})).toMatchObject({ name: 'RpbPingResp' })
  const get = { type: Buffer.from('ferryfs'), bucket: Buffer.from('ns'), key: Buffer.from('k') }
  const answer = await client.request('RpbGetReq', get)
  expect('fields' in answer && String(answer.fields.errmsg)).toBe('{insufficient_vnodes,0,need,2}')
  const findings = await inspectRiak(`riak://${cluster.hosts}/?type=ferryfs`, log)
  expect(findings[0]).toMatchObject({ ok: false, what: expect.stringContaining('does not serve') })
  const putsThere = (): number => cluster.nodes[0]?.requests.get('RpbPutReq') ?? 0
  const atFirst = putsThere()
  // Each one is acknowledged, whichever node it is sent to first. Three that fail there take the node out; how soon they
  // come depends on how long the first one took.
  for (let version = 1; version <= 80; version++)
    await store.put('files', `k${version}`, object('v', version))
  const before = putsThere()
  expect(before - atFirst).toBeLessThanOrEqual(3)
  await cluster.start(1)
  await expect
    .poll(
      async () => {
        await store.put('files', 'again', object('v', 1000))
        return putsThere() > before
      },
      { timeout: 8000 },
    )
    .toBe(true)
})

test('riak-sim: a get with a timeout of 0 returns the object', async () => {
  const cluster = await clusterOf({ nodes: 1 })
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
  const at = { bucket: Buffer.from('b'), key: Buffer.from('k') }
  await client.request('RpbPutReq', { ...at, content: { value: Buffer.alloc(6 * 2 ** 20, 'x') } })
  const short = await client.request('RpbGetReq', { ...at, timeout: 1 })
  expect('fields' in short && String(short.fields.errmsg)).toBe('timeout')
  const none = await client.request('RpbGetReq', { ...at, timeout: 0 })
  expect(none).toMatchObject({ name: 'RpbGetResp', fields: { content: [{}] } })
})
