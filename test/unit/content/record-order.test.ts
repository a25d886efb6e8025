import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FsError } from '../../../src/base/errors.ts'
import { StoreError } from '../../../src/store/errors.ts'
import { Client } from '../../support/rig/client.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { Unanswered } from '../../support/rig/crash.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const RUNS = Number(process.env.FERRYFS_RUNS ?? 40)
const RENAME_EXCHANGE = 2
const POINTS = [
  'content.directory.shards-stored',
  'content.directory.header-stored',
  'content.garbage.deleted',
]

// Few of them, so that they cross.
const directory = fc.constantFrom('', 'a', 'b', 'a/c', 'b/c', 'a/c/d', 'new')
const leaf = fc.constantFrom('1', '2', '3', 'c', 'd', 'a', 'b')
const path = fc.tuple(directory, leaf).map(([above, name]) => (above === '' ? name : `${above}/${name}`))

const act = fc.oneof(
  { weight: 4, arbitrary: fc.record({ act: fc.constant('create' as const), path }) },
  {
    weight: 3,
    arbitrary: fc.record({ act: fc.constant('mkdir' as const), path: fc.oneof(directory, path) }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      act: fc.constant('rename' as const),
      path: fc.oneof(directory, path),
      to: fc.oneof(directory, path),
      flags: fc.constantFrom(0, 0, 0, RENAME_EXCHANGE),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant('link' as const), path, to: path }) },
  {
    weight: 3,
    arbitrary: fc.record({ act: fc.constant('remove' as const), path: fc.oneof(directory, path) }),
  },
  // The store's work goes on for a while, or to its end.
  { weight: 6, arbitrary: fc.record({ act: fc.constant('wait' as const), turns: fc.nat(60) }) },
  {
    weight: 3,
    arbitrary: fc.record({ act: fc.constant('pass' as const), ms: fc.constantFrom(100, 500, 3000) }),
  },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('settle' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      act: fc.constant('fault' as const),
      fault: fc.constantFrom(
        'unavailable' as const,
        'timeout' as const,
        'lost-ack' as const,
        'late' as const,
        'rejected' as const,
      ),
      key: fc.constantFrom(/^1-0/, /^2/, /./),
      times: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      act: fc.constant('restart' as const),
      as: fc.constantFrom('worker' as const, 'mount' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ act: fc.constant('trap' as const), point: fc.constantFrom(...POINTS) }),
  },
)
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never

const isBelow = (path: string, above: string): boolean => path.startsWith(`${above}/`)

async function perform(rig: Rig, client: Client, step: Act): Promise<void> {
  switch (step.act) {
    case 'create':
      await client.create(step.path, `content of ${step.path}`)
      return
    case 'mkdir':
      if (step.path !== '') await client.mkdir(step.path)
      return
    case 'rename':
      // The kernel refuses by itself to move a directory into itself.
      if (step.path === '' || step.to === '' || isBelow(step.path, step.to) || isBelow(step.to, step.path))
        return
      await client.rename(step.path, step.to, step.flags)
      return
    case 'link': {
      const node = await client.node(step.path)
      const { parent, name } = await client.place(step.to)
      await rig.perform((overlay, request) => overlay.link(request, node, parent, name))
      return
    }
    case 'remove': {
      const { parent, name } = await client.place(step.path)
      const { mode } = (await client.lookup(step.path))?.attributes ?? { mode: 0 }
      await rig.perform((overlay, request) =>
        (mode & 0o170000) === 0o040000
          ? overlay.rmdir(request, parent, name)
          : overlay.unlink(request, parent, name),
      )
      client.forgetAll()
      return
    }
    case 'wait':
      await turns(step.turns)
      return
    case 'pass':
      clock.advance(step.ms)
      await turns(20)
      return
    case 'settle':
      await rig.settle()
      return
    case 'fault':
      rig.world.inject({
        fault: step.fault,
        on: ['put', 'delete'],
        space: 'dirs',
        key: step.key,
        times: step.times,
      })
      return
    case 'restart':
      await rig.restart(step.as)
      return
    case 'trap':
      rig.dieAt(step.point)
  }
}

async function run(options: RigOptions, steps: readonly Act[]): Promise<void> {
  const rig = await Rig.start({
    ...options,
    watchRecords: true,
    fill: (source) => {
      for (const name of ['a', 'b', 'a/c']) mkdirSync(join(source, name))
      for (const name of ['1', 'a/1', 'a/2', 'a/c/1', 'a/c/2', 'b/3']) writeFileSync(join(source, name), name)
    },
  })
  try {
    rig.world.maxDelay = 4
    await rig.migrate()
    const client = new Client(rig)
    for (const step of steps) {
      try {
        await perform(rig, client, step)
      } catch (error) {
        // What is not there, is not empty, or is asked of a daemon that dies.
        const refused = error instanceof FsError || error instanceof StoreError || error instanceof Unanswered
        if (!refused && !rig.dead) throw error
      }
      if (rig.dead) await rig.restart('worker')
      expect(rig.records?.violations, 'what the records in the store lead to').toEqual([])
    }
    rig.disarm()
    client.forgetAll()
    await rig.settle()
    expect(rig.records?.violations, 'what the records in the store lead to').toEqual([])
    expect(rig.catalog.departures.isEmpty, 'no name is left in a record that is not in the catalog').toBe(
      true,
    )
    await expectSettled(rig, { unowned: true })
    expect(rig.records?.violations).toEqual([])
  } finally {
    await rig.stop()
  }
}

test.each([
  ['drain', 1000],
  ['drain', 2],
  ['mirror', 1000],
  ['mirror', 2],
] as const)(
  'P2: in %s, at every write to the store, records lead to all that they led to before and was not deleted (%i entries a shard)',
  async (mode, shardEntries) => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 25, size: 'max' }), (steps) =>
        run({ mode, shardEntries }, steps),
      ),
      {
        numRuns: RUNS,
        endOnFailure: process.env.FERRYFS_SHRINK === undefined,
        ...(process.env.FERRYFS_SEED ? { seed: Number(process.env.FERRYFS_SEED) } : {}),
        ...(process.env.FERRYFS_PATH ? { path: process.env.FERRYFS_PATH } : {}),
      },
    )
  },
  600_000,
)
