import { describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'
import { fsxExerciser } from '../../support/posix/fsx.ts'
import type { SnapshotEntry } from '../../support/posix/snapshot.ts'
import { CI_SEED } from '../../support/seed.ts'
import { KindOfVolume, VOLUME_KINDS, type VolumeName, whyNoVolume } from '../../support/volume/kinds.ts'
import { seedVolume } from '../../support/volume/seeds.ts'

// FERRYFS_POSIX_SEED=n runs a seed that failed somewhere else.
const names = Object.keys(VOLUME_KINDS) as VolumeName[]
const given = process.env.FERRYFS_POSIX_SEED
const seed = given === undefined ? (CI_SEED ?? Date.now() % 1_000_000) : Number(given)
console.log(`kinds of volumes: FERRYFS_POSIX_SEED=${seed}`)

const mountless = whyNoMount()
const reasons = new Map<VolumeName, string | undefined>()
for (const name of names) reasons.set(name, mountless ?? (await whyNoVolume(name)))
for (const reason of new Set(reasons.values())) if (reason !== undefined) console.warn(reason)

async function seeded(
  name: VolumeName,
): Promise<{ ferry: Ferry; volume: KindOfVolume; before: SnapshotEntry[] }> {
  const volume = new KindOfVolume(name)
  const ferry = new Ferry({ surroundings: volume.surroundings })
  try {
    await volume.make()
    await ferry.call.chmod(ferry.source, 0o755)
    await ferry.call.mkdir(ferry.under('seeds'))
    await seedVolume(ferry.call, ferry.under('seeds'))
    volume.seal()
    return { ferry, volume, before: await ferry.call.snapshot(ferry.under('seeds')) }
  } catch (error) {
    await ferry.clear()
    throw error
  }
}

/** What fsx can do and not every volume has. */
const OFFERED_BY_SOME = ['allocate', 'punch', 'zero', 'copy'] as const

async function expectSeeds(ferry: Ferry, before: readonly SnapshotEntry[], when: string): Promise<void> {
  expect(compareTrees(before, await ferry.call.snapshot(ferry.at('seeds'))), when).toEqual([])
}

describe('every kind of volume, all modes in turn', () => {
  const check = async (name: VolumeName): Promise<void> => {
    const { ferry, volume, before } = await seeded(name)
    const fsx = async (turn: number): Promise<void> => {
      await fsxExerciser({
        directory: ferry.target,
        seed: seed + turn,
        operations: 25,
        without: OFFERED_BY_SOME,
      })
    }
    try {
      await ferry.mount('--mode', 'mirror', ...volume.options)
      await expectSeeds(ferry, before, 'before anything has moved')
      await fsx(0)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.mode('prefer-store')
      await expectSeeds(ferry, before, 'from the store')
      await ferry.mode('drain')
      await ferry.done('migrate', ferry.target, '--wait')
      await fsx(1)
      await ferry.done('mode', ferry.target, 'store-only', '--wait')
      await expectSeeds(ferry, before, 'after all has moved')
      await ferry.remount(...volume.options)
      await expectSeeds(ferry, before, 'after a new mount')
      await ferry.settled()
      await ferry.done('verify', ferry.target)
    } finally {
      await ferry.clear()
    }
  }

  for (const name of names) {
    const isMissing = reasons.get(name) !== undefined
    test.skipIf(isMissing)(`P1 P3 P5: ${name}, with random operations between the steps`, () => check(name))
  }
})
