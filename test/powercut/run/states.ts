import { Random } from '../../support/rig/random.ts'
import type { CrashState } from '../disk/draw.ts'
import type { Event } from '../recording/events.ts'
import { VOLUMES } from '../product/daemon.ts'
import { type Kill, mountedAt, type Recording } from '../recording/record.ts'
import { destructionsOf } from './destructions.ts'
import type { Destruction } from './rows.ts'

/**
 * Crash states of one recording: some moments anywhere, some right behind the answer to a sync, most of them right behind
 * something that is gone then.
 */
export function drawStates(recording: Recording, seed: number, count: number): CrashState[] {
  const random = new Random(seed)
  const last = recording.events.length - 1
  const mounted = mountedAt(recording)
  const gone = byKind(destructionsOf(recording))
  const synced = answeredSyncs(recording)
  // One kind after the other: what happens all the time is not to crowd out what happens once.
  let turn = random.below(Math.max(1, gone.length))
  const states: CrashState[] = []
  for (let number = 0; number < count; number += 1) {
    const manner = random.next()
    const state = random.below(2 ** 30)
    let cut = mounted + random.below(last - mounted + 1)
    if (manner < 0.05) cut = random.below(mounted + 1)
    else if (manner < 0.2 && synced.length > 0) cut = synced[random.below(synced.length)] ?? cut
    else if (manner < 0.8 && gone.length > 0) {
      const own = gone[turn++ % gone.length] ?? []
      cut = Math.min(last, (own[random.below(own.length)] ?? 0) + random.below(3))
    }
    states.push({ cut, seed: state })
  }
  return states
}

/** The point of the product that a mark is of. */
const pointOf = ({ kind, data }: Event): string | undefined =>
  kind === 'mark' && data.subarray(0, 6).toString() === 'point ' ? data.subarray(6).toString() : undefined

/** @throws Error if the point was not passed */
export function lastPassage({ events }: Recording, point: string): number {
  const found = events.findLast((event) => pointOf(event) === point)
  if (!found) throw new Error(`the script does not pass ${point}`)
  return found.seq
}

/** Passages of points between two events, the same point's together. */
function pointsBetween({ events }: Recording, from: number, to: number): number[][] {
  const found = new Map<string, number[]>()
  for (const event of events.slice(from, to + 1)) {
    const point = pointOf(event)
    if (point !== undefined) found.set(point, [...(found.get(point) ?? []), event.seq])
  }
  return [...found.values()]
}

/** Where the start after the last kill ends. */
function startedAt({ events, kills }: Recording): number {
  const killed = kills.at(-1)?.at ?? -1
  const mounted = events.find(
    ({ seq, kind, data }) => seq > killed && kind === 'mark' && data.toString() === 'mounted',
  )
  return mounted?.seq ?? events.length - 1
}

function oneOf<T>(from: readonly T[], random: Random): T | undefined {
  return from[random.below(Math.max(1, from.length))]
}

/** Where a daemon is killed: mostly at a crash point, one as often as the other, and behind a kill mostly in the start. */
export function drawKill(recording: Recording, seed: number): Kill {
  const random = new Random(seed)
  const last = recording.events.length - 1
  const from = (recording.kills.at(-1)?.at ?? -1) + 1
  const to = from > 0 ? startedAt(recording) : last
  const point = oneOf(oneOf(pointsBetween(recording, from, to), random) ?? [], random)
  const anywhere = from + random.below(to - from + 1)
  const at = random.next() < 0.7 ? (point ?? anywhere) : anywhere
  return { at, whose: random.next() < 0.5 && isServing(recording, at) ? 'worker' : 'both' }
}

/** Whether the mount is there: where the first worker dies before that, nobody follows it, and the mount has failed. */
function isServing({ events, kills }: Recording, at: number): boolean {
  const begun = kills.findLast(({ whose }) => whose === 'both')?.at ?? -1
  return events
    .slice(begun + 1, at + 1)
    .some(({ kind, data }) => kind === 'mark' && data.toString() === 'mounted')
}

/** Crash states behind the last kill: while the daemon starts, and from then on. */
export function drawStatesAfterKill(recording: Recording, seed: number, count: number): CrashState[] {
  const random = new Random(seed)
  const last = recording.events.length - 1
  const from = recording.kills.at(-1)?.at ?? 0
  const started = startedAt(recording)
  const gone = [...destructionsOf(recording)]
  const within = byKind(new Map(gone.filter(([seq]) => seq > from && seq <= started)))
  const behind = byKind(new Map(gone.filter(([seq]) => seq > started)))
  const points = pointsBetween(recording, from + 1, started)
  const synced = answeredSyncs(recording).filter((seq) => seq > started)
  return Array.from({ length: count }, () => {
    const manner = random.next()
    const state = random.below(2 ** 30)
    const kinds = manner < 0.25 ? within : manner < 0.5 ? points : manner < 0.8 ? behind : [synced]
    const drawn = oneOf(oneOf(kinds, random) ?? [], random)
    const anywhere = from + random.below(last - from + 1)
    const cut = drawn === undefined || manner > 0.9 ? anywhere : Math.min(last, drawn + random.below(3))
    return { cut, seed: state }
  })
}

/** What coverage says of a kill, and of a power cut behind one. */
export function describeKill(recording: Recording): string {
  const at = recording.kills.at(-1)?.at ?? 0
  const event = recording.events[at]
  return `kill at ${(event && pointOf(event)) ?? 'another moment'}`
}

export function describeCut(recording: Recording, cut: number): string {
  if (cut > startedAt(recording)) return 'power cut behind the start after a kill'
  const from = (recording.kills.at(-1)?.at ?? 0) + 1
  const point = recording.events.slice(from, cut + 1).findLast((event) => pointOf(event) !== undefined)
  return `power cut in the start after a kill, behind ${(point && pointOf(point)) ?? 'nothing yet'}`
}

/** Events with which an application was told that something is on the disk. */
function answeredSyncs({ events, steps }: Recording): number[] {
  const found: number[] = []
  for (const { seq, kind, data } of events) {
    const [what, number] = kind === 'mark' ? data.toString().split(' ') : []
    if (what === 'end' && /^(f|sync)/.test(steps.get(Number(number)) ?? '')) found.push(seq)
  }
  return found
}

function byKind(found: ReadonlyMap<number, Destruction>): number[][] {
  const kinds = new Map<Destruction, number[]>()
  for (const [seq, what] of found) kinds.set(what, [...(kinds.get(what) ?? []), seq])
  return [...kinds.values()]
}

const WORST = [
  { whole: 'names' },
  { whole: 'least' },
  { whole: 'free' },
  ...VOLUMES.map((_, one) => ({ whole: 'data', one }) as const),
  ...VOLUMES.map((_, one) => ({ whole: 'one', one }) as const),
] as const

/**
 * Crash states right behind `places` steps of each kind, spread over the recording, and right behind what follows them.
 * `gone`: the event of the step.
 */
export function statesBehind(
  recording: Recording,
  steps: readonly Destruction[],
  places: number,
): Array<CrashState & { readonly gone: number }> {
  const found = [...destructionsOf(recording)]
  const last = recording.events.length - 1
  return steps.flatMap((step) => {
    const all = found.filter(([, what]) => what === step).map(([seq]) => seq)
    const each = Math.max(1, all.length / places)
    const chosen = all.filter((_, index) => Math.floor(index / each) !== Math.floor((index - 1) / each))
    return chosen.flatMap((gone, index) =>
      WORST.map((worst, manner) => {
        const seed = index * WORST.length + manner
        return { cut: Math.min(last, gone + (seed % 2)), seed, ...worst, gone }
      }),
    )
  })
}
