import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { onFaultPoint } from '../../../src/base/faults.ts'
import type { Mode } from '../../../src/base/modes.ts'
import type { MemoryStore } from '../../../src/store/memory/store.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { Random } from '../../support/rig/random.ts'
import type { Script } from '../app/script.ts'
import type { VolumeImage } from '../disk/image.ts'
import { EVERYTHING, Journal } from '../disk/journal.ts'
import { setChance } from '../machine/chance.ts'
import { requestsEnded, setPace } from '../machine/io.ts'
import type { Machine } from '../machine/machine.ts'
import { Daemon, VOLUMES, type VolumeName } from '../product/daemon.ts'
import { type Event, readEvents } from './events.ts'
import { copiesOf } from './lay-out.ts'
import { DistantStore, type StoreChange } from './logged-store.ts'
import { differencesOf, snapshot } from './snapshot.ts'

export type Images = Readonly<Record<VolumeName, VolumeImage>>

export interface Life {
  readonly script: Script
  readonly machine: Machine
  readonly root: string
  readonly mode: Mode | undefined
  /** Grows. */
  readonly storeChanges: StoreChange[]
  /** Of the store on other machines, where the script has one. */
  readonly memory: MemoryStore
  /** A worker that follows a killed one. */
  readonly takesOver?: boolean
  /** It ends behind this event. */
  readonly killAt?: number | undefined
}

/** What lies there now. */
export const imagesIn = (root: string): Images => ({
  state: snapshot(join(root, 'state')),
  store: snapshot(join(root, 'store')),
  volume: snapshot(join(root, 'volume')),
})

/** From the start of a daemon to the end of the body; `after`: what it left, unless it was killed. */
export async function live(
  { script, machine, root, mode, storeChanges, memory, takesOver, killAt }: Life,
  body: (daemon: Daemon) => Promise<void>,
): Promise<{ events: Event[]; after: Images }> {
  const { shim } = machine
  const log = join(machine.logs, 'recording')
  rmSync(log, { force: true })
  clock.forgetTimers()
  // The start after a first cut is recorded behind other states, and replayed behind none: the clock is the same for both.
  clock.stopReal(true)
  const random = new Random(script.pace)
  setChance(() => random.next())
  setPace(() => 1 + random.below(3))
  onFaultPoint((name) => shim.mark(`point ${name}`))
  const onChange = (change: StoreChange): void => {
    shim.mark(`store ${storeChanges.length}`)
    storeChanges.push(change)
  }
  const { inlineLimit, variant } = script
  const store = script.distant
    ? new DistantStore(memory, onChange, () => turns(1 + random.below(4)))
    : undefined
  shim.record(root, log)
  if (killAt !== undefined) shim.killAt(killAt, copiesOf(root, machine))
  let daemon: Daemon | undefined
  let after: Images
  try {
    daemon = await Daemon.start({ root, mode, inlineLimit, variant, store, onChange, takesOver })
    shim.mark('mounted')
    await body(daemon)
  } finally {
    shim.pause()
    onFaultPoint(undefined)
    after = imagesIn(root)
    await daemon?.stop()
    await requestsEnded()
    setChance(undefined)
    setPace(() => 1)
    clock.forgetTimers()
  }
  const events = readEvents(log)
  rmSync(root, { recursive: true, force: true })
  rmSync(log, { force: true })
  return { events, after }
}

/**
 * The journals of what happened; everything that is there afterwards has to come of it: a call that the shim does not know
 * would make every crash state a wrong one.
 * @throws Error
 */
export function journalsOf(
  base: Images,
  events: readonly Event[],
  after: Images,
): Readonly<Record<VolumeName, Journal>> {
  const journals = split(base, events)
  for (const volume of VOLUMES) {
    const journal = journals[volume]
    const end = journal.events.at(-1)?.seq ?? 0
    const missing = differencesOf(journal.imageAt(end, end, EVERYTHING), after[volume])
    if (missing.length > 0)
      throw new Error(`the recording of ${volume} is not complete: ${missing.slice(0, 5).join('; ')}`)
  }
  return journals
}

/** What the page cache has behind the last event. */
export const cachedAfter = (base: Images, events: readonly Event[]): VolumeImage[] =>
  Object.values(split(base, events)).map((journal) =>
    journal.imageAt(events.length - 1, events.length - 1, EVERYTHING),
  )

/** Each volume has a journal of its own. */
function split(base: Images, events: readonly Event[]): Record<VolumeName, Journal> {
  const volumeOf = new Map<number, VolumeName>()
  const own: Record<VolumeName, Event[]> = { state: [], store: [], volume: [] }
  for (const volume of VOLUMES) for (const ino of base[volume].files.keys()) volumeOf.set(ino, volume)
  for (const event of events) {
    const volume = volumeOf.get(event.kind === 'create' ? event.parent : event.ino)
    if (!volume) continue
    volumeOf.set(event.ino, volume)
    own[volume].push(event)
  }
  return {
    state: new Journal(base.state, own.state),
    store: new Journal(base.store, own.store),
    volume: new Journal(base.volume, own.volume),
  }
}
