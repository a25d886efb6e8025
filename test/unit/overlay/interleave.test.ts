import fc from 'fast-check'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { type Around, bursts } from '../../support/rig/acts.ts'
import { counts, interleave } from '../../support/rig/interleave.ts'
import type { RigOptions } from '../../support/rig/rig.ts'

const { CHUNK } = vi.hoisted(() => ({ CHUNK: 4096 }))

// Small chunks, so that small files have several.
vi.mock(import('../../../src/content/context.ts'), async (original) => ({
  ...(await original()),
  CHUNK_BYTES: CHUNK,
  chunkCount: (size: number) => Math.ceil(size / CHUNK),
}))

vi.mock(import('../../../src/catalog/blocks.ts'), async (original) => {
  const real = await original()
  return { ...real, CHUNK_BLOCKS: CHUNK / real.BLOCK_BYTES }
})

// A volume may refuse to change names.
vi.mock(import('../../../src/sys/library.ts'), async (original) => {
  const { checking, refusable } = await import('../../support/rig/volume-calls.ts')
  const real = await original()
  const declare: typeof real.declare = (signature, at) => refusable(signature, real.declare(signature, at))
  return { ...real, declare, check: checking(real.check) }
})

// How long a turn took is the machine's affair, and so is how long ago a file was changed: every copy waits for the next tick.
vi.mock(import('../../../src/base/pace.ts'), () => ({ giveWay: () => Promise.resolve() }))
vi.mock(import('../../../src/base/clock.ts'), async (original) => ({
  ...(await original()),
  untilNextTick: () => 5,
}))

// Every read takes the way through the thread pool, so that something can come in between.
vi.mock(import('../../../src/sys/cached-read.ts'), () => ({ readCached: () => ({ count: 0, isAll: false }) }))

// A failure prints seed and path; with them the very run comes back: FERRYFS_SEED=… FERRYFS_PATH=… vitest run … By default
// the same runs each time; with FERRYFS_RUNS others each time (a soak).
const runs = process.env.FERRYFS_RUNS
const RUNS = Number(runs ?? 10)
const path = process.env.FERRYFS_PATH
const seed = process.env.FERRYFS_SEED ?? (runs === undefined ? '20' : undefined)

async function run(options: RigOptions, around: Around): Promise<void> {
  const property = fc.asyncProperty(bursts(around), fc.nat(), async (acts, order) => {
    await interleave(options, acts, order)
  })
  await fc.assert(property, {
    numRuns: RUNS,
    endOnFailure: process.env.FERRYFS_SHRINK === undefined,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  })
}

const INLINE = { inlineLimit: CHUNK }
const started = process.hrtime.bigint()

afterAll(() => {
  const minutes = Number(process.hrtime.bigint() - started) / 60e9
  console.log(
    `${counts.runs} runs, ${counts.bursts} interleavings of ${counts.requests} requests in ${counts.steps} steps: ` +
      `${Math.round(counts.bursts / minutes)} interleavings a minute`,
  )
})

// First: what a daemon of an earlier run is still about to do would be a step of the one that is compared.
test('the same seed gives the same order of steps', async () => {
  const around = { faults: true, crashes: true, disks: true }
  // Inode numbers and paths are the volume's affair.
  const plain = (step: string): string =>
    step.replace(/\/dev\/shm\/[^/]+|\/tmp\/[^/]+|[0-9a-f]+-[0-9a-f]+/g, '#')
  for (const acts of fc.sample(bursts(around), { seed: 7, numRuns: 4 })) {
    const order = async () => (await interleave({ mode: 'drain' }, acts, 11)).map(plain).join('\n')
    const [first, second] = [await order(), await order()]
    // The one thing that is not of the seed: whether a file is younger than a tick of the volume's own clock, which makes two orders.
    if (second !== first) expect([first, second]).toContain(await order())
  }
})

describe('P1 P2 P4: several clients at once see what a local file system shows', () => {
  test('in mirror', () => run({ mode: 'mirror' }, { past: true }))
  test('in prefer-store', () => run({ mode: 'prefer-store' }, { past: true }))
  test('in drain', () => run({ mode: 'drain' }, { past: true }))
  test('in prefer-store over a read-only volume', () =>
    run({ mode: 'prefer-store', sourceReadonly: true }, { past: true, crashes: true }))
  test('in drain, small files inline', () => run({ mode: 'drain', ...INLINE }, {}))
})

describe('P1 P2 P4 P7: the same with crashes', () => {
  test('in mirror', () => run({ mode: 'mirror' }, { crashes: true }))
  test('in drain', () => run({ mode: 'drain', ...INLINE }, { crashes: true }))
})

describe('P1 P2 P4: the same with a store that fails', () => {
  test('in prefer-store', () => run({ mode: 'prefer-store' }, { faults: true, crashes: true }))
  test('in drain', () => run({ mode: 'drain', ...INLINE }, { faults: true, crashes: true }))
  test('in store-only', () => run({ mode: 'store-only' }, { faults: true }))
  test('in drain over a read-only volume', () =>
    run({ mode: 'drain', sourceReadonly: true }, { faults: true }))
  test('in mirror, acknowledged by the store, while the mode changes', () =>
    run({ mode: 'mirror', ack: 'store' }, { faults: true, past: true, modes: true }))
  test('in drain, acknowledged by the store', () =>
    run({ mode: 'drain', ack: 'store' }, { faults: true, crashes: true }))
})

describe('P1 P4: the same with a store that damages what it has', () => {
  test('in mirror', () => run({ mode: 'mirror' }, { harm: true, crashes: true }))
  test('in prefer-store', () => run({ mode: 'prefer-store' }, { harm: true, past: true }))
  test('in prefer-store, with small files inline', () =>
    run({ mode: 'prefer-store', ...INLINE }, { harm: true, faults: true }))
})

describe('P1 P2 P6: the same with disks that are full', () => {
  test('in mirror', () => run({ mode: 'mirror' }, { disks: true }))
  test('in drain', () => run({ mode: 'drain', ...INLINE }, { disks: true, crashes: true }))
})

describe('P1 P2 P5: the same while the mode changes', () => {
  test('with crashes', () => run({ mode: 'mirror', ...INLINE }, { modes: true, crashes: true }))
  test('with crashes and a store that fails', () =>
    run({ mode: 'mirror' }, { modes: true, faults: true, crashes: true }))
  test('over a read-only volume', () =>
    run({ mode: 'mirror', sourceReadonly: true }, { modes: true, past: true, crashes: true }))
})
