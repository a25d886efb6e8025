import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { type Finding, inspectRiak } from '../../../src/store/riak/inspect.ts'
import { type Cluster, type ClusterOptions, startCluster } from '../../support/riak-sim/cluster.ts'

const log = pino({ level: 'silent' })

async function clusterOf(options: ClusterOptions): Promise<Cluster> {
  const cluster = await startCluster(options)
  onTestFinished(() => cluster.close())
  return cluster
}

function inspect(cluster: Cluster, parameters: string): Promise<Finding[]> {
  return inspectRiak(`riak://${cluster.hosts}/?${parameters}`, log)
}

test('doctor: a fit cluster shows every node, its release, the type and a trial', async () => {
  const cluster = await clusterOf({ nodes: 3 })
  const findings = await inspect(cluster, 'type=ferryfs')
  expect(findings.filter(({ ok }) => !ok)).toEqual([])
  const said = findings.map(({ what }) => what)
  for (const [index, { port }] of cluster.nodes.entries()) {
    expect(said[index]).toBe(`127.0.0.1:${port} answers: riak${index + 1}@127.0.0.1, release 3.2.3`)
  }
  expect(said[3]).toBe('bucket type ferryfs is fit: allow_mult, n_val 3')
  expect(said[4]).toMatch(
    /^an object was written, read and deleted with r=quorum, w=quorum, dw=quorum in \d+ ms$/,
  )
  expect(cluster.requestCount('RpbDelReq')).toBe(1)
})

test('doctor: a node that is down is named, the others are still looked at', async () => {
  const cluster = await clusterOf({ nodes: 3 })
  await cluster.kill(2)
  const findings = await inspect(cluster, 'type=ferryfs')
  expect(findings.map(({ ok }) => ok)).toEqual([true, false, true, true, true, true])
  expect(findings[1]?.what).toContain(`127.0.0.1:${cluster.nodes[1]?.port} cannot be reached`)
  expect(findings[1]?.advice?.[0]).toContain('listener.protobuf.internal')
})

test.each([
  { release: '1.4.12', ok: false, advice: ['ferryfs needs Riak KV 2.0 or later'] },
  { release: '2.0.0', ok: true, advice: undefined },
  { release: 'riak_kv-3.2.5-4-g1a2b3c', ok: true, advice: undefined },
  { release: 'unknown', ok: true, advice: ['Make sure that this is Riak KV 2.0 or later'] },
])('doctor: release $release', async ({ release, ok, advice }) => {
  const cluster = await clusterOf({ nodes: 1, serverVersion: release })
  const [node] = await inspect(cluster, 'type=ferryfs')
  expect(node).toMatchObject({ ok, what: expect.stringContaining(`release ${release}`) })
  expect(node?.advice).toEqual(advice)
})

test('doctor: no node at all', async () => {
  const cluster = await clusterOf({ nodes: 1 })
  await cluster.kill(1)
  expect((await inspect(cluster, 'type=ferryfs')).map(({ ok }) => ok)).toEqual([false])
})

test('doctor: a missing bucket type comes with the lines that make it', async () => {
  const cluster = await clusterOf({ nodes: 3 })
  const missing = (await inspect(cluster, 'type=files')).filter(({ ok }) => !ok)
  expect(missing).toEqual([
    {
      ok: false,
      what: 'bucket type files is not there, or not active',
      advice: [
        `riak admin bucket-type create files '{"props":{"allow_mult":true,"last_write_wins":false,"n_val":3}}'`,
        'riak admin bucket-type activate files',
      ],
    },
  ])
})

test.each([
  [{ allowMult: false }, /allow_mult is false/],
  [{ lastWriteWins: true }, /last_write_wins is true/],
  [{ datatype: 'set' }, /datatype is set/],
  [{ nVal: 2 }, /w=3 is more than n_val 2/],
] as const)('doctor and open: an unfit bucket type is refused with the reason %j', async (props, reason) => {
  const cluster = await clusterOf({ nodes: 1, types: { odd: props } })
  const findings = (await inspect(cluster, 'type=odd&w=3')).filter(({ ok }) => !ok)
  expect(findings[0]?.what).toMatch(reason)
  expect(findings[0]?.advice?.join('\n')).toContain('riak admin bucket-type update odd')
  const open = openRiakStore(`riak://${cluster.hosts}/?type=odd&w=3`, { namespace: 'ns', log })
  await expect(open).rejects.toThrow(UsageError)
  await expect(open).rejects.toThrow(reason)
})

test('doctor: a memory backend and few replicas are named', async () => {
  const cluster = await clusterOf({ nodes: 1, types: { volatile: { backend: 'memory_mult', nVal: 2 } } })
  const findings = await inspect(cluster, 'type=volatile')
  expect(findings.map(({ what }) => what)).toContain('n_val is 2: the loss of one node can lose data')
  expect(findings.find(({ ok }) => !ok)?.what).toBe('backend memory_mult keeps objects in memory only')
})

test('open: a missing bucket type is refused with the command that tells more', async () => {
  const cluster = await clusterOf({ nodes: 1 })
  const open = openRiakStore(`riak://${cluster.hosts}/?type=files`, { namespace: 'ns', log })
  await expect(open).rejects.toThrow(UsageError)
  await expect(open).rejects.toThrow(/No bucket-type named 'files'.*ferryfs doctor/)
})

test('open: untyped buckets are told to keep siblings', async () => {
  const cluster = await clusterOf({ nodes: 1 })
  const store = await openRiakStore(`riak://${cluster.hosts}`, { namespace: 'ns', log })
  await store.close()
  for (const bucket of ['ns', 'ns.chunks', 'ns.dirs', 'ns.meta']) {
    const props = cluster.propsOf(1, bucket)
    expect(props).toMatchObject({ allowMult: true, lastWriteWins: false })
  }
  expect(cluster.propsOf(1, 'other')).toMatchObject({ allowMult: false })
})

test('P4: a store opened while the cluster is down serves once it is up', async () => {
  const cluster = await clusterOf({ nodes: 1 })
  await cluster.kill(1)
  const store = await openRiakStore(`riak://${cluster.hosts}/?type=ferryfs&timeout=2000`, {
    namespace: 'ns',
    log,
  })
  onTestFinished(() => store.close())
  await expect(store.ping()).rejects.toMatchObject({ retryable: true })
  await cluster.start(1)
  await expect.poll(() => store.ping().then(() => 'well', String)).toBe('well')
})
