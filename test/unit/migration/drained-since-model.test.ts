import { afterEach, describe, expect, test } from 'vitest'
import { DrainedCopy } from '../../support/rig/drained-copy.ts'
import { RandomChanges, randomTree } from '../../support/rig/random-changes.ts'
import { Random } from '../../support/rig/random.ts'
import { versionsOf } from '../../support/rig/state-copy.ts'

// Random trees, changes, moments of the copy, deaths and lost objects. A failure prints its seed; FERRYFS_SEED=… brings that run back, FERRYFS_RUNS=… makes more of them.
const SEED = Number(process.env.FERRYFS_SEED ?? 1)
const RUNS = Number(process.env.FERRYFS_RUNS ?? 12)
const MOMENTS = [
  'migration.reap.verified',
  'migration.reap.flushed',
  'migration.reap.removed',
  'migration.reap.synced',
  'migration.reap.directory-removed',
  'content.directory.shards-stored',
  'content.directory.header-stored',
  'content.upload.object-stored',
]

let drained: DrainedCopy

afterEach(() => drained.rig.stop())

/** Drains and changes by turns; somewhere in between the state directory is copied. In the end nothing is left on the volume, if so wanted. */
async function goOn(random: Random, isDrained = true): Promise<void> {
  const { rig, client } = drained
  const changes = new RandomChanges(rig, client, random)
  const steps = 2 + random.below(3)
  const copiedIn = random.below(steps)
  for (let step = 0; step < steps; step += 1) {
    await changes.make(random.below(6))
    const point = MOMENTS[random.below(MOMENTS.length * 2)]
    const isPassed =
      step === copiedIn && point !== undefined ? drained.copyAt(point, 1 + random.below(8)) : undefined
    if (step === copiedIn && !isPassed) await drained.copy()
    const how = random.below(4)
    if (how < 2) await drained.drain()
    else if (how === 2) await drained.migrateUntil('migration.reap.synced', 1 + random.below(6))
    if (step === copiedIn && !drained.isCopied) await drained.copy()
  }
  drained.stopCopying()
  await changes.make(1 + random.below(8))
  await rig.settle()
  if (isDrained) await drained.drain()
  else await rig.tell()
}

describe('P2, P5: a state directory that is put back over a volume that was drained since', () => {
  test.each(Array.from({ length: RUNS }, (_, nth) => SEED + nth))(
    'seed %i: shows all that there was',
    async (seed) => {
      const random = new Random(seed)
      drained = await DrainedCopy.start(randomTree(random))
      await goOn(random)
      const wanted = await drained.tree()
      if (random.below(3) === 0) await drained.putBackDyingAt('migration.mend.compared', 1 + random.below(20))
      else await drained.putBack()
      await drained.expectAll(wanted)
    },
  )

  test.each(Array.from({ length: RUNS }, (_, nth) => SEED + nth))(
    'seed %i: shows all that there was, where the volume still has what was changed since',
    async (seed) => {
      const random = new Random(seed)
      drained = await DrainedCopy.start(randomTree(random))
      await goOn(random, false)
      const wanted = await drained.tree()
      await drained.putBack()
      await drained.expectAll(wanted)
    },
  )

  test.each(Array.from({ length: RUNS }, (_, nth) => SEED + nth))(
    'seed %i: where the store has lost an object, nothing else is lost with it',
    async (seed) => {
      const random = new Random(seed)
      drained = await DrainedCopy.start(randomTree(random))
      const { rig } = drained
      await goOn(random)
      const wanted = await drained.tree()
      const files = new Set(Object.keys(await versionsOf(rig)).filter((key) => key.startsWith('files')))
      const objects = Object.keys(await versionsOf(rig)).filter((key) => !key.startsWith('chunks'))
      const lost = objects[random.below(objects.length)] ?? ''
      const [, space, key] = /^(\w+) (.*)$/s.exec(lost) ?? []
      if (key === undefined || !(space === 'files' || space === 'dirs')) throw new Error(`no object: ${lost}`)
      await drained.loseObject(space, key)
      await drained.putBack()
      const before = await drained.lackingOrWrong(wanted)
      expect(before.wrong, lost).toEqual([])
      if (before.errors.length > 0) expect((await rig.verify()).differences, lost).not.toEqual([])
      await drained.accept()
      // Of what was lost the names are left out.
      const after = await drained.lackingOrWrong(wanted)
      const leftOut = before.errors.map((path) => `${path}: ENOENT`)
      expect(
        after.wrong.filter((one) => !leftOut.includes(one)),
        lost,
      ).toEqual([])
      expect([after.errors, (await rig.verify()).differences], lost).toEqual([[], []])
      await rig.setMode('store-only')
      files.delete(lost)
      expect(Object.keys(await versionsOf(rig)), lost).toEqual(expect.arrayContaining([...files]))
    },
  )
})
