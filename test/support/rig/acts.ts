import { constants } from 'node:fs'
import fc from 'fast-check'
import { MODES } from '../../../src/base/modes.ts'
import type { Act } from './clients.ts'
import type { Fault } from './fault-store.ts'
import { KILL_POINTS } from './kill-points.ts'

// Few files, so that the clients meet.
const file = fc.constantFrom('d/a', 'd/b', 'd/c', 'e/a', 'e/b')
const directory = fc.constantFrom('d', 'e')
// Where directories may go: what was in one is then in another, and files above are gone until it comes back.
const directories = fc.constantFrom('d', 'e', 'f', 'd/x')
const name = fc.constantFrom('d/a', 'd/b', 'd/c', 'e/a', 'e/b', 'e/c', 'd/x')
const at = fc.constantFrom(0, 1, 60, 100, 4095, 4096, 5000, 8192, 10_000)
const size = fc.constantFrom(1, 30, 64, 300, 4096, 5000)

const weighted = <T>(weight: number, arbitrary: fc.Arbitrary<T>): fc.WeightedArbitrary<T> => ({
  weight,
  arbitrary,
})

const client: Array<fc.WeightedArbitrary<Act>> = [
  weighted(
    6,
    fc.record({ act: fc.constant('read' as const), file, at, size: fc.constantFrom(50, 4096, 20_000) }),
  ),
  weighted(6, fc.record({ act: fc.constant('write' as const), file, at, size })),
  weighted(2, fc.record({ act: fc.constant('append' as const), file, size })),
  weighted(
    3,
    fc.record({
      act: fc.constant('truncate' as const),
      file,
      size: fc.constantFrom(0, 10, 4096, 6000, 9000),
    }),
  ),
  weighted(
    1,
    fc.record({ act: fc.constant('fallocate' as const), file, mode: fc.constantFrom(0, 3, 16), at, size }),
  ),
  weighted(4, fc.record({ act: fc.constant('create' as const), file: name })),
  weighted(1, fc.record({ act: fc.constant('mkdir' as const), file: name })),
  weighted(3, fc.record({ act: fc.constant('unlink' as const), file })),
  weighted(1, fc.record({ act: fc.constant('rmdir' as const), file: name })),
  weighted(
    4,
    fc.record({
      act: fc.constant('rename' as const),
      file,
      to: name,
      flags: fc.constantFrom(0, 0, 0, 1, 2, 4),
    }),
  ),
  weighted(
    2,
    fc.record({
      act: fc.constant('rename' as const),
      file: directories,
      to: directories,
      flags: fc.constantFrom(0, 0, 2),
    }),
  ),
  weighted(1, fc.record({ act: fc.constant('mkdir' as const), file: directories })),
  weighted(2, fc.record({ act: fc.constant('symlink' as const), file: name })),
  weighted(2, fc.record({ act: fc.constant('readlink' as const), file: name })),
  weighted(2, fc.record({ act: fc.constant('link' as const), file, to: name })),
  weighted(1, fc.record({ act: fc.constant('fsync' as const), file })),
  weighted(1, fc.record({ act: fc.constant('chmod' as const), file, mode: fc.constantFrom(0o600, 0o644) })),
  weighted(1, fc.record({ act: fc.constant('setxattr' as const), file, value: fc.nat(9) })),
  weighted(
    2,
    fc.record({ act: fc.constant('list' as const), file: directory, room: fc.constantFrom(1, 2, 100) }),
  ),
  weighted(
    2,
    fc.record({
      act: fc.constant('hold' as const),
      file,
      flags: fc.constantFrom(constants.O_RDONLY, constants.O_RDWR),
    }),
  ),
  weighted(1, fc.record({ act: fc.constant('let-go' as const) })),
  weighted(1, fc.record({ act: fc.constant('look' as const), file: name })),
]

const background: Array<fc.WeightedArbitrary<Act>> = [
  weighted(2, fc.record({ act: fc.constant('migrate' as const) })),
  weighted(2, fc.record({ act: fc.constant('reap' as const) })),
  weighted(1, fc.record({ act: fc.constant('verify' as const) })),
  weighted(2, fc.record({ act: fc.constant('sweep' as const) })),
]

const harm: Array<fc.WeightedArbitrary<Act>> = [
  weighted(
    3,
    fc.record({
      act: fc.constant('harm' as const),
      space: fc.constantFrom('files' as const, 'chunks' as const, 'chunks' as const, 'dirs' as const),
      nth: fc.nat(7),
    }),
  ),
]

const past: Array<fc.WeightedArbitrary<Act>> = [
  weighted(2, fc.record({ act: fc.constant('past' as const), file, at, size })),
]

const mode: Array<fc.WeightedArbitrary<Act>> = [
  weighted(3, fc.record({ act: fc.constant('mode' as const), mode: fc.constantFrom(...MODES) })),
]

const FAULTS: Fault[] = [
  'unavailable',
  'timeout',
  'lost-ack',
  'late',
  'stale',
  'not-found',
  'corrupt',
  'hang',
]
const faults: Array<fc.WeightedArbitrary<Act>> = [
  weighted(
    3,
    fc.record({
      act: fc.constant('fault' as const),
      fault: fc.constantFrom(...FAULTS),
      times: fc.constantFrom(1, 3),
    }),
  ),
  weighted(1, fc.record({ act: fc.constant('heal' as const) })),
]

const disks: Array<fc.WeightedArbitrary<Act>> = [
  weighted(
    3,
    fc.record({
      act: fc.constant('full' as const),
      disk: fc.constantFrom('catalog' as const, 'catalog' as const, 'staging' as const, 'volume' as const),
      after: fc.nat(12),
    }),
  ),
  weighted(
    2,
    fc.record({
      act: fc.constant('refuse-names' as const),
      errno: fc.constantFrom('EROFS' as const, 'ENOSPC' as const, 'EIO' as const),
      after: fc.nat(3),
    }),
  ),
  weighted(1, fc.record({ act: fc.constant('heal' as const) })),
]

const crashes: Array<fc.WeightedArbitrary<Act>> = [
  weighted(
    1,
    fc.record({
      act: fc.constant('crash' as const),
      as: fc.constantFrom('worker' as const, 'worker' as const, 'mount' as const),
    }),
  ),
  weighted(
    2,
    fc.record({
      act: fc.constant('trap' as const),
      point: fc.constantFrom(...KILL_POINTS),
      nth: fc.integer({ min: 1, max: 2 }),
    }),
  ),
]

/** What may go on around the clients. */
export interface Around {
  readonly past?: boolean
  /** The store damages what it has. */
  readonly harm?: boolean
  readonly modes?: boolean
  readonly faults?: boolean
  readonly disks?: boolean
  readonly crashes?: boolean
}

/** Bursts of acts: for each burst, what each client does at the same time as the others. */
export function bursts(around: Around): fc.Arbitrary<Act[][][]> {
  const act = fc.oneof(
    ...client,
    ...background,
    ...(around.past ? past : []),
    ...(around.harm ? harm : []),
    ...(around.modes ? mode : []),
    ...(around.faults ? faults : []),
    ...(around.disks ? disks : []),
    ...(around.crashes ? crashes : []),
  )
  const acts = fc.array(act, { minLength: 1, maxLength: 5, size: 'max' })
  const burst = fc.array(acts, { minLength: 2, maxLength: 4, size: 'max' })
  return fc.array(burst, { minLength: 1, maxLength: 8, size: 'max' })
}
