import fc from 'fast-check'
import { MODES, type Mode } from '../../src/base/modes.ts'
import type { Action } from './actions.ts'

/** What one client does in one part of a phase. */
export type Turn = readonly Action[]

/** One fault: what the clients do before it, while it is in force, and after it has ended. */
export interface Phase {
  /** Undefined once shrinking found that the fault is not needed. */
  readonly fault: string | undefined
  /** A mode to change to in the middle, if it can be had. */
  readonly excursion: Mode | undefined
  readonly before: readonly Turn[]
  readonly during: readonly Turn[]
  readonly after: readonly Turn[]
}

/** A whole case: everything that is done to one mount. */
export interface Script {
  readonly phases: readonly Phase[]
}

export const CLIENTS = 3
/** Files that a client may keep open at once. */
export const SLOTS = 2
const MiB = 1 << 20

const DIRECTORIES = ['', 'd0/', 'd0/e/', 'd1/']
// One of them is not UTF-8.
const NAMES = ['a', 'b', 'c', 'n\xff\xfe']
const LINKS = ['s0', 's1']

const directory = fc.constantFrom(...DIRECTORIES)
const file = fc.tuple(directory, fc.constantFrom(...NAMES)).map(([where, name]) => where + name)
const symlink = fc.tuple(directory, fc.constantFrom(...LINKS)).map(([where, name]) => where + name)
const folder = fc.constantFrom('d0', 'd0/e', 'd1', 'd1/f')
const anything = fc.oneof({ weight: 3, arbitrary: file }, { weight: 1, arbitrary: folder })
const seed = fc.integer({ min: 1, max: 1_000_000 })
const slot = fc.nat({ max: SLOTS - 1 })

/** Mostly small; some across the borders of pages, requests and chunks. */
const length = fc.oneof(
  { weight: 6, arbitrary: fc.nat({ max: 6000 }) },
  { weight: 2, arbitrary: fc.constantFrom(4096, 65_536, 131_072, 131_073) },
  { weight: 1, arbitrary: fc.constantFrom(MiB - 1, MiB, MiB + 1, 2 * MiB + 77) },
)
const offset = fc.oneof(
  { weight: 5, arbitrary: fc.constant(0) },
  { weight: 3, arbitrary: fc.nat({ max: 8000 }) },
  { weight: 1, arbitrary: fc.constantFrom(MiB - 3, MiB, 2 * MiB + 5) },
)

function weighted(weight: number, arbitrary: fc.Arbitrary<Action>): fc.WeightedArbitrary<Action> {
  return { weight, arbitrary }
}

const flags = {
  exclusive: fc.boolean().map((it) => it),
  truncate: fc.boolean(),
  append: fc.boolean(),
  fsync: fc.boolean(),
}

const action: fc.Arbitrary<Action> = fc.oneof(
  weighted(6, fc.record({ do: fc.constant('write'), path: file, offset, length, seed })),
  weighted(
    3,
    fc.record({
      do: fc.constant('write'),
      path: file,
      offset,
      length,
      seed,
      ...flags,
      exclusive: fc.constant(false),
    }),
  ),
  weighted(
    1,
    fc.record({
      do: fc.constant('write'),
      path: file,
      offset,
      length,
      seed,
      ...flags,
      exclusive: fc.constant(true),
    }),
  ),
  weighted(
    4,
    fc.record({
      do: fc.constant('read'),
      path: file,
      offset: fc.constant(0),
      length: fc.constant(4 * MiB),
      direct: fc.boolean(),
    }),
  ),
  weighted(
    3,
    fc.record({
      do: fc.constant('read'),
      path: fc.oneof(file, symlink),
      offset,
      length,
      direct: fc.boolean(),
    }),
  ),
  weighted(2, fc.record({ do: fc.constant('truncate'), path: file, size: length })),
  weighted(4, fc.record({ do: fc.constant('rename'), from: file, to: file })),
  weighted(2, fc.record({ do: fc.constant('rename'), from: folder, to: folder })),
  weighted(1, fc.record({ do: fc.constant('rename'), from: anything, to: anything })),
  weighted(1, fc.record({ do: fc.constant('rename'), from: symlink, to: symlink })),
  weighted(2, fc.record({ do: fc.constant('link'), from: file, to: file })),
  weighted(1, fc.record({ do: fc.constant('symlink'), target: fc.constantFrom(...NAMES), path: symlink })),
  weighted(1, fc.record({ do: fc.constant('readlink'), path: symlink })),
  weighted(3, fc.record({ do: fc.constant('unlink'), path: fc.oneof(file, symlink) })),
  weighted(1, fc.record({ do: fc.constant('rmdir'), path: folder })),
  weighted(3, fc.record({ do: fc.constant('mkdir'), path: folder, mode: fc.constantFrom(0o755, 0o700) })),
  weighted(
    1,
    fc.record({
      do: fc.constant('chmod'),
      path: anything,
      mode: fc.constantFrom(0o600, 0o644, 0o755, 0o444),
    }),
  ),
  weighted(
    1,
    fc.record({
      do: fc.constant('utimes'),
      path: anything,
      seconds: fc.integer({ min: 1, max: 1_900_000_000 }),
    }),
  ),
  weighted(1, fc.record({ do: fc.constant('xattr'), path: file, value: fc.constantFrom('one', 'two') })),
  weighted(2, fc.record({ do: fc.constant('list'), path: fc.oneof(folder, fc.constant('')) })),
  weighted(2, fc.record({ do: fc.constant('stat'), path: fc.oneof(anything, symlink) })),
  weighted(1, fc.record({ do: fc.constant('syncDirectory'), path: folder })),
  weighted(2, fc.record({ do: fc.constant('hold'), path: file, slot })),
  weighted(2, fc.record({ do: fc.constant('readHeld'), slot, offset, length })),
  weighted(2, fc.record({ do: fc.constant('writeHeld'), slot, offset, length, seed })),
  weighted(1, fc.record({ do: fc.constant('release'), slot })),
  weighted(2, fc.record({ do: fc.constant('record'), path: fc.constant('log'), line: fc.constant('') })),
  weighted(
    1,
    fc.record({
      do: fc.constant('publish'),
      path: fc.constant('current'),
      temporary: fc.constant(''),
      text: fc.constant(''),
    }),
  ),
)

/** What is synced, and by whom, decides what a power cut may leave. */
const synced: fc.Arbitrary<Action> = fc.oneof(
  { weight: 12, arbitrary: action },
  weighted(
    4,
    fc.record({
      do: fc.constant('write'),
      path: file,
      offset,
      length,
      seed,
      truncate: fc.boolean(),
      append: fc.boolean(),
      fsync: fc.constant(true),
    }),
  ),
  weighted(
    2,
    fc.record({ do: fc.constant('writeHeld'), slot, offset, length, seed, fsync: fc.constant(true) }),
  ),
  weighted(2, fc.record({ do: fc.constant('syncDirectory'), path: fc.oneof(folder, fc.constant('')) })),
  weighted(
    1,
    fc.record({
      do: fc.constant('record'),
      path: fc.constant('log'),
      line: fc.constant(''),
      fsync: fc.constant(true),
    }),
  ),
  weighted(
    1,
    fc.record({
      do: fc.constant('publish'),
      path: fc.constant('current'),
      temporary: fc.constant(''),
      text: fc.constant(''),
      fsync: fc.constant(true),
    }),
  ),
)

function turns(one: fc.Arbitrary<Action>, most: number): fc.Arbitrary<Turn[]> {
  return fc.array(fc.array(one, { minLength: 0, maxLength: most, size: 'max' }), {
    minLength: CLIENTS,
    maxLength: CLIENTS,
  })
}

/** Always there at first, gone when shrinking shows that it does not matter. */
function present<T>(value: T): fc.Arbitrary<T | undefined> {
  return fc.option(fc.constant(value), { nil: undefined, freq: 1_000_000 })
}

// Each waits ten seconds for the volume before it fails.
const MOST_ON_A_HANGING_VOLUME = 4

function phase(fault: string): fc.Arbitrary<Phase> {
  const one = fault.split('+').includes('power-cut') ? synced : action
  return fc.record({
    fault: present(fault),
    excursion: fc.option(fc.constantFrom(...MODES), { nil: undefined, freq: 1 }),
    before: turns(one, 6),
    during: turns(one, fault.split('+').includes('legacy-hang') ? MOST_ON_A_HANGING_VOLUME : 14),
    after: turns(one, 5),
  })
}

/** Cases that meet these faults one after the other. */
export function scripts(faults: readonly string[]): fc.Arbitrary<Script> {
  return fc.record({ phases: fc.tuple(...faults.map(phase)) })
}
