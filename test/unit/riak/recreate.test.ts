import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import type { KeySpace, KeyValueStore } from '../../../src/store/contract.ts'
import { bucketOf } from '../../../src/store/riak/buckets.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { type Cluster, startCluster } from '../../support/riak-sim/cluster.ts'
import type { Fault } from '../../support/riak-sim/faults.ts'
import { RawClient } from '../../support/riak-sim/raw-client.ts'
import type { DeleteMode } from '../../support/riak-sim/vnode.ts'
import { NAMESPACE, object } from './support.ts'

const KEY = 'k'
/** One key's life: made, deleted, made again, changed, deleted, made again. A chunk's version is always the same. */
const LIFE = ['put', 'delete', 'put', 'put', 'delete', 'put', 'delete'] as const

interface Place {
  readonly type: string
  readonly space: KeySpace
}

const PLACES: readonly Place[] = [
  { type: 'ferryfs', space: 'files' },
  { type: 'default', space: 'files' },
  { type: 'ferryfs', space: 'chunks' },
  { type: 'default', space: 'chunks' },
]

/** A store that asks the nodes with these numbers, or all. */
async function open(cluster: Cluster, { type }: Place, ...nodes: number[]): Promise<KeyValueStore> {
  const all = cluster.hosts.split(',')
  const hosts = nodes.length === 0 ? all : nodes.map((number) => all[number - 1])
  const store = await openRiakStore(`riak://${hosts.join(',')}/?type=${type}&timeout=3000`, {
    namespace: NAMESPACE,
    lookAgain: { everyMs: 20, settleMs: 60_000 },
    log: pino({ level: 'silent' }),
  })
  onTestFinished(() => store.close())
  return store
}

async function start(deleteMode: DeleteMode, seed = 1): Promise<Cluster> {
  const cluster = await startCluster({ deleteMode, seed, clock: deleteMode === 'keep' ? 'real' : 'manual' })
  onTestFinished(() => cluster.close())
  return cluster
}

function held(cluster: Cluster, { type, space }: Place): string[][] {
  const { bucket } = bucketOf(type, NAMESPACE, space)
  return [...cluster.replicas(type, bucket, KEY).values()].map((values) =>
    values.map((one) => one?.toString() ?? '†'),
  )
}

const FAULTS: readonly [what: string, fault: (request: string) => Fault][] = [
  ['a lost acknowledgement', (request) => ({ kind: 'drop-ack', requests: [request], times: 1 })],
  ['delivery in duplicate', (request) => ({ kind: 'twice', requests: [request], times: 1 })],
  ['a replica that misses it', () => ({ kind: 'lose-write', key: KEY, times: 1 })],
  ['a damaged answer', (request) => ({ kind: 'garbage', requests: [request], times: 1 })],
]

for (const [what, faultOf] of FAULTS) {
  test.each(['keep', 3000, 'immediate'] as const)(
    `P1, P2: deleted and made again with ${what} at each step: neither back, nor lost, nor twice (delete_mode %s)`,
    async (deleteMode) => {
      for (const place of PLACES) {
        for (const [at] of LIFE.entries()) {
          const cluster = await start(deleteMode, at + 1)
          const [writer, reader] = [await open(cluster, place), await open(cluster, place)]
          const { space } = place
          let alive: string | undefined
          for (const [step, action] of LIFE.entries()) {
            const version = { epoch: 0, version: space === 'chunks' ? 0 : step + 1 }
            const request = action === 'put' ? 'RpbPutReq' : 'RpbDelReq'
            const end = step === at ? cluster.inject(faultOf(request)) : undefined
            if (action === 'delete') await writer.delete(space, KEY, version)
            else {
              const value = space === 'chunks' ? 'chunk' : `life ${step}`
              const fresh = space === 'chunks' || step === 0
              await writer.put(space, KEY, object(value, version), { fresh })
            }
            end?.()
            alive = action === 'delete' ? undefined : space === 'chunks' ? 'chunk' : `life ${step}`
            const where = `${place.type} ${space}, fault at ${at}, step ${step}`
            const found = await reader.get(space, KEY, alive === undefined ? {} : { expect: version })
            expect(found?.value.toString(), where).toBe(alive)
            // A first read has the replicas agree, a second one finds the siblings that came of it.
            await reader.get(space, KEY, alive === undefined ? {} : { expect: version })
            // Tombstones side by side are one deletion.
            const copies = held(cluster, place).map((values) =>
              alive === undefined ? [...new Set(values)] : values,
            )
            for (const values of copies) expect(values, where).toEqual([alive ?? '†'])
            if (deleteMode !== 'keep' && step % 2 === 1) cluster.advance(5000)
          }
          expect(alive).toBeUndefined()
        }
      }
    },
  )
}

test('P2: a DELETE that is carried out long after the key was made again leaves the live object alone', async () => {
  for (const place of PLACES) {
    const cluster = await start('keep')
    const store = await open(cluster, place)
    const { type, space } = place
    const { bucket } = bucketOf(type, NAMESPACE, space)
    const name = { type: Buffer.from(type), bucket: Buffer.from(bucket), key: Buffer.from(KEY) }
    await store.put(space, KEY, object('first', 0), { fresh: true })
    await using late = await RawClient.connect(cluster.nodes[0]?.port ?? 0)
    const seen = await late.request('RpbGetReq', { ...name, deletedvclock: true })
    const vclock = 'fields' in seen ? seen.fields.vclock : undefined
    if (!Buffer.isBuffer(vclock)) throw new Error('no context')
    await store.delete(space, KEY, { epoch: 0, version: 0 })
    await store.put(space, KEY, object('again', 0), { fresh: space === 'chunks' })
    // Under the context of the first life, from a queue somewhere on the way.
    await late.request('RpbDelReq', { ...name, vclock })
    for (let read = 0; read < 2; read++) {
      const found = await store.get(space, KEY, { expect: { epoch: 0, version: 0 } })
      expect(found?.value.toString(), `${type} ${space}`).toBe('again')
    }
    for (const values of held(cluster, place)) expect(values, `${type} ${space}`).toEqual(['again'])
  }
})

test('P1: what a split hid from a delete goes when it comes to light', async () => {
  for (const place of PLACES) {
    const cluster = await start('keep', 3)
    const [near, far] = [await open(cluster, place, 2, 3), await open(cluster, place, 1)]
    const { space } = place
    const version = (number: number) => ({ epoch: 0, version: space === 'chunks' ? 0 : number })
    await near.put(space, KEY, object('seen', version(1)))
    cluster.partition([1], [2, 3])
    // As a put of which nobody has heard that it was carried out.
    await far.put(space, KEY, object('hidden', version(2)))
    await near.delete(space, KEY, version(2))
    cluster.heal()
    cluster.handoff()
    const alive = async (): Promise<string[]> => {
      await near.get(space, KEY)
      return held(cluster, place)
        .flat()
        .filter((value) => value !== '†')
    }
    await expect.poll(alive).toEqual([])
    // Made again it is no business of the deletion any more.
    await near.put(space, KEY, object('again', version(3)))
    expect((await near.get(space, KEY))?.value.toString()).toBe('again')
  }
})
