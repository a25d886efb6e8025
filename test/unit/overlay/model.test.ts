import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { namelessObjects } from '../../support/rig/accounts.ts'
import { type Choice, steps } from '../../support/rig/commands.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'
import { System } from '../../support/rig/system.ts'
import { differences, diskTree } from '../../support/rig/trees.ts'

// A failure prints these; with them the very run comes back: FERRYFS_SEED=… FERRYFS_PATH=… FERRYFS_REPLAY=… vitest run …
const seed = process.env.FERRYFS_SEED
const path = process.env.FERRYFS_PATH
const replayPath = process.env.FERRYFS_REPLAY
const RUNS = Number(process.env.FERRYFS_RUNS ?? 12)
const LENGTH = Number(process.env.FERRYFS_LENGTH ?? 70)
const ALL: Choice = { crashes: true, faults: true, modes: false, pastOverlay: true }

async function finish(system: System): Promise<void> {
  const { rig, tree } = system
  rig.disarm()
  if (rig.dead) await rig.restart('worker')
  await system.heal()
  for (const node of tree.files()) while (node.handles.length > 0) await system.release(node)
  system.client.forgetAll()
  const mtimes = (shown: Awaited<ReturnType<typeof system.client.tree>>) =>
    new Map(
      [...shown].map(([name, file]) => [name, describedAlike(file, tree.describe().get(name)?.mtimeNs)]),
    )
  const compare = async (when: string): Promise<void> => {
    expect(
      differences(mtimes(await system.client.tree()), tree.describe()),
      `overlay | model ${when}`,
    ).toEqual([])
  }
  await compare('at the end')
  // Files that this listing found removed past the overlay: the kernel had dropped them before.
  system.client.forgetAll()
  // What a kernel may know from before this worker is kept until the next mount.
  if (namelessObjects(rig.catalog).size > 0) await rig.restart('mount')
  await expectSettled(rig, { unowned: system.mayLeak })
  await compare('when settled')
  if (rig.modes.policy.removesLegacy) {
    await rig.reap()
    expect(differences(new Map(), diskTree(rig.source)), 'left on the drained volume').toEqual([])
    await compare('when drained')
  }
}

/** Times that the model does not follow count as equal. */
function describedAlike<T extends { mtimeNs: bigint }>(file: T, wanted: bigint | undefined): T {
  return wanted === 0n ? { ...file, mtimeNs: 0n } : file
}

async function run(options: RigOptions, choice: Choice): Promise<void> {
  let operations = 0
  const commands = fc.commands([steps(choice)], {
    maxCommands: LENGTH,
    size: 'max',
    ...(replayPath === undefined ? {} : { replayPath }),
  })
  const property = fc.asyncProperty(commands, async (sequence) => {
    const rig = await Rig.start({ ...options, watchRecords: true })
    try {
      const system = new System(rig)
      await fc.asyncModelRun(() => ({ model: {}, real: system }), sequence)
      const before = options.sourceReadonly ? 0 : undefined
      try {
        await finish(system)
      } catch (error) {
        console.error(`after\n  ${system.trace.join('\n  ')}`)
        throw error
      }
      if (before !== undefined) expect([...diskTree(rig.source)], 'the read-only volume').toEqual([])
      operations += system.operations
    } finally {
      await rig.stop()
    }
  })
  await fc.assert(property, {
    numRuns: RUNS,
    endOnFailure: process.env.FERRYFS_SHRINK === undefined,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  })
  expect(operations).toBeGreaterThan(0)
}

describe('P1 P2 P4 P7: the overlay is a plain tree in disguise', () => {
  test('in observe', () => run({ mode: 'observe' }, { ...ALL, faults: false }))
  test('in mirror', () => run({ mode: 'mirror' }, ALL))
  test('in prefer-store', () => run({ mode: 'prefer-store' }, ALL))
  test('in drain', () => run({ mode: 'drain' }, ALL))
  test('in store-only', () => run({ mode: 'store-only' }, ALL))
  test('in mirror over a read-only volume', () => run({ mode: 'mirror', sourceReadonly: true }, ALL))
  test('in drain with inline files and a cache', () =>
    run({ mode: 'drain', inlineLimit: 1024 * 1024, memoryCacheLimit: 8 * 1024 * 1024 }, ALL))
  test('while the mode changes', () => run({ mode: 'mirror' }, { ...ALL, modes: true }))
})

describe('P1 P2 P3 P5: what was synced is there after a power cut', () => {
  const CUTS: Choice = { ...ALL, powerCuts: true }
  test.each(['mirror', 'prefer-store', 'drain', 'store-only'] as const)('in %s', (mode) =>
    run({ mode, powerCuts: true }, CUTS),
  )
  test('in drain with inline files', () =>
    run({ mode: 'drain', powerCuts: true, inlineLimit: 1024 * 1024 }, CUTS))
  test('while the mode changes', () => run({ mode: 'mirror', powerCuts: true }, { ...CUTS, modes: true }))
})
