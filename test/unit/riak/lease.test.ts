import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { Catalog } from '../../../src/catalog/index.ts'
import { NamespaceLease } from '../../../src/migration/lease.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { StoreSuperseded, StoreUnavailable } from '../../../src/store/errors.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { type Cluster, startCluster } from '../../support/riak-sim/cluster.ts'
import { failureOf, NAMESPACE, object, replicas, storeOn, TYPE } from './support.ts'

/** One state directory that wants the namespace, on the nodes that it sees. */
class Owner {
  readonly store: KeyValueStore
  readonly lease: NamespaceLease
  readonly catalog: Catalog
  readonly memory = new MemoryStore()
  epoch = 0

  constructor(store: KeyValueStore) {
    this.store = store
    this.lease = new NamespaceLease(store, NAMESPACE)
    const directory = mkdtempSync(join(tmpdir(), 'ferryfs-lease-'))
    this.catalog = Catalog.open(join(directory, 'catalog.db'), { check: false })
    onTestFinished(async () => {
      await this.catalog.close()
      rmSync(directory, { recursive: true })
    })
  }

  static async on(cluster: Cluster, ...nodes: number[]): Promise<Owner> {
    const hosts = nodes.map((number) => {
      const { host, port } = cluster.nodes[number - 1] ?? { host: '', port: 0 }
      return `${host}:${port}`
    })
    return new Owner(await storeOn(cluster, 'timeout=3000', hosts.length > 0 ? hosts.join(',') : undefined))
  }

  async acquire(store = this.store): Promise<void> {
    this.epoch = await new NamespaceLease(store, NAMESPACE).acquire(this.catalog, false)
  }

  /** As if it had found the namespace free: whatever the operator did to the cluster. */
  acquireUnseen(): Promise<void> {
    return this.acquire(this.memory)
  }

  /** Writes the lease as it does at a mount, whoever has one. */
  async claim(): Promise<void> {
    const record = await this.memory.get('meta', 'namespace')
    if (record) await failureOf(this.store.put('meta', 'namespace', record))
  }

  check(): Promise<void> {
    return this.lease.check(this.catalog, this.epoch)
  }

  put(key: string, value: string, version: number): Promise<void> {
    return this.store.put('files', key, object(value, { epoch: this.epoch, version }))
  }
}

async function cluster(seed = 1): Promise<Cluster> {
  const started = await startCluster({ seed })
  onTestFinished(() => started.close())
  return started
}

const SIDES: [alone: number, others: number[]][] = [
  [1, [2, 3]],
  [2, [1, 3]],
  [3, [1, 2]],
]

test.each(SIDES)(
  'P1: with node %i split off, an owned namespace is free on neither side',
  async (alone, others) => {
    const nodes = await cluster()
    const owner = await Owner.on(nodes)
    await owner.acquire()
    nodes.partition([alone], others)
    for (const side of [[alone], others]) {
      const intruder = await Owner.on(nodes, ...side)
      const failure = await failureOf(intruder.acquire())
      const isRefused = failure instanceof UsageError || failure instanceof StoreUnavailable
      expect(isRefused, String(failure)).toBe(true)
    }
    nodes.heal()
    nodes.handoff()
    await owner.check()
  },
)

test.each(SIDES)(
  'P1: with node %i split off, at most one side takes a free namespace',
  async (alone, others) => {
    const nodes = await cluster()
    nodes.partition([alone], others)
    const owners = [await Owner.on(nodes, alone), await Owner.on(nodes, ...others)]
    const failures = await Promise.all(owners.map((owner) => failureOf(owner.acquire())))
    for (const failure of failures.filter((one) => one !== undefined))
      expect(failure).toBeInstanceOf(StoreUnavailable)
    const winners = owners.filter((_, index) => failures[index] === undefined)
    expect(winners).toHaveLength(1)
    nodes.heal()
    nodes.handoff()
    for (const owner of owners) {
      if (winners.includes(owner)) await owner.check()
      else expect(await failureOf(owner.acquire())).toBeInstanceOf(UsageError)
    }
  },
)

test.each([
  ['one after the other', false],
  ['both having found it free', true],
])(
  'P1: of two that take a free namespace at once, %s, one has it or both are turned down',
  async (how, late) => {
    let wins = 0
    for (let seed = 1; seed <= 12; seed++) {
      const nodes = await cluster(seed)
      const owners = [await Owner.on(nodes, 1), await Owner.on(nodes, 2)]
      // Both have read before the first of them is told so, and writes.
      const end = late
        ? nodes.inject({ kind: 'delay', requests: ['RpbGetReq'], milliseconds: 40 })
        : undefined
      const failures = await Promise.all(owners.map((owner) => failureOf(owner.acquire())))
      for (const failure of failures.filter((one) => one !== undefined))
        expect(failure).toBeInstanceOf(UsageError)
      end?.()
      const winners = owners.filter((_, index) => failures[index] === undefined)
      expect(winners.length, `seed ${seed}`).toBeLessThan(2)
      for (const owner of winners) await owner.check()
      wins += winners.length
      // Whoever stands in the record now has it from now on, in the eyes of both.
      const again = await Promise.all([failureOf(owners[0]?.acquire() ?? Promise.reject())])
      const others = await failureOf(owners[1]?.acquire() ?? Promise.reject())
      expect([again[0], others].filter((failure) => failure === undefined)).toHaveLength(1)
      const copies = [...nodes.replicas(TYPE, `${NAMESPACE}.meta`, 'namespace').values()]
      expect(copies.map((values) => values.length)).toEqual([1, 1, 1])
    }
    process.stdout.write(`  two at once, ${how}: ${wins} of 12 times one has it\n`)
  },
)

/** A way to a node that keeps the first put until it is let go. */
async function putHolder(to: number): Promise<{ port: number; held: Promise<void>; release(): void }> {
  const PUT_REQUEST = 11
  const held = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const server = createServer((client) => {
    const node = connect(to, '127.0.0.1')
    for (const socket of [client, node]) socket.on('error', () => socket.destroy())
    node.pipe(client)
    client.on('data', async (frame: Buffer) => {
      if (frame[4] === PUT_REQUEST) {
        held.resolve()
        await released.promise
      }
      node.write(frame)
    })
    client.on('close', () => node.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { port: address.port, held: held.promise, release: released.resolve }
}

test.each([1, 2, 3, 4, 5])(
  'P1: untyped, and no node but %i keeps siblings yet: of two that take a free namespace at once, at most one has it',
  async (told) => {
    const nodes = await startCluster({ nodes: 5, gossipMs: [1e8, 1e8] })
    onTestFinished(() => nodes.close())
    const { host, port } = nodes.nodes[told - 1] ?? { host: '', port: 0 }
    const slow = await putHolder(port)
    const open = async (at: number): Promise<Owner> => {
      const url = `riak://${host}:${at}/?timeout=5000`
      const store = await openRiakStore(url, { namespace: NAMESPACE, log: pino({ level: 'silent' }) })
      onTestFinished(() => store.close())
      return new Owner(store)
    }
    const [early, late] = [await open(slow.port), await open(port)]
    // The first has looked, and its put arrives when the second has got the answer to its own.
    const first = failureOf(early.acquire())
    await slow.held
    const second = failureOf(late.acquire())
    await expect.poll(() => nodes.requestCount('RpbPutReq'), { interval: 5 }).toBe(1)
    slow.release()
    const failures = await Promise.all([first, second])
    const winners = [early, late].filter((_, index) => failures[index] === undefined)
    expect(winners).toHaveLength(1)
    for (const owner of winners) await owner.check()
    for (const owner of [early, late].filter((one) => !winners.includes(one)))
      expect(await failureOf(owner.acquire())).toBeInstanceOf(UsageError)
  },
)

test('P1: a lower lease that was written late gives way to that of the daemon that has the namespace', async () => {
  const nodes = await cluster()
  const [owner, other] = [await Owner.on(nodes), await Owner.on(nodes)]
  await other.acquireUnseen()
  owner.catalog.transaction(() => owner.catalog.meta.set('epoch', String(other.epoch)))
  await owner.acquire()
  const late = await other.memory.get('meta', 'namespace')
  if (!late) throw new Error('no lease')
  // Where siblings are not kept, the later of two is what is left.
  const now = await owner.store.get('meta', 'namespace')
  if (!now) throw new Error('no lease')
  await owner.store.delete('meta', 'namespace', now.version)
  await owner.store.put('meta', 'namespace', late)
  await owner.check()
  const after = await owner.store.get('meta', 'namespace')
  expect(after?.version.epoch).toBe(owner.epoch)
})

test('P1: two that own one step of the epoch on two sides: both see the same one win, and the other writes nothing more', async () => {
  const nodes = await cluster()
  nodes.partition([1], [2, 3])
  const owners = [await Owner.on(nodes, 1), await Owner.on(nodes, 2, 3)] as const
  for (const owner of owners) await owner.acquireUnseen()
  const [lower, higher] = [...owners].sort((a, b) => a.epoch - b.epoch) as [Owner, Owner]
  expect(lower.epoch).not.toBe(higher.epoch)
  // The loser has the higher numbers: only its epoch is lower.
  for (const owner of owners) {
    const version = owner === lower ? 500 : 1
    await owner.put('both', owner === lower ? 'loser' : 'winner', version)
    await owner.store.put(
      'dirs',
      '1-0',
      object(owner === lower ? 'loser' : 'winner', { epoch: owner.epoch, version }),
    )
  }
  await lower.put('own', 'loser', 501)
  nodes.heal()
  nodes.handoff()
  // What each side has written as its lease comes together, too.
  for (const owner of [higher, lower]) await owner.claim()
  expect(await failureOf(lower.check())).toBeInstanceOf(StoreSuperseded)
  await higher.check()
  for (const { store } of owners) {
    expect((await store.get('files', 'both'))?.value.toString()).toBe('winner')
    expect((await store.get('dirs', '1-0'))?.value.toString()).toBe('winner')
  }
  // In flight or not yet begun, with the context of its own last write: refused, and nothing of it is seen.
  expect(await failureOf(lower.put('both', 'late loser', 900))).toBeInstanceOf(StoreSuperseded)
  const late = { epoch: lower.epoch, version: 901 }
  expect(await failureOf(lower.store.delete('files', 'both', late))).toBeInstanceOf(StoreSuperseded)
  for (const { store } of owners) expect((await store.get('files', 'both'))?.value.toString()).toBe('winner')
  await higher.put('both', 'winner again', 2)
  expect(replicas(nodes, 'both')).toEqual([['winner again'], ['winner again'], ['winner again']])
})

test('P4: a namespace that a majority of its replicas cannot tell about is neither lost nor taken', async () => {
  const nodes = await cluster()
  const owner = await Owner.on(nodes)
  await owner.acquire()
  for (const number of [2, 3]) await nodes.kill(number)
  const lone = await Owner.on(nodes, 1)
  const [checked, taken] = await Promise.all([failureOf(owner.check()), failureOf(lone.acquire())])
  // The first node has one of the three replicas: it knows an owner, or nothing, and is not believed.
  expect([checked, taken].map((failure) => failure instanceof StoreUnavailable)).toEqual([true, true])
  for (const number of [2, 3]) await nodes.start(number)
  await expect.poll(() => owner.check().then(() => 'owned', String)).toBe('owned')
  expect(await failureOf(lone.acquire())).toBeInstanceOf(UsageError)
})
