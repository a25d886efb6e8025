import { mkdirSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted, kernelIsAtLeast } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { fsxExerciser } from '../../support/posix/fsx.ts'
import type { ExerciserHooks } from '../../support/posix/scripts.ts'
import { treeExerciser } from '../../support/posix/tree.ts'
import { CI_SEED } from '../../support/seed.ts'

// FERRYFS_POSIX_SEED=n runs a seed that failed somewhere else.
const given = process.env.FERRYFS_POSIX_SEED
const seed = given === undefined ? (CI_SEED ?? Date.now() % 1_000_000) : Number(given)
console.log(`exercisers on mounts: FERRYFS_POSIX_SEED=${seed}`)

const OPERATIONS = 160
const EVERY = 20

/** In turn: another mode, a kill of the worker, a migration, all descriptors let go for a new mount. */
function disturbances(ferry: Ferry, first: string): ExerciserHooks {
  // From drain there is no way back, and store-only is refused while something is on its way.
  const modes =
    first === 'drain' ? ['store-only', 'drain', 'store-only'] : ['prefer-store', 'mirror', 'drain']
  const turns: readonly ((release: () => Promise<void>) => Promise<unknown>)[] = [
    () => ferry.ferryfs('mode', ferry.target, modes.shift() ?? 'drain'),
    () => (kernelIsAtLeast(6, 9) ? ferry.killWorker() : Promise.resolve()),
    () => ferry.ferryfs('migrate', ferry.target),
    async (release) => {
      await release()
      await ferry.remount()
    },
  ]
  let turn = 0
  return {
    async between({ index, release }) {
      if (index % EVERY !== EVERY - 1) return
      await turns[turn % turns.length]?.(release)
      turn += 1
    },
    async finish() {
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
    },
  }
}

describeMounted('P1: random operations beside a plain model, disturbed', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test(`fsx, seed ${seed}`, async ({ signal }) => {
    await ferry.mount('--mode', 'mirror')
    const { bytesCompared } = await fsxExerciser({
      directory: ferry.target,
      seed,
      operations: OPERATIONS,
      hooks: disturbances(ferry, 'mirror'),
      signal,
    })
    expect(bytesCompared).toBeGreaterThan(0)
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.status, verified.stdout).toBe(0)
  })

  test(`fsx with files larger than a chunk, seed ${seed}`, async ({ signal }) => {
    await ferry.mount('--mode', 'drain')
    await fsxExerciser({
      directory: ferry.target,
      seed,
      operations: 60,
      maxSize: 3 << 20,
      maxLength: 1_200_000,
      hooks: disturbances(ferry, 'drain'),
      signal,
    })
  })

  test.each(['mirror', 'drain'])(`two trees in step, from %s on, seed ${seed}`, async (mode) => {
    const reference = `${ferry.root}/reference`
    mkdirSync(reference)
    await ferry.mount('--mode', mode)
    const { entries } = await treeExerciser({
      reference,
      directory: ferry.target,
      seed,
      operations: OPERATIONS,
      compareEvery: 10,
      hooks: disturbances(ferry, mode),
    })
    expect(entries).toBeGreaterThan(5)
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.status, verified.stdout).toBe(0)
  })
})
