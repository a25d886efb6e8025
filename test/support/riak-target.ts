import { messageOf, NoContainers } from './containers/engine.ts'
import { startRiakContainers } from './containers/riak.ts'
import { type Cluster, type ClusterOptions, startCluster } from './riak-sim/cluster.ts'

/** The Riak that a suite runs on. */
export interface RiakTarget extends AsyncDisposable {
  /** First line of a suite: what it ran on, and why on that. */
  readonly description: string
  /** `host:port` of each node, with commas. */
  readonly hosts: string
  /** Only where the simulator is the target: faults, replicas, time. */
  readonly simulator: Cluster | undefined
  /** A `riak://` URL of the target, e.g. with `type=ferryfs`. */
  url(parameters?: string): string
}

/** Bucket type for the suites that use one; on a real cluster it has to be there and active. */
const BUCKET_TYPE = process.env.FERRYFS_RIAK_TYPE || undefined

/**
 * Bucket types that every suite runs with: untyped and typed on the simulator; on a real cluster, or in containers, as
 * `FERRYFS_RIAK_TYPE` says.
 */
export const RIAK_TYPES: readonly (string | undefined)[] =
  process.env.FERRYFS_RIAK || process.env.FERRYFS_TEST_CONTAINERS === '1'
    ? [BUCKET_TYPE]
    : [undefined, 'ferryfs']

/**
 * A real cluster where `FERRYFS_RIAK=host:port[,host:port…]` names one (and `FERRYFS_RIAK_TYPE` a bucket type on it, else
 * untyped buckets); with `FERRYFS_TEST_CONTAINERS=1` containers of `FERRYFS_RIAK_IMAGE`, where they can be had; else the
 * simulator, which `options` and `type` are for.
 */
export async function riakTarget(options: ClusterOptions = {}, type = BUCKET_TYPE): Promise<RiakTarget> {
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
  const containers = await inContainers(options.nodes)
  if (typeof containers !== 'string') return containers
  const simulator = await startCluster(options)
  return {
    description: `riak-sim, ${simulator.nodes.length} nodes, ${type ?? 'untyped'}, seed ${options.seed ?? 1} (${containers})`,
    hosts: simulator.hosts,
    simulator,
    url: (parameters) => url(simulator.hosts, parameters, type),
    [Symbol.asyncDispose]: () => simulator.close(),
  }
}

/** A cluster of containers, or why there is none. */
async function inContainers(nodes: number | undefined): Promise<RiakTarget | string> {
  if (process.env.FERRYFS_TEST_CONTAINERS !== '1') {
    return 'set FERRYFS_RIAK for a real cluster, FERRYFS_TEST_CONTAINERS=1 for one in containers'
  }
  try {
    const started = await startRiakContainers({
      ...(nodes !== undefined && { nodes }),
      ...(BUCKET_TYPE !== undefined && { type: BUCKET_TYPE }),
    })
    const type = BUCKET_TYPE ?? started.type
    return {
      description: `${started.description}, ${type === undefined ? 'untyped buckets' : `bucket type ${type}`} (FERRYFS_TEST_CONTAINERS)`,
      hosts: started.hosts,
      simulator: undefined,
      url: (parameters) => url(started.hosts, parameters, type),
      [Symbol.asyncDispose]: () => started[Symbol.asyncDispose](),
    }
  } catch (error) {
    if (!(error instanceof NoContainers)) throw error
    return `FERRYFS_TEST_CONTAINERS=1, but ${messageOf(error)}`
  }
}

function url(hosts: string, parameters?: string, type = BUCKET_TYPE): string {
  const query = parameters ?? (type === undefined ? '' : `type=${type}`)
  return `riak://${hosts}/${query === '' ? '' : `?${query}`}`
}
