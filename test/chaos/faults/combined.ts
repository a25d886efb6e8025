import type { Fault, Group } from './fault.ts'

/**
 * Several faults in force together; what one of them excuses is excused. A volume's begin first and end last: where everything
 * has to be in the store before, or gets there after, the store has to be well.
 */
export function combined(faults: readonly Fault[]): Fault {
  const parts = [...faults].sort((a, b) => Number(isOf(b, 'volume')) - Number(isOf(a, 'volume')))
  const first = <T>(values: readonly (T | undefined)[]): T | undefined =>
    values.find((value) => value !== undefined)
  return {
    name: faults.map(({ name }) => name).join('+'),
    groups: [...new Set(parts.flatMap(({ groups }) => groups))],
    unavailable: (world) => first(parts.map((part) => part.unavailable?.(world))),
    idleIn: (policy) => first(parts.map((part) => part.idleIn?.(policy))),
    async begin(conductor) {
      for (const part of parts) await part.begin?.(conductor)
    },
    async end(conductor) {
      for (const part of parts.toReversed()) await part.end?.(conductor)
    },
    strikes: Math.max(0, ...parts.map(strikesOf)),
    async strike(conductor, nth) {
      for (const part of parts) if (nth < strikesOf(part)) await part.strike?.(conductor, nth)
    },
    excuses: (policy, action, errno) =>
      parts.some((part) => part.excuses?.(policy, action, errno) ?? false) ||
      // With both sides away nothing is left to answer with.
      (errno === 'EIO' &&
        parts.some((part) => isOf(part, 'network')) &&
        parts.some((part) => isOf(part, 'volume'))),
  }
}

function isOf({ groups }: Fault, group: Group): boolean {
  return groups.includes(group)
}

function strikesOf({ strike, strikes = 1 }: Fault): number {
  return strike ? strikes : 0
}

export function isCombined({ groups, name }: Fault): boolean {
  return groups.length > 1 || name.includes('+')
}

// Costs a session by itself; is no fault; says nothing where the store cannot answer who has the namespace.
const NEVER = new Set(['kill-at-points', 'hostile-tree', 'none'])
const APART: readonly (readonly [string | Group, string | Group])[] = [
  ['second-daemon', 'network'],
  // A mount whose source does not answer is refused, and says so: nothing would be served for the rest of the fault.
  ['kill-both', 'volume'],
  ['terminate', 'volume'],
  // A process with files of it open ends when it answers, and nobody is served until then.
  ['processes', 'legacy-hang'],
  // Both are about what the legacy volume answers: which of them an errno came of nobody could tell.
  ['disks', 'volume'],
  // Each wants the directories on file systems of its own kind.
  ['power', 'disks'],
  ['power', 'volume'],
]

/** Whether the two may come together. */
function combinable(one: Fault, other: Fault): boolean {
  if (NEVER.has(one.name) || NEVER.has(other.name)) return false
  if (one.groups.some((group) => other.groups.includes(group))) return false
  const is = (fault: Fault, what: string): boolean =>
    fault.name === what || fault.groups.some((g) => g === what)
  return !APART.some(([a, b]) => (is(one, a) && is(other, b)) || (is(one, b) && is(other, a)))
}

/** Every pair of faults that may come together. */
export function pairs(faults: readonly Fault[]): Fault[] {
  return faults.flatMap((one, index) =>
    faults.slice(index + 1).flatMap((other) => (combinable(one, other) ? [combined([one, other])] : [])),
  )
}
