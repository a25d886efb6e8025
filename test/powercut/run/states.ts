import { Random } from '../../support/rig/random.ts'
import type { CrashState } from '../disk/draw.ts'
import type { Recording } from '../recording/record.ts'
import { destructions } from './coverage.ts'

/** The first event after the mount was there. */
function mountedAt({ events }: Recording): number {
  const found = events.find(({ kind, data }) => kind === 'mark' && data.toString() === 'mounted')
  return found?.seq ?? 0
}

/** Crash states of one recording: some moments anywhere, half of them right behind something that is gone then. */
export function drawStates(recording: Recording, seed: number, count: number): CrashState[] {
  const random = new Random(seed)
  const last = recording.events.length - 1
  const mounted = mountedAt(recording)
  const gone = [...destructions(recording).keys()].filter((seq) => seq > mounted)
  const states: CrashState[] = []
  for (let number = 0; number < count; number += 1) {
    const manner = random.next()
    const state = random.below(2 ** 30)
    let cut = mounted + random.below(last - mounted + 1)
    if (manner < 0.05) cut = random.below(mounted + 1)
    else if (manner < 0.55 && gone.length > 0) {
      cut = Math.min(last, (gone[random.below(gone.length)] ?? 0) + random.below(3))
    }
    states.push({ cut, seed: state })
  }
  return states
}
