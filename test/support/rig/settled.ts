import { expect } from 'vitest'
import { countsOf } from '../catalog-counts.ts'
import { accountFor } from './accounts.ts'
import { Client } from './client.ts'
import { Rig } from './rig.ts'
import { differences, diskTree } from './trees.ts'

/**
 * Lets everything settle and compares all that ought to be equal then: the store's objects with the catalog's account of
 * them, a catalog rebuilt from the store with the overlay, and where the mode keeps it complete the legacy volume with the
 * overlay. `unowned`: objects that nothing refers to are to be expected (a write of a dead daemon arrived late).
 */
export async function expectSettled(rig: Rig, expected: { unowned?: boolean } = {}): Promise<void> {
  await rig.settle()
  expect(rig.records?.violations ?? [], 'what the records in the store led to').toEqual([])
  const shown = await new Client(rig).tree()
  if (rig.modes.policy.writeTo === 'legacy') {
    expect(differences(shown, diskTree(rig.source)), 'overlay | legacy volume').toEqual([])
  }
  const { kept, counted } = countsOf(rig.catalogPath)
  expect(kept, 'counts kept | counted').toEqual(counted)
  if (!rig.modes.policy.copies) return
  await rig.migrate()
  await rig.settle()
  expect((await rig.verify()).differences, 'verify').toEqual([])
  const { missing, unowned } = await accountFor(rig.catalog, rig.world.memory)
  expect(missing, 'objects that the store does not have').toEqual([])
  if (!expected.unowned) expect(unowned, 'objects that nothing refers to').toEqual([])
  await expectSwept(rig)
  const { rig: second, result } = await Rig.rebuilt(rig.world.memory)
  try {
    expect(result.failures).toEqual([])
    const rebuilt = await new Client(second).tree()
    expect(differences(shown, rebuilt), 'overlay | rebuilt from the store').toEqual([])
  } finally {
    await second.stop()
  }
}

/** A sweep takes every object that nothing refers to, but for what is damaged, and nothing else. */
async function expectSwept(rig: Rig): Promise<void> {
  const { strays, refused } = await rig.sweep()
  expect(refused, 'a sweep').toBe(undefined)
  const { missing, unowned } = await accountFor(rig.catalog, rig.world.memory)
  const damaged = strays.filter(({ reason }) => reason?.startsWith('nobody can say what it was'))
  expect(missing, 'objects that the store does not have after a sweep').toEqual([])
  expect(unowned.sort(), 'objects that nothing refers to after a sweep').toEqual(
    damaged.map(({ space, key }) => `${space} ${key}`).sort(),
  )
}
