import { mkdirSync, writeFileSync } from 'node:fs'
import type { Proxy as ToxicProxy } from 'toxiproxy-node-client'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { addToxics, removeToxics, setOpen } from '../../chaos/world/proxies.ts'
import { toxiproxyTarget } from '../../support/containers/toxiproxy.ts'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Applications } from '../../support/mount/applications.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { behindProxies, type ProxiedRiak } from '../../support/riak-behind-proxies.ts'
import { RIAK_TYPES, type RiakTarget, riakTarget } from '../../support/riak-target.ts'

const MiB = 1 << 20
const DIRECTORIES = 12
const FILES_EACH = 40
const OP_TIMEOUT_S = 8
/** The bucket of `ferryfs_wait_seconds` that an operation beyond its deadline falls out of. */
const WITHIN_DEADLINE = '10'
/** Moved between two losses at least, and steps of each application meanwhile. */
const MOVED = 20
const STEPS = 4
/** Bytes per second: so slow that some are left for the last loss. */
const RATE = 150_000
/** What the daemon logs when a node is out. */
const GIVEN_UP = 'a Riak node fails'
/** How often the simulator's nodes give back what they kept for one that was away. */
const HANDOFF_MS = 200

const toxiproxy = await toxiproxyTarget()
const reasons = [whyNoMount(), toxiproxy ? undefined : 'there is no Toxiproxy'].filter(
  (one) => one !== undefined,
)

/**
 * How a node is lost. `silent`: requests reach it and are carried out, no answer comes back. `stopped`: it takes connections
 * and requests and does nothing, for its peers neither.
 */
type Way = 'killed' | 'cut off' | 'silent' | 'stopped'

describe.skipIf(reasons.length > 0).each(RIAK_TYPES)('losing a node, bucket type %s', (type) => {
  let target: RiakTarget
  let riak: ProxiedRiak
  let ferry: Ferry
  let stack: AsyncDisposableStack

  beforeEach(async () => {
    stack = new AsyncDisposableStack()
    ferry = new Ferry()
    target = stack.use(await riakTarget({ seed: 23 }, type))
    target.simulator?.handoffEvery(HANDOFF_MS)
    if (toxiproxy === undefined) throw new Error('no Toxiproxy')
    riak = await behindProxies(target, stack.use(await toxiproxy.start()))
  })

  afterEach(async () => {
    await ferry.clear()
    await stack.disposeAsync()
  })

  /** The node is gone until the function returned is called. Nodes count from 1. */
  async function lose(number: number, proxy: ToxicProxy, way: Way): Promise<() => Promise<void>> {
    const { simulator } = target
    switch (way) {
      case 'killed':
        await simulator?.kill(number)
        return async () => simulator?.start(number)
      case 'stopped':
        simulator?.pause(number)
        return async () => simulator?.start(number)
      case 'cut off':
        await setOpen(proxy, false)
        return () => setOpen(proxy, true)
      case 'silent':
        await addToxics([proxy], [{ type: 'timeout', attributes: { timeout: 0 } }])
        return () => removeToxics([proxy])
    }
  }

  /** Small files, some of them beyond the inline limit, and one of several chunks in every other directory. */
  function makeTree(): { unchanged: Map<string, Buffer>; all: Map<string, Buffer> } {
    const unchanged = new Map<string, Buffer>()
    const all = new Map<string, Buffer>()
    for (const directory of ['written', 'renamed']) mkdirSync(ferry.under(directory))
    for (let d = 0; d < DIRECTORIES; d += 1) {
      mkdirSync(ferry.under(`d${d}`))
      for (let n = 0; n <= FILES_EACH; n += 1) {
        const isLarge = n === FILES_EACH
        if (isLarge && d % 2 === 1) continue
        const path = `d${d}/${isLarge ? 'large' : `file-${n}`}`
        const body = pattern(
          isLarge ? 2 * MiB + 1000 * d + 1 : 200 + (((d * 41 + n) * 211) % 9000),
          d * 100 + n,
        )
        writeFileSync(ferry.under(path), body)
        all.set(path, body)
        // What is read is copied at once: most is left to the migration.
        if (isLarge || d === 0) unchanged.set(path, body)
      }
    }
    return { unchanged, all }
  }

  /** The daemon's own figures by name and labels, as its metrics page has them. */
  async function figures(): Promise<Map<string, number>> {
    const port = /"metricsPort":(\d+)/.exec(ferry.log)?.[1]
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    const lines = page.split('\n').filter((line) => !line.startsWith('#') && line !== '')
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]),
    )
  }

  const timesIn = (text: string, phrase: string): number => text.split(phrase).length - 1

  /** The daemon has given a node up since there were so many losses in its log. */
  const noticed = (losses: number): Promise<void> =>
    ferry.eventually('the loss is noticed', () => Promise.resolve(timesIn(ferry.log, GIVEN_UP) > losses))

  /** Every node that the daemon had given up is in use again. */
  const allWell = (): Promise<void> =>
    ferry.eventually('all nodes in use', () =>
      Promise.resolve(timesIn(ferry.log, GIVEN_UP) === timesIn(ferry.log, 'the Riak node answers again')),
    )

  const cases = [
    ['mirror', 'default'],
    ['prefer-store', 'ferryfs'],
  ] as const
  test.each(gateShare(cases, 2, RIAK_TYPES.indexOf(type)))(
    'P1, P4, P6: in %s nobody at the mount notices, and one sibling is left of everything (type %s)',
    async (mode, type) => {
      const { simulator } = target
      const namespace = `t${mode}-${Date.now().toString(36)}`
      const url = riak.url(`timeout=3000${simulator ? `&type=${type}` : ''}`)
      process.stdout.write(
        `Loss of nodes in ${mode} on ${target.description}, with ${toxiproxy?.description}\n`,
      )
      const { unchanged, all } = makeTree()
      const settings = { metricsListen: '0', inlineLimit: '4KiB', memoryCacheLimit: '0', cacheLimit: '0' }
      writeFileSync(`${ferry.root}/settings.json`, JSON.stringify(settings))
      await ferry.mount(
        ...['--mode', mode, '--store', url, '--namespace', namespace, '--op-timeout', `${OP_TIMEOUT_S}s`],
        ...['--config', `${ferry.root}/settings.json`],
      )
      const applications = new Applications(ferry, unchanged)
      // What is read is copied: the large files, which the rate would wait for, are in the store.
      await applications.further(unchanged.size)
      const migrated = ferry.ferryfs('migrate', ferry.target, '--wait', '--rate', String(RATE))
      await ferry.until('the migration', ({ migration }) => migration.state === 'running')
      await ferry.ask({ command: 'pause' })
      const ways: readonly Way[] = simulator
        ? ['killed', 'cut off', 'silent', 'stopped']
        : ['cut off', 'silent']
      const lost = new Map<Way, number>()
      for (const way of ways) {
        for (const [index, proxy] of riak.proxies.entries()) {
          await ferry.ask({ command: 'resume' })
          const before = (await ferry.status()).files.stored
          const at = await ferry.until('files on the move', ({ files }) => files.stored >= before + 2)
          const losses = timesIn(ferry.log, GIVEN_UP)
          const back = await lose(index + 1, proxy, way)
          const moved = ferry.until('files moved', ({ files }) => files.stored >= at.files.stored + MOVED)
          const paused = moved.then(() => ferry.ask({ command: 'pause' }))
          // Of a node that does nothing its peers know nothing: keys with two replicas there wait until it is back.
          if (way !== 'stopped') await paused
          // A node without answers costs a request its share of time, and then the choice avoids it as a slow one: whether it
          // gets the three that take it out, nobody can say.
          if (way === 'killed' || way === 'cut off') await noticed(losses)
          await applications.further(STEPS)
          await back()
          await paused
          expect([at.migration.state, (await moved).migration.state]).toEqual(['running', 'running'])
          lost.set(way, (lost.get(way) ?? 0) + 1)
          await allWell()
          await applications.further(1)
        }
      }
      await applications.stop()
      // Its end comes while a node is away, too.
      const [last] = riak.proxies
      const back = last && (await lose(1, last, 'silent'))
      await ferry.ask({ command: 'resume' })
      await ferry.ask({ command: 'migrate', wait: false, rate: 0 })
      const ended = await migrated
      expect(ended, ended.stdout + ended.stderr).toMatchObject({ status: 0 })
      const moved = /moved (\d+) files/.exec(ended.stdout)?.[1]
      await back?.()
      await allWell()
      const settled = await ferry.settled()
      expect(settled.failures).toEqual([])
      const expected = new Map([...all, ...applications.contents])
      for (const [path, body] of expected) {
        expect((await ferry.readAnew(path)).equals(body), path).toBe(true)
        expect((await ferry.call.readFile(ferry.under(path))).equals(body), `legacy ${path}`).toBe(true)
      }
      simulator?.handoff()
      // Replicas that differ become siblings when a first read repairs them, and one of those when a second one sees them.
      await ferry.done('verify', ferry.target)
      const verified = await ferry.ferryfs('verify', ferry.target)
      expect(verified, verified.stdout + verified.stderr).toMatchObject({ status: 0 })
      expect(siblings(namespace)).toEqual([])
      const counted = await figures()
      const sum = (start: string, ...parts: string[]): number =>
        [...counted].reduce(
          (total, [name, value]) =>
            name.startsWith(start) && parts.every((part) => name.includes(part)) ? total + value : total,
          0,
        )
      const waits = sum('ferryfs_wait_seconds_count')
      const failed =
        sum('ferryfs_store_operations_total', 'unavailable') +
        sum('ferryfs_store_operations_total', 'timeout')
      process.stdout.write(
        `  ${applications.operations} operations at the mount, none failed; ${applications.readsChecked + expected.size} reads ` +
          `checked; ${moved} files moved; nodes lost: ${[...lost].map(([way, times]) => `${times} ${way}`).join(', ')}; ` +
          `${waits} operations waited for something, ${waits - sum('ferryfs_wait_seconds_bucket', 'le="1"')} of them more than a ` +
          `second; store requests: ${sum('ferryfs_store_operations_total')}, of them ${failed} tried again; ` +
          `reads served by the store: ${settled.reads.store}, by the volume: ${settled.reads.legacy}\n`,
      )
      expect(sum('ferryfs_wait_seconds_bucket', `le="${WITHIN_DEADLINE}"`)).toBe(waits)
      await ferry.unmount()
    },
    300_000,
  )

  /** Keys of which a replica holds more than one sibling, or, while they live, another value than its peers. */
  function siblings(namespace: string): string[] {
    const wrong: string[] = []
    for (const [key, replicas] of target.simulator?.everything(namespace) ?? []) {
      const held = [...replicas.values()]
      if (held.some((values) => values.length !== 1)) {
        wrong.push(
          `${key}: ${held.map((values) => values.map((one) => one?.length ?? '†').join('+')).join(' | ')}`,
        )
      }
    }
    return wrong
  }
})

if (reasons.length > 0) console.log(`the loss of nodes is not tried: ${reasons.join(', ')}`)
