import { Random } from '../../support/rig/random.ts'
import type { CrashState } from '../disk/draw.ts'
import { VOLUMES } from '../product/daemon.ts'
import { mountedAt, type Recording } from '../recording/record.ts'
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

// How many places of one kind are tried, spread over the recording.
const PLACES = 2
const WORST = [
  { whole: 'names' },
  { whole: 'least' },
  { whole: 'free' },
  ...VOLUMES.map((_, one) => ({ whole: 'data', one }) as const),
  ...VOLUMES.map((_, one) => ({ whole: 'one', one }) as const),
] as const

/** Crash states right behind these steps, and right behind what follows. `gone`: the event of the step. */
export function statesBehind(
  recording: Recording,
  steps: readonly Destruction[],
): Array<CrashState & { readonly gone: number }> {
  const found = [...destructionsOf(recording)]
  const last = recording.events.length - 1
  return steps.flatMap((step) => {
    const places = found.filter(([, what]) => what === step).map(([seq]) => seq)
    const each = Math.max(1, places.length / PLACES)
    const chosen = places.filter((_, index) => Math.floor(index / each) !== Math.floor((index - 1) / each))
    return chosen.flatMap((gone, index) =>
      WORST.map((worst, manner) => {
        const seed = index * WORST.length + manner
        return { cut: Math.min(last, gone + (seed % 2)), seed, ...worst, gone }
      }),
    )
  })
}
