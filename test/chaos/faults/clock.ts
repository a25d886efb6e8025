import type { Action } from '../actions.ts'
import { Contradiction } from '../model/subtree.ts'
import type { Fault } from './fault.ts'

const HOUR = 3600
const STEPS = [-HOUR, HOUR, -24 * HOUR, 24 * HOUR]
// What a loaded machine may take between two looks at a clock.
const TOLERANCE = 300

/** The daemon's wall clock jumps; nobody else's does. */
const clockStep: Fault = {
  name: 'clock-step',
  groups: ['clock'],
  unavailable: ({ clock }) => (clock ? undefined : 'needs libfaketime (Debian package faketime)'),
  strikes: STEPS.length,
  async strike({ world, policy, perform, ask }, nth) {
    const offset = STEPS[nth] ?? 0
    world.clock?.step(offset)
    const path = `step-${nth}`
    await perform({ do: 'write', path, offset: 0, length: 3000, seed: nth + 1 })
    if (policy.writeTo === 'legacy') return
    // The daemon sets the time itself: a local file system would have taken it from the clock as it is now.
    const look: Action = { do: 'stat', path: `c0/${path}` }
    const { stat } = await ask(look)
    const expected = Date.now() / 1000 + offset
    if (stat && Math.abs(stat.mtime - expected) > TOLERANCE) {
      throw new Contradiction(
        `P1: ${path} was written at ${Math.round(expected)} by the clock and has the time ${stat.mtime}`,
      )
    }
  },
  end: async ({ world }) => world.clock?.step(0),
}

export const CLOCK_FAULTS: readonly Fault[] = [clockStep]
