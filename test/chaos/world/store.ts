import type { Proxy as ToxicProxy } from 'toxiproxy-node-client'
import { startToxiproxy, type ToxiproxyServer } from '../../integration/riak/toxiproxy.ts'
import { behindProxies } from '../../support/riak-behind-proxies.ts'
import type { Cluster } from '../../support/riak-sim/cluster.ts'
import { riakTarget } from '../../support/riak-target.ts'
import { removeToxics } from './proxies.ts'

/** What a daemon under test stores in, with what the faults take hold of. One for each lane; it outlives the mounts. */
export interface StoreUnderTest extends AsyncDisposable {
  readonly description: string
  /** The URL for a mount with that root directory, through the proxies; with a short limit of one operation, or with its default. */
  url(root: string, defaultTimeouts: boolean): string
  /** One in front of every node; none where there is no network. */
  readonly proxies: readonly ToxicProxy[]
  /** Bucket type in which the objects are, as Riak names that of untyped buckets too. */
  readonly bucketType: string
  /** Only where the simulator is the store. */
  readonly simulator: Cluster | undefined
  /** Everything is well again, whatever a case that broke off has left. */
  heal(): Promise<void>
}

// A fraction of the daemon's own limit, so that a node that does not answer leaves time to ask another.
const RIAK_TIMEOUT_MS = 1500
// How often nodes give back what they kept for one that was away.
const HANDOFF_MS = 200

export async function riakStore(program: string, seed: number): Promise<StoreUnderTest> {
  const type = seed % 2 === 0 ? 'ferryfs' : undefined
  const target = await riakTarget({ seed }, type)
  target.simulator?.handoffEvery(HANDOFF_MS)
  let server: ToxiproxyServer | undefined
  try {
    server = await startToxiproxy(program)
    const { proxies, url } = await behindProxies(target, server)
    const running = server
    return {
      description: `${target.description}, each node behind Toxiproxy`,
      url: (_, defaultTimeouts) => url(defaultTimeouts ? '' : `timeout=${RIAK_TIMEOUT_MS}`),
      proxies,
      bucketType: type ?? 'default',
      simulator: target.simulator,
      async heal() {
        target.simulator?.state.faults.clear()
        for (const number of target.simulator?.nodes.keys() ?? []) await target.simulator?.start(number + 1)
        await removeToxics(proxies)
      },
      async [Symbol.asyncDispose]() {
        await running[Symbol.asyncDispose]()
        await target[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await server?.[Symbol.asyncDispose]()
    await target[Symbol.asyncDispose]()
    throw error
  }
}

export function embeddedStore(): StoreUnderTest {
  return {
    description: 'the embedded store (no network: network and replica faults are not covered)',
    url: (root) => `embedded:${root}/store`,
    proxies: [],
    bucketType: 'default',
    simulator: undefined,
    heal: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}
