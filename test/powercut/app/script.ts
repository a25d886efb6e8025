import fc from 'fast-check'
import { MODES, type Mode } from '../../../src/base/modes.ts'

/** One step of applications, of an operator, or of time. */
export type Step =
  | { readonly step: 'create' | 'mkdir' | 'symlink'; readonly path: string }
  | { readonly step: 'write'; readonly path: string; readonly at: number; readonly size: number }
  | { readonly step: 'append'; readonly path: string; readonly size: number }
  | { readonly step: 'truncate'; readonly path: string; readonly size: number }
  | { readonly step: 'punch'; readonly path: string; readonly at: number; readonly size: number }
  | { readonly step: 'fsync' | 'fdatasync' | 'fsyncdir' | 'unlink' | 'rmdir' | 'read'; readonly path: string }
  | { readonly step: 'rename' | 'link'; readonly path: string; readonly to: string }
  | { readonly step: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly step: 'setxattr'; readonly path: string; readonly value: string }
  | { readonly step: 'syncfs' | 'migrate' | 'settle' | 'verify' }
  | { readonly step: 'pass'; readonly ms: number }
  | { readonly step: 'mode'; readonly mode: Mode }

export interface Script {
  readonly mode: Mode
  /** The store is on other machines. */
  readonly distant: boolean
  readonly inlineLimit: number
  /** Seed of the pace at which requests to files and to the store are carried out. */
  readonly pace: number
  readonly steps: readonly Step[]
}

const MiB = 1024 * 1024

/** The files on the legacy volume before the first mount, and how long they are; null for a directory. */
export const FILLED: ReadonlyArray<readonly [path: string, size: number | null]> = [
  ['/d', null],
  ['/e', null],
  ['/d/a', 5000],
  ['/d/b', 40],
  ['/e/a', 60_000],
  ['/e/b', MiB + 3000],
]

const FILES = ['/d/a', '/d/b', '/d/c', '/e/a', '/e/b', '/e/c', '/f', '/d/x/a'] as const
const DIRECTORIES = ['/d', '/e', '/d/x', '/g'] as const
/** Every name that a script knows. Few, so that steps meet. */
export const NAMES: readonly string[] = [...FILES, ...DIRECTORIES]

const file = fc.constantFrom(...FILES)
const directory = fc.constantFrom(...DIRECTORIES)
const name = fc.constantFrom(...FILES, ...DIRECTORIES)
const at = fc.constantFrom(0, 0, 100, 4096, 8192, 50_000, MiB - 100, MiB + 100)
const size = fc.constantFrom(10, 100, 4096, 5000, 40_000)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ step: fc.constant('create' as const), path: file }) },
  { weight: 10, arbitrary: fc.record({ step: fc.constant('write' as const), path: file, at, size }) },
  { weight: 3, arbitrary: fc.record({ step: fc.constant('append' as const), path: file, size }) },
  {
    weight: 3,
    arbitrary: fc.record({
      step: fc.constant('truncate' as const),
      path: file,
      size: fc.constantFrom(0, 10, 4096, 6000, MiB),
    }),
  },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('punch' as const), path: file, at, size }) },
  { weight: 6, arbitrary: fc.record({ step: fc.constantFrom('fsync' as const, 'fdatasync'), path: file }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('fsyncdir' as const), path: directory }) },
  { weight: 3, arbitrary: fc.record({ step: fc.constant('unlink' as const), path: file }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('rmdir' as const), path: directory }) },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('mkdir' as const), path: directory }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('symlink' as const), path: file }) },
  { weight: 4, arbitrary: fc.record({ step: fc.constant('rename' as const), path: name, to: name }) },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('link' as const), path: file, to: file }) },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('read' as const), path: file }) },
  {
    weight: 1,
    arbitrary: fc.record({
      step: fc.constant('chmod' as const),
      path: name,
      mode: fc.constantFrom(0o600, 0o644, 0o755),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      step: fc.constant('setxattr' as const),
      path: file,
      value: fc.constantFrom('1', '22', '333'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ step: fc.constant('pass' as const), ms: fc.constantFrom(50, 1000, 5000) }),
  },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('migrate' as const) }) },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('settle' as const) }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constantFrom('syncfs' as const, 'verify') }) },
)

const changeMode: fc.Arbitrary<Step> = fc.record({
  step: fc.constant('mode' as const),
  mode: fc.constantFrom(...MODES),
})

/** What scripts are made for: one mode that stays, or modes that change. */
export const CASES = [...MODES, 'changing'] as const
export type Case = (typeof CASES)[number]
export const isCase = (name: string): name is Case => (CASES as readonly string[]).includes(name)

export function scriptsOf(name: Case): fc.Arbitrary<Script> {
  const isChanging = name === 'changing'
  const steps = isChanging
    ? fc.oneof({ weight: 10, arbitrary: step }, { weight: 1, arbitrary: changeMode })
    : step
  return fc.record({
    mode: isChanging ? fc.constantFrom(...MODES) : fc.constant(name),
    distant: fc.boolean(),
    inlineLimit: fc.constantFrom(64, MiB),
    pace: fc.noShrink(fc.nat()),
    steps: fc.array(steps, { minLength: 1, maxLength: 40, size: 'max' }),
  })
}

export function show(step: Step): string {
  const { step: name, ...rest } = step
  return `${name}(${Object.values(rest).join(', ')})`
}
