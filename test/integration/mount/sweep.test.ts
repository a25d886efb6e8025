import { mkdirSync, writeFileSync } from 'node:fs'
import { pino } from 'pino'
import { afterEach, describe, expect, test } from 'vitest'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { openStore } from '../../../src/store/index.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { RIAK_TYPES, type RiakTarget, riakTarget } from '../../support/riak-target.ts'
import { leaveStrays } from '../../support/rig/strays.ts'

const NAMESPACE = 'tree'
const MiB = 1024 * 1024
const log = pino({ level: 'silent' })

/** The stores that a mount is tried with: what they are called, and how one is made. */
const STORES = [
  { name: 'embedded', start: () => Promise.resolve(undefined) },
  ...RIAK_TYPES.map((type) => ({
    name: `Riak, bucket type ${type ?? 'none'}`,
    start: () => riakTarget({ seed: 31 }, type),
  })),
]

describeMounted('objects that no path names', () => {
  describe.each(STORES)('in a store: $name', ({ start }) => {
    let ferry: Ferry
    let riak: RiakTarget | undefined

    afterEach(async () => {
      await ferry.clear()
      await riak?.[Symbol.asyncDispose]()
    })

    const url = (): string => riak?.url() ?? `embedded:${ferry.root}/store`
    const mount = (...more: string[]): Promise<unknown> =>
      ferry.mount('--store', url(), '--namespace', NAMESPACE, ...more)

    async function inStore<T>(work: (store: KeyValueStore) => Promise<T>): Promise<T> {
      const store = await openStore(url(), { stateDir: ferry.stateDir, namespace: NAMESPACE, log })
      try {
        return await work(store)
      } finally {
        await store.close()
      }
    }

    /** Stands for what a storm of faults leaves. */
    async function leave(): Promise<string[]> {
      await ferry.unmount()
      return inStore((store) => leaveStrays(store, 1))
    }

    test('are found by a dry run, swept beside applications at work, and nothing else is', async () => {
      riak = await start()
      ferry = new Ferry()
      mkdirSync(ferry.under('d'))
      const bodies = new Map<string, Buffer>()
      for (let n = 0; n < 12; n += 1) bodies.set(`d/f${n}`, pattern(n === 0 ? 2 * MiB + 7 : 300 * n, n))
      for (const [path, body] of bodies) writeFileSync(ferry.under(path), body)
      await mount('--mode', 'drain')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
      const left = await leave()
      await mount()
      const dry = await ferry.ferryfs('sweep', ferry.target, '--dry-run')
      expect([dry.status, dry.stdout]).toEqual([3, expect.stringContaining('4 objects without a path\n')])
      for (const name of left) expect(dry.stdout).toContain(name.slice(name.indexOf(' ') + 1))
      // Uploads, replaced chunks and removals go on while it looks and deletes.
      const end = ferry.at('busy')
      const busy = (async () => {
        for (let round = 0; round < 12; round += 1) {
          await ferry.call.writeFile(end, pattern(MiB + 100 * round, round))
          await ferry.call.writeFile(ferry.at(`n${round}`), pattern(100 + round, round))
          if (round % 3 === 2) await ferry.call.unlink(ferry.at(`n${round - 1}`))
        }
      })()
      const swept = await ferry.ferryfs('sweep', ferry.target, '--json')
      await busy
      const report = JSON.parse(swept.stdout) as {
        strays: Array<{ space: string; key: string; reason?: string }>
      }
      expect(
        report.strays
          .filter(({ reason }) => !reason)
          .map(({ space, key }) => `${space} ${key}`)
          .sort(),
      ).toEqual(left)
      await ferry.settled()
      expect(await ferry.done('sweep', ferry.target)).toMatch(/^looked at \d+ objects: each has its path\n$/)
      expect(await ferry.done('verify', ferry.target)).toMatch(/all as they should be\n$/)
      for (const [path, body] of bodies) expect((await ferry.readAnew(path)).equals(body), path).toBe(true)
      if (!riak) return
      await inStore(async (store) => {
        for (const name of left) {
          const [space = '', key = ''] = name.split(/ (.*)/s)
          expect(await store.get(space as 'files', key)).toBeUndefined()
        }
      })
    })
  })
})
