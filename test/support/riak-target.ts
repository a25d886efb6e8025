import { type Cluster, type ClusterOptions, startCluster } from './riak-sim/cluster.ts'

/** The Riak that a suite runs on. */
export interface RiakTarget extends AsyncDisposable {
  /** First line of a suite: what it ran on. */
  readonly description: string
  /** `host:port` of each node, with commas. */
  readonly hosts: string
  /** Only where the simulator is the target: faults, replicas, time. */
  readonly simulator: Cluster | undefined
  /** A `riak://` URL of the target, e.g. with `type=ferryfs`. */
  url(parameters?: string): string
}

/** Bucket type for the suites that use one; on a real cluster it has to be there and active. */
const BUCKET_TYPE = process.env.FERRYFS_RIAK_TYPE

/**
 * A real cluster where `FERRYFS_RIAK=host:port[,host:port…]` names one (and `FERRYFS_RIAK_TYPE` a bucket type on it, else
 * untyped buckets), the simulator otherwise.
 */
export async function riakTarget(options: ClusterOptions = {}): Promise<RiakTarget> {
  const hosts = process.env.FERRYFS_RIAK
  if (hosts !== undefined && hosts !== '') {
    return {
      description: `Riak at ${hosts} (FERRYFS_RIAK)`,
      hosts,
      simulator: undefined,
      url: (parameters) => url(hosts, parameters),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
  }
  const simulator = await startCluster(options)
  return {
    description: `riak-sim, ${simulator.nodes.length} nodes, seed ${options.seed ?? 1} (set FERRYFS_RIAK for a real cluster)`,
    hosts: simulator.hosts,
    simulator,
    url: (parameters) => url(simulator.hosts, parameters),
    [Symbol.asyncDispose]: () => simulator.close(),
  }
}

function url(hosts: string, parameters = BUCKET_TYPE === undefined ? '' : `type=${BUCKET_TYPE}`): string {
  return `riak://${hosts}/${parameters === '' ? '' : `?${parameters}`}`
}
