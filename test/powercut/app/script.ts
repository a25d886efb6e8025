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
  | { readonly step: 'syncfs' | 'migrate' | 'settle' | 'verify' | 'sweep' | 'stray' }
  | { readonly step: 'pass'; readonly ms: number }
  | { readonly step: 'mode'; readonly mode: Mode }

/** How the daemon is mounted: with its defaults, `--ack store`, `--source-readonly`. */
export const VARIANTS = ['plain', 'ack-store', 'source-readonly'] as const
export type Variant = (typeof VARIANTS)[number]

export interface Script {
  readonly mode: Mode
  readonly variant: Variant
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
  { weight: 1, arbitrary: fc.record({ step: fc.constantFrom('syncfs' as const, 'verify', 'sweep') }) },
)

/** Steps that make something unneeded, and what has to happen for it to go: by chance they meet too seldom. */
const phrases: readonly fc.Arbitrary<readonly Step[]>[] = [
  // Staged, synced, stored: the staging file goes.
  fc
    .tuple(file, at, size)
    .map(([path, from, length]) => [
      { step: 'write', path, at: from, size: length },
      { step: 'fsync', path },
      { step: 'settle' },
      { step: 'pass', ms: 1000 },
    ]),
  // Everything is stored, and gone from the volume where the mode wants that.
  fc.constantFrom(1000, 5000).map((ms) => [{ step: 'migrate' }, { step: 'pass', ms }]),
  // A file of several chunks gets others: the old ones are garbage.
  fc
    .tuple(fc.constantFrom('/e/b', '/f'), size)
    .map(([path, length]) => [
      { step: 'write', path, at: MiB + 100, size: length },
      { step: 'settle' },
      { step: 'write', path, at: MiB + 100, size: 10 },
      { step: 'fsync', path },
      { step: 'settle' },
      { step: 'pass', ms: 5000 },
    ]),
  // Another directory's record gets the file.
  fc
    .tuple(file, file)
    .map(([path, to]) => [{ step: 'settle' }, { step: 'rename', path, to }, { step: 'settle' }]),
  fc
    .tuple(file)
    .map(([path]) => [
      { step: 'settle' },
      { step: 'unlink', path },
      { step: 'settle' },
      { step: 'pass', ms: 1000 },
    ]),
  // What fsync of a directory has to bring.
  fc.tuple(file, file, fc.constantFrom('/d', '/e')).map(([path, to, at]) => [
    { step: 'create', path },
    { step: 'rename', path, to },
    { step: 'fsyncdir', path: at },
  ]),
  // The volume has been synced since everything was copied from it, and a file there changes.
  fc
    .tuple(file, size)
    .map(([path, length]) => [
      { step: 'migrate' },
      { step: 'pass', ms: 35_000 },
      { step: 'write', path, at: 0, size: length },
    ]),
  // Bytes of one file that were never synced, noted on the disk by the sync of another.
  fc
    .tuple(file, file, size)
    .map(([path, other, length]) => [
      { step: 'settle' },
      { step: 'write', path, at: 100, size: length },
      { step: 'write', path: other, at: 0, size: 100 },
      { step: 'fdatasync', path: other },
    ]),
  fc.tuple(file, fc.constantFrom(0, 10, 6000)).map(([path, length]) => [
    { step: 'append', path, size: 40_000 },
    { step: 'fsync', path },
    { step: 'truncate', path, size: length },
    { step: 'pass', ms: 1000 },
  ]),
]

const changeMode: fc.Arbitrary<Step> = fc.record({
  step: fc.constant('mode' as const),
  mode: fc.constantFrom(...MODES),
})

/** What scripts are made for: one mode that stays, or modes that change. */
export const CASES = [...MODES, 'changing'] as const
export type Case = (typeof CASES)[number]
export const isCase = (name: string): name is Case => (CASES as readonly string[]).includes(name)

const variant = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Variant>('plain') },
  { weight: 1, arbitrary: fc.constant<Variant>('ack-store') },
  { weight: 1, arbitrary: fc.constant<Variant>('source-readonly') },
)

/** Scripts for the case, in this variant if one is given. */
export function scriptsOf(name: Case, wanted?: Variant): fc.Arbitrary<Script> {
  const isChanging = name === 'changing'
  const single = isChanging
    ? fc.oneof({ weight: 10, arbitrary: step }, { weight: 1, arbitrary: changeMode })
    : step
  const several = fc.oneof(
    { weight: 8, arbitrary: single.map((one): readonly Step[] => [one]) },
    ...phrases.map((arbitrary) => ({ weight: 1, arbitrary })),
  )
  return fc.record({
    mode: isChanging ? fc.constantFrom(...MODES) : fc.constant(name),
    variant: wanted === undefined ? variant : fc.constant(wanted),
    distant: fc.boolean(),
    inlineLimit: fc.constantFrom(64, MiB),
    pace: fc.noShrink(fc.nat()),
    steps: fc.array(several, { minLength: 1, maxLength: 25, size: 'max' }).map((all) => all.flat()),
  })
}

export function show(step: Step): string {
  const { step: name, ...rest } = step
  return `${name}(${Object.values(rest).join(', ')})`
}
