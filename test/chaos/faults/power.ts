import { Late } from '../world/daemon.ts'
import type { Conductor, Fault } from './fault.ts'

// How long what is owed to the store may take to get there before the cut; then it is cut as it is.
const QUIET_MS = 5000

/** How things stand when the power goes. */
const MOMENTS: readonly ((conductor: Conductor) => Promise<void>)[] = [
  // In the middle of everything.
  async () => undefined,
  // Everything is in the store and what is not needed any more was removed; the journal says so, the catalog's pages do not.
  async ({ world }) => {
    try {
      await world.daemon.until('nothing owed', QUIET_MS, ({ outbox }) => outbox.length === 0)
    } catch (error) {
      if (!(error instanceof Late)) throw error
    }
    world.power?.commitJournals()
  },
  // In the middle, and the journal has just been written.
  async ({ world }) => world.power?.commitJournals(),
]

/** The machine loses power and comes back: what had not reached the disks is gone. */
const powerCut: Fault = {
  name: 'power-cut',
  groups: ['power'],
  unavailable: ({ power, whyNoPower }) =>
    power ? undefined : (whyNoPower ?? 'needs disks that can lose power'),
  strikes: MOMENTS.length,
  strike: (conductor, nth) =>
    conductor.cutting(async () => {
      const { world } = conductor
      await MOMENTS[nth % MOMENTS.length]?.(conductor)
      let comeBack: (() => Promise<void>) | undefined
      await world.daemon.loseMachine(async () => {
        comeBack = await world.power?.cut()
      })
      await comeBack?.()
      world.boot.next()
      await world.daemon.mount(undefined)
    }),
}

export const POWER_FAULTS: readonly Fault[] = [powerCut]
