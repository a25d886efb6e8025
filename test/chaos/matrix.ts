import type { Mode } from '../../src/base/modes.ts'
import type { Fault } from './faults/fault.ts'
import { FAULTS, faultNamed } from './faults/index.ts'
import { Usage } from './options.ts'
import type { Settings } from './world/world.ts'

/** One case to run: faults in a mode, drawn from a seed. */
export interface Plan {
  readonly mode: Mode
  readonly faults: readonly string[]
  readonly seed: number
  readonly settings: Settings
}

// Phases of one session: enough to share the cost of a mount and of the checks at the end, few enough to shrink.
const PHASES = 5
// Costs as much as a session by itself.
const ALONE = new Set(['kill-at-points'])
const SEED_RANGE = 2 ** 31

/** Cells of the matrix: every fault in every mode. */
export function chosenFaults(names: readonly string[] | undefined): readonly Fault[] {
  if (names === undefined) return FAULTS
  return names.map((name) => {
    const fault = faultNamed(name)
    if (fault) return fault
    throw new Usage(`--fault ${name}: one of ${FAULTS.map((one) => one.name).join(', ')}`)
  })
}

/**
 * Sessions without end, the rarest first: one pass covers every cell once; every later pass draws other cases, with the
 * faults in another order and company.
 */
export function* plans(
  seed: number,
  modes: readonly Mode[],
  faults: readonly Fault[],
): Generator<Plan & { readonly pass: number }> {
  let number = 0
  for (let pass = 0; ; pass += 1) {
    const groups = grouped(pass === 0 ? faults : shuffled(faults, seed + pass))
    for (const group of groups) {
      for (const mode of modes) {
        yield { ...plan(mode, group, (seed + number * 7919) % SEED_RANGE), pass }
        number += 1
      }
    }
  }
}

export function plan(mode: Mode, faults: readonly Fault[], seed: number): Plan {
  const group = faults[0]?.group
  return {
    mode,
    faults: faults.map(({ name }) => name),
    seed,
    settings: {
      // Where the network is bad operations are to reach their limit; where processes die none may come near it.
      opTimeout: group === 'network' ? '5s' : '30s',
      smallDisks: group === 'disks',
    },
  }
}

function grouped(faults: readonly Fault[]): Fault[][] {
  const groups: Fault[][] = []
  for (const fault of faults) {
    const last = groups.findLast(
      (group) => group[0]?.group === fault.group && group.length < PHASES && !group.some(isAlone),
    )
    if (last && !isAlone(fault)) last.push(fault)
    else groups.push([fault])
  }
  return interleaved(groups)
}

/** One of each kind in turn: a run that ends early has seen some of everything. */
function interleaved(groups: readonly Fault[][]): Fault[][] {
  const turn = (group: readonly Fault[], index: number): number =>
    groups.slice(0, index).filter((before) => before[0]?.group === group[0]?.group).length
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
