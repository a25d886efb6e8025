import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { History, type Moment, type Tree } from '../app/history.ts'
import { bytesOf, resolve, runStep } from '../app/run-step.ts'
import { FILLED, type Script, type Step, show } from '../app/script.ts'
import { compare, type Problem } from '../check/compare.ts'
import type { Journal } from '../disk/journal.ts'
import type { Machine } from '../machine/machine.ts'
import { pass, wait } from '../machine/time.ts'
import { type Daemon, VOLUMES, type VolumeName } from '../product/daemon.ts'
import { Kernel } from '../product/kernel.ts'
import type { Event } from './events.ts'
import { clearAway, layOut, makeRoom, takeCopies } from './lay-out.ts'
import { cachedAfter, imagesIn, journalsOf, live } from './life.ts'
import { replay, type StoreChange } from './logged-store.ts'

const LONG_RUN = { onProgress: () => undefined, signal: new AbortController().signal }
const SETTLE_MS = 120_000

/**
 * `kill -9` right behind an event: of the worker, whom another one follows under the same mount, or of both processes, behind which
 * it is mounted again. The power stays.
 */
export interface Kill {
  readonly at: number
  readonly whose: 'worker' | 'both'
}

/**
 * The recording ended before the event behind which it was to be killed. Times of files are the kernel's, so that a recording
 * made again can be some events shorter.
 */
export class EndedFirst extends Error {
  constructor({ at }: Kill) {
    super(`there is no event ${at} to be killed at`)
  }
}

/** What happened on a machine under one script, in the order in which it happened. */
export interface Recording {
  readonly script: Script
  /** In the order in which they happened. */
  readonly kills: readonly Kill[]
  readonly events: readonly Event[]
  readonly volumes: Readonly<Record<VolumeName, Journal>>
  /** Changes of the store, as the events `store N` number them. */
  readonly storeChanges: readonly StoreChange[]
  readonly history: History
  /** Steps that were carried out, by number. */
  readonly steps: ReadonlyMap<number, string>
  /** What a kill alone has cost. */
  readonly problems: readonly Problem[]
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

/** What applications had asked for, and been told, behind an event. */
export function momentAt(events: readonly Event[], cut: number): Moment {
  let done = -1
  let begun = -1
  for (const { seq, kind, data } of events) {
    if (seq > cut) break
    if (kind !== 'mark') continue
    const [what, number] = data.toString().split(' ')
    if (what === 'begin') begun = Number(number)
    if (what === 'end') done = Number(number)
  }
  return { done, begun }
}

/** How many changes the store had acknowledged by then. */
export function storedAt({ events, before }: Pick<Recording, 'events' | 'before'>, cut: number): number {
  const isChange = ({ seq, kind, data }: Event): boolean =>
    seq <= cut && kind === 'mark' && data.subarray(0, 6).toString() === 'store '
  return (before?.stored ?? 0) + events.filter(isChange).length
}

/**
 * Runs the script on a machine of its own and records it. Behind each kill the daemon starts again on what the page cache has,
 * and the script goes on.
 * @throws EndedFirst
 */
export async function record(
  script: Script,
  machine: Machine,
  kills: readonly Kill[] = [],
): Promise<Recording> {
  const root = join(machine.root, 'recorded')
  machine.renew()
  for (const volume of VOLUMES) mkdirSync(join(root, volume), { recursive: true, mode: 0o700 })
  const history = fill(join(root, 'volume'))
  const base = imagesIn(root)
  const run: Run = { script, machine, history, steps: new Map(), problems: [] }
  const storeChanges: StoreChange[] = []
  let memory = new MemoryStore()
  let events: readonly Event[] = []
  for (const [number, kill] of [...kills, undefined].entries()) {
    const last = kills[number - 1]
    const behind = events
    const given = {
      script,
      machine,
      root,
      mode: last ? undefined : script.mode === 'store-only' ? 'mirror' : script.mode,
      storeChanges,
      memory,
      takesOver: last?.whose === 'worker',
      killAt: kill && kill.at - behind.length,
    } as const
    const life = await live(given, async (daemon) => {
      if (!last) return runScript(daemon, run, 0)
      await goOn(daemon, run, momentAt(behind, last.at), last)
    })
    events = [...behind, ...life.events.map((event) => ({ ...event, seq: event.seq + behind.length }))]
    if (!kill) {
      clearAway(machine, root)
      const volumes = journalsOf(base, events, life.after)
      const { steps, problems } = run
      return { script, kills, events, volumes, storeChanges, history, steps, problems, before: undefined }
    }
    if (events.length !== kill.at + 1) throw new EndedFirst(kill)
    // What was on its way to the store is lost.
    storeChanges.length = storedAt({ events, before: undefined }, kill.at)
    memory = await replay(script.distant ? storeChanges : [])
    const images = cachedAfter(base, events)
    makeRoom(machine, images)
    layOut(images, root, machine, takeCopies(machine))
  }
  throw new Error('a recording without an end')
}

interface Run {
  readonly script: Script
  readonly machine: Machine
  readonly history: History
  readonly steps: Map<number, string>
  readonly problems: Problem[]
}

const stepsOf = ({ mode, steps }: Script): readonly Step[] =>
  mode === 'store-only' ? [{ step: 'migrate' }, { step: 'mode', mode: 'store-only' }, ...steps] : steps

async function runScript(daemon: Daemon, run: Run, from: number): Promise<void> {
  const { script, machine, history, steps } = run
  for (const [index, wanted] of stepsOf(script).slice(from).entries()) {
    // Behind a kill nobody asks any more.
    if (!machine.shim.isRecording) return
    const number = from + index
    const step = resolve(wanted, history)
    machine.shim.mark(`begin ${number}`)
    if (await runStep(daemon, history, number, step)) steps.set(number, show(step))
    machine.shim.mark(`end ${number}`)
  }
}

/**
 * What comes behind a kill. In every other one nobody looks first: a look reads, and what is read has been looked after. An
 * application's step that was cut short is not asked for again, but it has to be known what became of it.
 */
async function goOn(daemon: Daemon, run: Run, moment: Moment, { at }: Kill): Promise<void> {
  const { script, history, problems } = run
  const { done, begun } = moment
  const cutShort = begun > done ? stepsOf(script)[begun] : undefined
  const isApplications = cutShort !== undefined && 'path' in cutShort
  const seen = isApplications || at % 2 === 0 ? await new Kernel(daemon).tree() : undefined
  if (seen) problems.push(...compare(seen, history, { ...moment, isKill: true }))
  if (problems.length > 0) return
  if (cutShort) history.cutShort(begun, seen)
  await runScript(daemon, run, cutShort && !isApplications ? begun : begun + 1)
  if (!run.machine.shim.isRecording) return
  await wait(daemon.engine.settle(SETTLE_MS), 'settle')
  await pass(5000)
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
  const base = imagesIn(root)
  const given = { script: recording.script, machine, root, mode: undefined, storeChanges, memory }
  const life = await live(given, async (daemon) => {
    seen = await new Kernel(daemon).tree()
    machine.shim.mark('seen')
    await wait(daemon.engine.settle(SETTLE_MS), 'settle')
    if ((await daemon.engine.status()).mode !== 'observe') {
      await wait(daemon.engine.migrate({}, LONG_RUN), 'migrate')
      await wait(daemon.engine.settle(SETTLE_MS), 'settle')
    }
    await pass(5000)
  })
  const { events } = life
  const volumes = journalsOf(base, events, life.after)
  return { ...recording, kills: [], events, volumes, storeChanges, before: { moment, stored, seen } }
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
