import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { onFaultPoint } from '../../../src/base/faults.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { Random } from '../../support/rig/random.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { History } from '../app/history.ts'
import { bytesOf, resolve, runStep } from '../app/run-step.ts'
import { FILLED, type Script, show } from '../app/script.ts'
import { EVERYTHING, Journal } from '../disk/journal.ts'
import { setPace } from '../machine/io.ts'
import type { Machine } from '../machine/machine.ts'
import { Daemon, VOLUMES, type VolumeName } from '../product/daemon.ts'
import { type Event, readEvents } from './events.ts'
import { DistantStore, type StoreChange } from './logged-store.ts'
import { differencesOf, snapshot } from './snapshot.ts'

/** What happened on a machine under one script, in the order in which it happened. */
export interface Recording {
  readonly script: Script
  readonly events: readonly Event[]
  readonly volumes: Readonly<Record<VolumeName, Journal>>
  /** Changes of the store on other machines, as the events `store N` number them. */
  readonly storeChanges: readonly StoreChange[]
  readonly history: History
  /** Steps that were carried out, by number. */
  readonly steps: ReadonlyMap<number, string>
}

/** Runs the script on a machine of its own and records it. */
export async function record(script: Script, machine: Machine): Promise<Recording> {
  const root = join(machine.root, 'recorded')
  const log = join(machine.logs, 'recording')
  machine.renew()
  rmSync(log, { force: true })
  for (const volume of VOLUMES) mkdirSync(join(root, volume), { recursive: true, mode: 0o700 })
  const history = fill(join(root, 'volume'))
  const base = Object.fromEntries(VOLUMES.map((volume) => [volume, snapshot(join(root, volume))]))
  const { shim } = machine
  const storeChanges: StoreChange[] = []
  const steps = new Map<number, string>()
  clock.forgetTimers()
  const random = new Random(script.pace)
  const unseeded = Math.random
  Math.random = () => random.next()
  setPace(() => 1 + random.below(3))
  onFaultPoint((name) => shim.mark(`point ${name}`))
  const store = script.distant
    ? new DistantStore(
        new MemoryStore(),
        (change) => {
          shim.mark(`store ${storeChanges.length}`)
          storeChanges.push(change)
        },
        () => turns(1 + random.below(4)),
      )
    : undefined
  shim.record(root, log)
  let daemon: Daemon | undefined
  const after: Partial<Record<VolumeName, Journal['base']>> = {}
  try {
    daemon = await Daemon.start({
      root,
      mode: script.mode === 'store-only' ? 'mirror' : script.mode,
      inlineLimit: script.inlineLimit,
      store,
    })
    shim.mark('mounted')
    const leave = script.mode === 'store-only'
    const all = leave
      ? [{ step: 'migrate' } as const, { step: 'mode', mode: 'store-only' } as const, ...script.steps]
      : script.steps
    for (const [number, wanted] of all.entries()) {
      const step = resolve(wanted, history)
      shim.mark(`begin ${number}`)
      if (await runStep(daemon, history, number, step)) steps.set(number, show(step))
      shim.mark(`end ${number}`)
    }
  } finally {
    shim.pause()
    onFaultPoint(undefined)
    for (const volume of VOLUMES) after[volume] = snapshot(join(root, volume))
    await daemon?.stop()
    Math.random = unseeded
    setPace(() => 1)
    clock.forgetTimers()
  }
  const events = readEvents(log)
  rmSync(root, { recursive: true, force: true })
  rmSync(log, { force: true })
  const volumes = split(base as Record<VolumeName, Journal['base']>, events)
  for (const volume of VOLUMES) requireComplete(volume, volumes[volume], after[volume])
  return { script, events, volumes, storeChanges, history, steps }
}

/** A call that the shim does not know would make every crash state a wrong one. @throws Error */
function requireComplete(volume: string, journal: Journal, found: Journal['base'] | undefined): void {
  const end = journal.events.at(-1)?.seq ?? 0
  const missing = found ? differencesOf(journal.imageAt(end, end, EVERYTHING), found) : []
  if (missing.length > 0)
    throw new Error(`the recording of ${volume} is not complete: ${missing.slice(0, 5).join('; ')}`)
}

/** The legacy volume before the first mount. */
function fill(volume: string): History {
  const history = new History()
  for (const [index, [path, size]] of FILLED.entries()) {
    const at = join(volume, path)
    if (size === null) {
      mkdirSync(at, { mode: 0o755 })
      history.make(path, 'directory', 0o755)
    } else {
      const content = bytesOf(1000 + index, size)
      writeFileSync(at, content, { mode: 0o644 })
      history.make(path, 'file', 0o644, { content })
    }
  }
  return history
}

/** Each volume has a journal of its own. */
function split(
  base: Record<VolumeName, Journal['base']>,
  events: readonly Event[],
): Record<VolumeName, Journal> {
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
