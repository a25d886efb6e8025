import { type Mode, policyOf } from '../../src/base/modes.ts'
import { isCombined, pairs } from './faults/combined.ts'
import type { Fault, Group } from './faults/fault.ts'
import { FAULTS, faultNamed } from './faults/index.ts'
import { Usage } from './options.ts'
import type { Settings, Variant } from './world/world.ts'

/** One case to run: faults in a mode, drawn from a seed. */
export interface Plan {
  readonly mode: Mode
  readonly faults: readonly string[]
  readonly seed: number
  readonly settings: Settings
}

/** What there is to choose from. */
export interface Choice {
  readonly seed: number
  readonly modes: readonly Mode[]
  readonly faults: readonly Fault[]
  /** Also draw sessions with two faults at once. */
  readonly pairs: boolean
  /** Of every session; undefined where variants take turns. */
  readonly variant: Variant | undefined
}

// Phases of one session: enough to share the cost of a mount and of the checks at the end, few enough to shrink.
const PHASES = 5
const COMBINED_PHASES = 3
// Costs as much as a session by itself.
const ALONE = new Set(['kill-at-points'])
const SEED_RANGE = 2 ** 31
// One session in so many has the limits that an operator has: there what is hidden by a short one shows.
const DEFAULT_TIMEOUTS = 4

/** Kinds of faults that one session has; they want the same settings, or surroundings that do not disturb each other. */
const COMPANY: Readonly<Record<Group, string>> = {
  network: 'network',
  processes: 'processes',
  disks: 'disks',
  volume: 'surroundings',
  clock: 'surroundings',
  power: 'power',
}

/** The pairs that a first pass takes its share from: those that have the most to go wrong together. */
const FIRST_PAIRS = [
  'outage+kill-worker',
  'black-hole+staging-full',
  'lost-ack+kill-both',
  'node-loss+changed-past',
  'latency+hand-over',
  'outage+terminate',
  'outage+kill-both',
  'flapping+legacy-gone',
  'kill-worker+legacy-eio',
  'reset+clock-step',
  'kill-worker+staging-full',
  'terminate+clock-step',
  'black-hole+kill-worker',
  'stale-replica+kill-both',
  'hand-over+legacy-full',
  'damaged-object+kill-worker',
  'outage+power-cut',
  'kill-worker+power-cut',
]

/** How often each variant comes up once every cell was met. */
const LATER_VARIANTS: readonly Variant[] = ['plain', 'ack-store', 'plain', 'source-readonly', 'plain']
const FIRST_VARIANTS: readonly Variant[] = ['plain', 'ack-store', 'source-readonly']

/** Cells of the matrix: every fault in every mode. */
export function chosenFaults(names: readonly string[] | undefined): readonly Fault[] {
  if (names === undefined) return FAULTS
  return names.map((name) => {
    const fault = faultNamed(name)
    if (fault) return fault
    throw new Usage(
      `--fault ${name}: one of ${FAULTS.map((one) => one.name).join(', ')}, or several joined by +`,
    )
  })
}

/**
 * Sessions without end, the rarest first: one pass covers every cell once, with a share of the pairs; every later pass
 * draws other cases, with the faults in another order and company.
 */
export function* plans(choice: Choice): Generator<Plan & { readonly pass: number }> {
  const { seed, modes, faults } = choice
  const possible = choice.pairs ? pairs(faults) : []
  let number = 0
  const next = (): number => (seed + number++ * 7919) % SEED_RANGE
  for (let pass = 0; ; pass += 1) {
    const groups = grouped(pass === 0 ? faults : shuffled(faults, seed + pass))
    for (const [index, group] of groups.entries()) {
      for (const [nth, mode] of modes.entries()) {
        const variant =
          choice.variant ?? (pass === 0 ? 'plain' : taken(LATER_VARIANTS, seed + pass + index + nth))
        yield { ...plan(mode, group, next(), variant), pass }
      }
      // After the first round of every kind, so that a run that ends early has seen some of them.
      if (index !== Math.min(2, groups.length - 1) || possible.length === 0) continue
      for (const [nth, mode] of modes.entries()) {
        const variant =
          choice.variant ?? taken(pass === 0 ? FIRST_VARIANTS : LATER_VARIANTS, seed + pass + nth)
        const drawn = drawnPairs(possible, { mode, variant, seed, pass, nth })
        if (drawn.length > 0) yield { ...plan(mode, drawn, next(), variant), pass }
      }
    }
  }
}

interface Draw {
  readonly mode: Mode
  readonly variant: Variant
  readonly seed: number
  readonly pass: number
  readonly nth: number
}

/** The pairs of one session: in a first pass the next few of those that have a meaning in the mode, later any. */
function drawnPairs(possible: readonly Fault[], { mode, variant, seed, pass, nth }: Draw): Fault[] {
  const policy = policyOf(mode, variant === 'source-readonly')
  const meant = possible.filter((pair) => pair.idleIn?.(policy) === undefined)
  if (pass > 0) return company(shuffled(meant, seed + pass * 31 + nth))
  const names = new Set(FIRST_PAIRS)
  const first = meant.filter(({ name }) => names.has(name))
  const from = (seed + nth * COMBINED_PHASES) % Math.max(1, first.length)
  return company([...first.slice(from), ...first.slice(0, from)])
}

/** The first few that one session can have: its directories lie on file systems of one kind. */
function company(pairs: readonly Fault[]): Fault[] {
  const taken: Fault[] = []
  const wants = (one: Fault): string => {
    if (one.groups.includes('power')) return 'power'
    return one.groups.some((group) => group === 'disks' || group === 'volume') ? 'others' : 'any'
  }
  for (const pair of pairs) {
    const kinds = new Set([...taken, pair].map(wants))
    if (taken.length < COMBINED_PHASES && !(kinds.has('power') && kinds.has('others'))) taken.push(pair)
  }
  return taken
}

function taken<T>(items: readonly T[], index: number): T {
  const item = items[index % items.length]
  if (item === undefined) throw new Error('nothing to take from')
  return item
}

export function plan(mode: Mode, faults: readonly Fault[], seed: number, variant: Variant): Plan {
  const has = (group: Group): boolean => faults.some(({ groups }) => groups.includes(group))
  const defaultTimeouts = seed % DEFAULT_TIMEOUTS === 0
  return {
    mode,
    faults: faults.map(({ name }) => name),
    seed,
    settings: {
      // Where the network is bad operations are to reach their limit; where processes die none may come near it.
      opTimeout: has('network') && !defaultTimeouts ? '5s' : '30s',
      defaultTimeouts,
      smallDisks: has('disks'),
      weakVolume: has('volume'),
      ownClock: has('clock'),
      powerDisks: has('power'),
      // Seeds of neighbouring modes differ by an odd number, so those of one kind have both halves between them.
      half: seed % 2,
      variant,
    },
  }
}

function companyOf(fault: Fault): string {
  const [group] = fault.groups
  return isCombined(fault) || group === undefined ? 'combined' : COMPANY[group]
}

function grouped(faults: readonly Fault[]): Fault[][] {
  const groups: Fault[][] = []
  for (const fault of faults) {
    const company = companyOf(fault)
    const most = company === 'combined' ? COMBINED_PHASES : PHASES
    const last = groups.findLast(
      (group) =>
        group.every((one) => companyOf(one) === company) && group.length < most && !group.some(isAlone),
    )
    if (last && !isAlone(fault)) last.push(fault)
    else groups.push([fault])
  }
  return interleaved(groups)
}

/** One of each kind in turn: a run that ends early has seen some of everything. */
function interleaved(groups: readonly Fault[][]): Fault[][] {
  const kind = (group: readonly Fault[]): string => (group[0] ? companyOf(group[0]) : '')
  const turn = (group: readonly Fault[], index: number): number =>
    groups.slice(0, index).filter((before) => kind(before) === kind(group)).length
  return groups
    .map((group, index) => ({ group, turn: turn(group, index) }))
    .sort((a, b) => a.turn - b.turn)
    .map(({ group }) => group)
}

function isAlone({ name }: Fault): boolean {
  return ALONE.has(name)
}

/** Another order for each seed; the same for the same. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  const left = [...items]
  const result: T[] = []
  let state = seed >>> 0
  while (left.length > 0) {
    state = (Math.imul(state ^ 0x9e37_79b9, 1_664_525) + 1_013_904_223) >>> 0
    result.push(...left.splice(state % left.length, 1))
  }
  return result
}
