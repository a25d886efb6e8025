import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import type { KeyValueStore, ObjectToStore, ObjectVersion } from '../../../src/store/contract.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { type Cluster, type ClusterOptions, startCluster } from '../../support/riak-sim/cluster.ts'

/** Namespace of the stores that these tests open; their buckets begin with it. */
export const NAMESPACE = 'ns'

/** Bucket type of these suites; `FERRYFS_SIM_TYPE=default` has them run on untyped buckets. */
export const TYPE = process.env.FERRYFS_SIM_TYPE ?? 'ferryfs'

/** A cluster and a store on it, both gone when the test ends. */
export async function clusterWithStore(
  options: ClusterOptions = {},
  parameters = 'timeout=5000',
): Promise<{ cluster: Cluster; store: KeyValueStore }> {
  const cluster = await startCluster(options)
  onTestFinished(() => cluster.close())
  return { cluster, store: await storeOn(cluster, parameters) }
}

export async function storeOn(
  cluster: Cluster,
  parameters = 'timeout=5000',
  hosts = cluster.hosts,
): Promise<KeyValueStore> {
  const store = await openRiakStore(`riak://${hosts}/?type=${TYPE}&${parameters}`, {
    namespace: NAMESPACE,
    log: pino({ level: 'silent' }),
  })
  onTestFinished(() => store.close())
  return store
}

export function object(value: string, version: number | ObjectVersion = 1): ObjectToStore {
  return {
    value: Buffer.from(value),
    version: typeof version === 'number' ? { epoch: 0, version } : version,
    contentType: 'text/plain',
    metadata: { mode: '33188' },
  }
}

export function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  )
}

/** What the replicas of a file's key hold, one list of siblings for each; `†` is a tombstone. */
export function replicas(cluster: Cluster, key: string): string[][] {
  return [...cluster.replicas(TYPE, NAMESPACE, key).values()].map((values) =>
    values.map((value) => value?.toString() ?? '†'),
  )
}
