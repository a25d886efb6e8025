import { expect, test } from 'vitest'
import { type Cluster, startCluster } from '../../support/riak-sim/cluster.ts'
import type { PbMessage } from '../../support/riak-sim/protobuf.ts'
import { RawClient } from '../../support/riak-sim/raw-client.ts'

/**
 * The two experiments made on a real cluster of three (n_val 3, ring of 16, 200 keys). The simulator has to fail in the
 * same way, or tests against it prove nothing. The bounds are the recorder's, widened by what another choice of keys and
 * of first answers does.
 */
const KEYS = Array.from({ length: 200 }, (_, number) => `key ${number}`)
const at = (key: string): PbMessage => {
  return { type: Buffer.from('riakfuse'), bucket: Buffer.from('experiment'), key: Buffer.from(key) }
}

interface Counts {
  v1: number
  v2: number
  notFound: number
  errors: string[]
}

async function read(client: RawClient, options: PbMessage): Promise<Counts> {
  const counts: Counts = { v1: 0, v2: 0, notFound: 0, errors: [] }
  for (const key of KEYS) {
    const answer = await client.request('RpbGetReq', { ...at(key), ...options })
    if ('closed' in answer) throw new Error('closed')
    const { content, errmsg } = answer.fields
    if (Buffer.isBuffer(errmsg)) counts.errors.push(errmsg.toString())
    else if (!Array.isArray(content)) counts.notFound++
    else if (String(content[0]?.value) === 'v2') counts.v2++
    else counts.v1++
  }
  return counts
}

async function write(cluster: Cluster, value: string, quorum: number): Promise<void> {
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
  for (const key of KEYS) {
    const before = await client.request('RpbGetReq', at(key))
    const vclock = 'fields' in before ? before.fields.vclock : undefined
    const put = { ...at(key), vclock, content: { value: Buffer.from(value) }, w: quorum, dw: quorum }
    expect(await client.request('RpbPutReq', put)).toEqual({ name: 'RpbPutResp', fields: {} })
  }
}

test('riak-sim: not found is not absence', async () => {
  await using cluster = await startCluster({ nodes: 3, seed: 2 })
  await write(cluster, 'v1', 3)
  await cluster.kill(2)
  await cluster.kill(3)
  await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)

  const one = await read(client, { r: 1 })
  expect(one.v1).toBeGreaterThanOrEqual(60)
  expect(one.v1).toBeLessThanOrEqual(105)
  expect(one.notFound).toBe(200 - one.v1)

  // The reads with r=1 had the empty replicas repaired; what is missing now has no replica on the node that is left.
  for (const options of [
    { r: 2 },
    { r: 1, notfound_ok: false },
    { r: 2, notfound_ok: false, basic_quorum: true },
  ]) {
    const { v1, notFound } = await read(client, options)
    expect(notFound).toBeGreaterThanOrEqual(15)
    expect(notFound).toBeLessThanOrEqual(35)
    expect(v1).toBe(200 - notFound)
  }
  const primary = await read(client, { pr: 1, notfound_ok: false })
  expect(primary.notFound).toBe(0)
  expect(new Set(primary.errors)).toEqual(new Set(['{pr_val_unsatisfied,1,0}']))
  expect(primary.errors.length).toBeGreaterThanOrEqual(15)
  expect(primary.errors.length).toBeLessThanOrEqual(35)

  const two = await read(client, { pr: 2 })
  expect(two.v1).toBeGreaterThanOrEqual(35)
  expect(two.v1).toBeLessThanOrEqual(65)
  expect(two.errors.length).toBe(200 - two.v1)
})

test('riak-sim: an acknowledged write can be gone from sight', async () => {
  await using cluster = await startCluster({ nodes: 3, seed: 2 })
  await write(cluster, 'v1', 3)
  await cluster.kill(3)
  await write(cluster, 'v2', 2)
  await cluster.start(3)
  await cluster.kill(1)
  await cluster.kill(2)
  await using client = await RawClient.connect(cluster.nodes[2]?.port ?? 0)

  const one = await read(client, { r: 1 })
  expect(one.v2).toBe(0)
  expect(one.v1).toBeGreaterThanOrEqual(45)
  expect(one.v1).toBeLessThanOrEqual(85)

  for (const r of [2, 3]) {
    const { v1, v2, notFound } = await read(client, { r })
    expect(v2).toBe(0)
    expect(notFound).toBeGreaterThanOrEqual(20)
    expect(notFound).toBeLessThanOrEqual(50)
    expect(v1).toBe(200 - notFound)
  }
  const primary = await read(client, { pr: 1 })
  expect(primary.v2 + primary.notFound).toBe(0)
  expect(new Set(primary.errors)).toEqual(new Set(['{pr_val_unsatisfied,1,0}']))

  const two = await read(client, { pr: 2 })
  expect(two.v1).toBeGreaterThanOrEqual(10)
  expect(two.v1).toBeLessThanOrEqual(40)
  expect(two.errors.length).toBe(200 - two.v1)
})

test('riak-sim: the same seed gives the same run', async () => {
  const run = async (): Promise<Counts> => {
    await using cluster = await startCluster({ nodes: 3, seed: 11, clock: 'manual' })
    await write(cluster, 'v1', 3)
    await cluster.kill(2)
    await using client = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
    return await read(client, { r: 1 })
  }
  expect(await run()).toEqual(await run())
})
