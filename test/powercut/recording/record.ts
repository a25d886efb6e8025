import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { onFaultPoint } from '../../../src/base/faults.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { Random } from '../../support/rig/random.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import type { Mode } from '../../../src/base/modes.ts'
import { History, type Moment, type Tree } from '../app/history.ts'
import { bytesOf, resolve, runStep } from '../app/run-step.ts'
import { FILLED, type Script, type Step, show } from '../app/script.ts'
import { EVERYTHING, Journal } from '../disk/journal.ts'
import { setPace } from '../machine/io.ts'
import type { Machine } from '../machine/machine.ts'
import { pass, wait } from '../machine/time.ts'
import { Daemon, VOLUMES, type VolumeName } from '../product/daemon.ts'
import { Kernel } from '../product/kernel.ts'
import { type Event, readEvents } from './events.ts'
import { DistantStore, replay, type StoreChange } from './logged-store.ts'
import { differencesOf, snapshot } from './snapshot.ts'

const LONG_RUN = { onProgress: () => undefined, signal: new AbortController().signal }
const SETTLE_MS = 120_000

/** What happened on a machine under one script, in the order in which it happened. */
export interface Recording {
  readonly script: Script
  readonly events: readonly Event[]
  readonly volumes: Readonly<Record<VolumeName, Journal>>
  /** Changes of the store, as the events `store N` number them. */
  readonly storeChanges: readonly StoreChange[]
  readonly history: History
  /** Steps that were carried out, by number. */
  readonly steps: ReadonlyMap<number, string>
  /** Of a start after a power cut: what came before it. */
  readonly before: Before | undefined
}

/** Where a machine stood when it started again. */
interface Before {
  /** What applications had asked for and been told, then and ever since. */
  readonly moment: Moment
  /** Changes that the store had. */
  readonly stored: number
  /** What the daemon showed after the start, from the event `seen` on. */
  readonly seen: Tree
}

/** The event with this mark; 0 if there is none. */
export function markAt({ events }: Pick<Recording, 'events'>, mark: string): number {
  const found = events.find(({ kind, data }) => kind === 'mark' && data.toString() === mark)
  return found?.seq ?? 0
}

/** The event with which the mount was there. */
export const mountedAt = (recording: Pick<Recording, 'events'>): number => markAt(recording, 'mounted')

/** Runs the script on a machine of its own and records it. */
export async function record(script: Script, machine: Machine): Promise<Recording> {
  const root = join(machine.root, 'recorded')
  machine.renew()
  for (const volume of VOLUMES) mkdirSync(join(root, volume), { recursive: true, mode: 0o700 })
  const history = fill(join(root, 'volume'))
  const steps = new Map<number, string>()
  const storeChanges: StoreChange[] = []
  const mode = script.mode === 'store-only' ? 'mirror' : script.mode
  const life = await live(
    { script, machine, root, mode, storeChanges, memory: new MemoryStore() },
    (daemon) => runScript(daemon, script, history, steps, machine),
  )
  return { script, ...life, storeChanges, history, steps, before: undefined }
}

async function runScript(
  daemon: Daemon,
  script: Script,
  history: History,
  steps: Map<number, string>,
  { shim }: Machine,
): Promise<void> {
  const leave: readonly Step[] =
    script.mode === 'store-only' ? [{ step: 'migrate' }, { step: 'mode', mode: 'store-only' }] : []
  for (const [number, wanted] of [...leave, ...script.steps].entries()) {
    const step = resolve(wanted, history)
    shim.mark(`begin ${number}`)
    if (await runStep(daemon, history, number, step)) steps.set(number, show(step))
    shim.mark(`end ${number}`)
  }
}

/**
 * Starts the daemon on a crash state that was laid out in the place `recorded`, has it do what it owes, and records
 * that.
 */
export async function recordRecovery(
  recording: Recording,
  machine: Machine,
  moment: Moment,
  stored: number,
): Promise<Recording> {
  const root = join(machine.root, 'recorded')
  const storeChanges = recording.storeChanges.slice(0, stored)
  const memory = await replay(recording.script.distant ? storeChanges : [])
  let seen: Tree = new Map()
  const given = { script: recording.script, machine, root, mode: undefined, storeChanges, memory }
  const life = await live(given, async (daemon) => {
    seen = await new Kernel(daemon).tree()
    machine.shim.mark('seen')
    await wait(daemon.engine.settle(SETTLE_MS), 'settle')
    if (daemon.engine.status().mode !== 'observe') {
      await wait(daemon.engine.migrate({}, LONG_RUN), 'migrate')
      await wait(daemon.engine.settle(SETTLE_MS), 'settle')
    }
    await pass(5000)
  })
  return { ...recording, ...life, storeChanges, before: { moment, stored, seen } }
}

interface Life {
  readonly script: Script
  readonly machine: Machine
  readonly root: string
  readonly mode: Mode | undefined
  /** Grows. */
  readonly storeChanges: StoreChange[]
  /** Of the store on other machines, where the script has one. */
  readonly memory: MemoryStore
}

/** From the start of a daemon to the end of the body. */
async function live(
  { script, machine, root, mode, storeChanges, memory }: Life,
  body: (daemon: Daemon) => Promise<void>,
): Promise<Pick<Recording, 'events' | 'volumes'>> {
  const { shim } = machine
  const log = join(machine.logs, 'recording')
  rmSync(log, { force: true })
  const base = Object.fromEntries(VOLUMES.map((volume) => [volume, snapshot(join(root, volume))]))
  clock.forgetTimers()
  const random = new Random(script.pace)
  const unseeded = Math.random
  Math.random = () => random.next()
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
  let daemon: Daemon | undefined
  const after: Partial<Record<VolumeName, Journal['base']>> = {}
  try {
    daemon = await Daemon.start({ root, mode, inlineLimit, variant, store, onChange })
    shim.mark('mounted')
    await body(daemon)
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
  return { events, volumes }
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
