import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { VolumeSync } from '../../../src/migration/volume-sync.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

const LEVELS = 40
// Turns are told apart by setImmediate, which the next one may come before.
const FEW = 4

let rig: Rig

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) =>
      mkdirSync(join(source, ...Array.from({ length: LEVELS }, () => 'd')), { recursive: true }),
  })
})

afterEach(async () => {
  vi.restoreAllMocks()
  await rig.stop()
})

function tree(): NonNullable<ReturnType<typeof rig.context.legacy>> {
  const legacy = rig.context.legacy()
  if (!legacy) throw new Error('the volume is not there')
  return legacy
}

test('P6: of directories that are gone, in one another, none is looked for to be synced', async () => {
  const openDirectory = vi.spyOn(tree(), 'openDirectory')
  await rig.migrate()
  await rig.settle()
  await rig.reap()
  expect(readdirSync(rig.source)).toEqual([])
  expect(openDirectory.mock.results.filter(({ type }) => type === 'throw')).toEqual([])
  await expectSettled(rig)
})

test('P6: directories that are to be synced do not all have the same turn of the event loop', async () => {
  await new Client(rig).tree()
  const inos = [...rig.catalog.scan()].map(({ ino }) => ino)
  const legacy = tree()
  const openDirectory = legacy.openDirectory.bind(legacy)
  let inThisTurn = 0
  let most = 0
  vi.spyOn(legacy, 'openDirectory').mockImplementation((ino, by) => {
    if (inThisTurn === 0)
      setImmediate(() => {
        inThisTurn = 0
      })
    inThisTurn += 1
    most = Math.max(most, inThisTurn)
    return openDirectory(ino, by)
  })
  const now = performance.now.bind(performance)
  let spent = 0
  vi.spyOn(performance, 'now').mockImplementation(() => now() + (spent += 11))
  await new VolumeSync(rig.context).directories(inos)
  expect(inos.length).toBeGreaterThan(LEVELS)
  expect(most).toBeLessThan(FEW)
})
