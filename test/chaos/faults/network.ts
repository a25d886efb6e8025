import type { Proxy as ToxicProxy } from 'toxiproxy-node-client'
import type { Cluster } from '../../support/riak-sim/cluster.ts'
import type { Fault as ReplicaFault } from '../../support/riak-sim/faults.ts'
import { addToxics, removeToxics, setOpen, type ToxicOf } from '../world/proxies.ts'
import { type Conductor, excusesStore, type Fault } from './fault.ts'

const REPLICAS = 3
const DAMAGED_OF = 4
const NO_NETWORK = 'the embedded store has no network'
const NO_SIMULATOR = 'needs the simulated cluster: replicas of a real one are not ours to damage'

const withNetwork: Pick<Fault, 'groups' | 'unavailable' | 'excuses'> = {
  groups: ['network'],
  unavailable: ({ store }) => (store.proxies.length === 0 ? NO_NETWORK : undefined),
  excuses: excusesStore,
}

/** Toxics on the line to every node. */
function toxic(name: string, toxics: readonly ToxicOf[]): Fault {
  return {
    ...withNetwork,
    name,
    begin: ({ world }) => addToxics(world.store.proxies, toxics),
    end: ({ world }) => removeToxics(world.store.proxies),
  }
}

async function setAllOpen(proxies: readonly ToxicProxy[], enabled: boolean): Promise<void> {
  for (const proxy of proxies) await setOpen(proxy, enabled)
}

/** Harm to replicas and answers inside the simulated cluster. */
function replica(name: string, faults: (cluster: Cluster) => readonly ReplicaFault[]): Fault {
  return {
    groups: ['network'],
    name,
    excuses: excusesStore,
    unavailable: ({ store }) =>
      store.simulator === undefined ? (store.proxies.length === 0 ? NO_NETWORK : NO_SIMULATOR) : undefined,
    begin: async ({ world }) => {
      const { simulator } = world.store
      if (simulator) for (const fault of faults(simulator)) simulator.inject(fault)
    },
    end: async ({ world }) => world.store.simulator?.state.faults.clear(),
  }
}

function nodeName(cluster: Cluster, index: number): string {
  return cluster.nodes[index]?.name ?? ''
}

/** One node gone: the process where it is ours, the line to it where it is not. */
const nodeLoss: Fault = {
  ...withNetwork,
  name: 'node-loss',
  async begin({ world: { store } }) {
    if (store.simulator) return store.simulator.kill(2)
    const proxy = store.proxies[1] ?? store.proxies[0]
    if (proxy) await setOpen(proxy, false)
  },
  async end({ world: { store } }) {
    if (store.simulator) return store.simulator.start(2)
    await setAllOpen(store.proxies, true)
  },
}

const flapping: Fault = {
  ...withNetwork,
  name: 'flapping',
  strikes: 5,
  strike: ({ world }: Conductor, nth) => setAllOpen(world.store.proxies, nth % 2 === 1),
  end: ({ world }) => setAllOpen(world.store.proxies, true),
}

/** The request took effect, and its answer never comes: by the node itself, or by a line that is cut in the answer. */
const lostAcknowledgement: Fault = {
  ...withNetwork,
  name: 'lost-ack',
  async begin({ world: { store } }) {
    if (store.simulator) {
      store.simulator.inject({ kind: 'drop-ack', requests: ['RpbPutReq', 'RpbDelReq'], probability: 0.4 })
    } else {
      await addToxics(store.proxies, [{ type: 'limit_data', attributes: { bytes: 200 }, toxicity: 0.4 }])
    }
  },
  async end({ world: { store } }) {
    store.simulator?.state.faults.clear()
    await removeToxics(store.proxies)
  },
}

/**
 * Objects that no replica has whole any more, where the legacy volume still has all there is: nobody sees it, and what is found
 * is written again.
 */
const damagedObject: Fault = {
  name: 'damaged-object',
  groups: ['network'],
  unavailable: ({ store }) => (store.simulator === undefined ? NO_SIMULATOR : undefined),
  idleIn: ({ copies, writeTo }) =>
    copies && writeTo === 'legacy'
      ? undefined
      : 'what only the store has cannot be had again once it is damaged',
  excuses: excusesStore,
  strikes: 2,
  strike: (conductor, nth) => damageSome(conductor, nth),
  // What is damaged now no client writes anew by chance.
  end: (conductor) => damageSome(conductor, 2),
}

/** Another part of what the store has each time. */
async function damageSome(
  { world: { store, namespace }, damaged, notInjected }: Conductor,
  nth: number,
): Promise<void> {
  const objects = [...(store.simulator?.everything(namespace) ?? [])]
    .filter(([name, copies]) => !name.startsWith(`${namespace}.meta/`) && [...copies.values()].some(isLive))
    .map(([name]) => name)
    .sort()
    .filter((_, index) => index % DAMAGED_OF === nth)
  if (objects.length === 0) return notInjected('nothing is in the store yet')
  for (const name of objects) {
    const slash = name.indexOf('/')
    store.simulator?.damage(store.bucketType, name.slice(0, slash), name.slice(slash + 1))
  }
  damaged()
}

const isLive = (values: readonly (Buffer | undefined)[]): boolean =>
  values.some((value) => value !== undefined)

export const NETWORK_FAULTS: readonly Fault[] = [
  { groups: ['network'], name: 'none' },
  toxic('latency', [{ type: 'latency', attributes: { latency: 60 } }]),
  toxic('jitter', [{ type: 'latency', attributes: { latency: 40, jitter: 40 } }]),
  toxic('bandwidth', [{ type: 'bandwidth', attributes: { rate: 800 } }]),
  toxic('reset', [{ type: 'reset_peer', attributes: { timeout: 20 }, toxicity: 0.5 }]),
  toxic('black-hole', [{ type: 'timeout', attributes: { timeout: 0 } }]),
  toxic('slow-close', [{ type: 'slow_close', attributes: { delay: 500 } }]),
  {
    ...withNetwork,
    name: 'outage',
    begin: ({ world }) => setAllOpen(world.store.proxies, false),
    end: ({ world }) => setAllOpen(world.store.proxies, true),
  },
  flapping,
  lostAcknowledgement,
  replica('stale-replica', (cluster) => {
    const node = nodeName(cluster, 1)
    // On one replica of three: with the same write lost on two the store itself would have lost it. Some keys have two
    // replicas on one node.
    const partitions = cluster.state.scattered(node, REPLICAS)
    return [{ kind: 'lose-write', node, partitions, probability: 0.5 }]
  }),
  replica('corrupted-value', (cluster) => [
    { kind: 'corrupt', node: nodeName(cluster, 0), probability: 0.4 },
  ]),
  damagedObject,
  toxic('truncated-value', [{ type: 'limit_data', attributes: { bytes: 3000 }, toxicity: 0.5 }]),
  nodeLoss,
]
