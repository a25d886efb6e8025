import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import type { Proxy as ToxicProxy } from 'toxiproxy-node-client'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { KeyValueStore, ObjectToStore } from '../../../src/store/contract.ts'
import { StoreError } from '../../../src/store/errors.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { toxiproxyTarget } from '../../support/containers/toxiproxy.ts'
import { behindProxies } from '../../support/riak-behind-proxies.ts'
import { RIAK_TYPES, type RiakTarget, riakTarget } from '../../support/riak-target.ts'

const toxiproxy = await toxiproxyTarget()
const targets = await Promise.all(RIAK_TYPES.map((type) => riakTarget({ seed: 17 }, type)))
let target = targets[0] as RiakTarget
afterAll(() => Promise.all(targets.map((one) => one[Symbol.asyncDispose]())))
process.stdout.write(
  toxiproxy === undefined
    ? 'Riak through a bad network: skipped, no Toxiproxy (go install github.com/Shopify/toxiproxy/v2/cmd/server@latest)\n'
    : `Riak through a bad network on ${targets.map(({ description }) => description).join(' and ')}, with ${toxiproxy.description}\n`,
)

interface Network {
  readonly store: KeyValueStore
  readonly proxies: readonly ToxicProxy[]
}

/** A store that reaches each node of the target through a proxy of its own. */
async function network(parameters: string): Promise<Network> {
  if (toxiproxy === undefined) throw new Error('no Toxiproxy')
  const server = await toxiproxy.start()
  onTestFinished(() => server[Symbol.asyncDispose]())
  const { proxies, url } = await behindProxies(target, server)
  const store = await openRiakStore(url(parameters), {
    namespace: `t${randomUUID()}`,
    log: pino({ level: 'silent' }),
  })
  onTestFinished(() => store.close())
  return { store, proxies }
}

function object(key: string, version: number): ObjectToStore {
  const value = Buffer.alloc(key.length * 997 + version * 1013, `${key} ${version} `)
  return {
    value,
    version: { epoch: 1, version },
    contentType: 'text/plain',
    metadata: { n: String(version) },
  }
}

const KEYS = Array.from({ length: 12 }, (_, number) => `key ${number}`)

/** What is known of each key while requests fail: the last version acknowledged, and those that may be there. */
class Workload {
  readonly #store: KeyValueStore
  readonly #acknowledged = new Map<string, number>()
  readonly #tried = new Map<string, number>()
  failures = 0

  constructor(store: KeyValueStore) {
    this.#store = store
  }

  /** Writes a next version of every key and reads every key; errors of the network are counted, wrong bytes fail. */
  async round(): Promise<void> {
    await Promise.all(KEYS.map((key) => this.#write(key)))
    await Promise.all(KEYS.map((key) => this.read(key)))
  }

  async #write(key: string): Promise<void> {
    const version = (this.#tried.get(key) ?? 0) + 1
    this.#tried.set(key, version)
    try {
      await this.#store.put('files', key, object(key, version))
      this.#acknowledged.set(key, version)
    } catch (error) {
      this.#failed(error)
    }
  }

  async read(key: string): Promise<void> {
    const version = this.#acknowledged.get(key)
    if (version === undefined) return
    try {
      const found = await this.#store.get('files', key, { expect: { epoch: 1, version } })
      const got = found?.version.version ?? 0
      expect(got).toBeGreaterThanOrEqual(version)
      expect(got).toBeLessThanOrEqual(this.#tried.get(key) ?? 0)
      expect(found).toEqual(object(key, got))
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    if (!(error instanceof StoreError)) throw error
    expect(error.retryable, String(error)).toBe(true)
    this.failures++
  }

  /** The network is well: everything comes out, at the latest once the nodes are known to be well. */
  async recovered(): Promise<void> {
    const round = async (): Promise<number> => {
      this.failures = 0
      await this.round()
      return this.failures
    }
    await expect.poll(round).toBe(0)
  }
}

async function hasResets([proxy]: readonly ToxicProxy[]): Promise<boolean> {
  try {
    const toxic = await proxy?.addToxic({
      name: 'tried',
      type: 'reset_peer',
      stream: 'downstream',
      toxicity: 0,
      attributes: { timeout: 0 },
    })
    await toxic?.remove()
    return true
  } catch (error) {
    // "invalid toxic type", which the client keeps to itself
    if (String(error).includes('status code 400')) return false
    throw error
  }
}

const DOWN = 'downstream'
const UP = 'upstream'

describe.skipIf(toxiproxy === undefined).each(targets)('through Toxiproxy, $description', (of) => {
  beforeAll(() => {
    target = of
  })

  test.each([
    ['latency with jitter', 'latency', DOWN, { latency: 20, jitter: 15 }],
    ['a narrow line', 'bandwidth', DOWN, { rate: 2000 }],
    ['answers in slices of 50 bytes', 'slicer', DOWN, { average_size: 50, size_variation: 20, delay: 10 }],
    ['requests in slices of 50 bytes', 'slicer', UP, { average_size: 50, size_variation: 20, delay: 10 }],
    ['connections that close late', 'slow_close', DOWN, { delay: 200 }],
  ] as const)('P6: %s: slower, and nothing fails', async (_name, type, stream, attributes) => {
    const { store, proxies } = await network('timeout=20000')
    for (const proxy of proxies)
      await proxy.addToxic({ name: 'toxic', type, stream, toxicity: 1, attributes })
    const workload = new Workload(store)
    for (let round = 0; round < 3; round++) await workload.round()
    expect(workload.failures).toBe(0)
  })

  test.for([
    ['connections reset', 'reset_peer', DOWN, { timeout: 0 }],
    ['answers cut after 3,000 bytes', 'limit_data', DOWN, { bytes: 3000 }],
    ['requests cut after 3,000 bytes', 'limit_data', UP, { bytes: 3000 }],
    ['silence', 'timeout', DOWN, { timeout: 0 }],
    ['silence, then closed', 'timeout', UP, { timeout: 100 }],
  ] as const)(
    'P1, P4: %s on one node does not show; on all it fails clearly and heals',
    async ([_name, type, stream, attributes], { skip }) => {
      const { store, proxies } = await network('timeout=4000')
      // Toxiproxy 2.1, the last image under its own name, is older than this toxic.
      if (type === 'reset_peer' && !(await hasResets(proxies))) skip('this Toxiproxy has no reset_peer')
      const workload = new Workload(store)
      await workload.round()
      expect(workload.failures).toBe(0)
      const [first] = proxies
      const single = await first?.addToxic({ name: 'one', type, stream, toxicity: 1, attributes })
      // One of three nodes: within the time of an operation another one answers.
      if (proxies.length > 2) {
        for (let round = 0; round < 3; round++) await workload.round()
        expect(workload.failures).toBe(0)
      }
      await single?.remove()
      const all = await Promise.all(
        proxies.map((proxy) => proxy.addToxic({ name: 'all', type, stream, toxicity: 1, attributes })),
      )
      await workload.round()
      expect(workload.failures).toBeGreaterThan(0)
      for (const toxic of all) await toxic.remove()
      await workload.recovered()
    },
  )

  test('P4: an outage of all nodes, twice', async () => {
    const { store, proxies } = await network('timeout=2000')
    const workload = new Workload(store)
    await workload.round()
    for (let outage = 0; outage < 2; outage++) {
      for (const proxy of proxies) await proxy.update({ ...proxy.toJson(), enabled: false })
      await workload.round()
      expect(workload.failures).toBeGreaterThan(0)
      for (const proxy of proxies) await proxy.update({ ...proxy.toJson(), enabled: true })
      await workload.recovered()
    }
  })

  test('P1: half of all answers are lost in the middle', async () => {
    const { store, proxies } = await network('timeout=3000')
    const workload = new Workload(store)
    await workload.round()
    const toxics = await Promise.all(
      proxies.map((proxy) =>
        proxy.addToxic({
          name: 'cut',
          type: 'limit_data',
          stream: DOWN,
          toxicity: 0.5,
          attributes: { bytes: 9000 },
        }),
      ),
    )
    for (let round = 0; round < 5; round++) await workload.round()
    for (const toxic of toxics) await toxic.remove()
    await workload.recovered()
  })
})
