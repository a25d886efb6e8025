import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf } from '../../../src/base/errors.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import type { Moment } from '../app/history.ts'
import { type CrashState, drawVolume } from '../disk/draw.ts'
import { filesOf, materialise } from '../disk/materialise.ts'
import type { Machine } from '../machine/machine.ts'
import { Daemon, VOLUMES } from '../product/daemon.ts'
import { DistantStore, replay } from '../recording/logged-store.ts'
import type { Recording } from '../recording/record.ts'
import { compare, type Problem } from './compare.ts'
import { checkServing } from './serving.ts'

export interface Checked {
  readonly problems: readonly Problem[]
  /** What the product logged, warnings and worse. */
  readonly log: readonly string[]
}

/** Lays the crash state out, starts the product on it and says what is wrong. */
export async function recoverAndCheck(
  recording: Recording,
  state: CrashState,
  machine: Machine,
): Promise<Checked> {
  const root = join(machine.root, 'crashed')
  rmSync(root, { recursive: true, force: true })
  mkdirSync(root)
  const images = VOLUMES.map((volume, index) => drawVolume(recording.volumes[volume], state, index))
  machine.shim.show(
    machine.root,
    images.reduce((sum, image) => sum + filesOf(image), 0),
  )
  for (const [index, volume] of VOLUMES.entries()) {
    const image = images[index]
    if (image) materialise(image, join(root, volume), machine.shim)
  }
  machine.boot()
  clock.forgetTimers()
  try {
    const store = await storeAt(recording, state.cut)
    return await check(recording, momentOf(recording, state.cut), { root, store })
  } finally {
    clock.forgetTimers()
    machine.shim.show(machine.root, 0)
    rmSync(root, { recursive: true, force: true })
  }
}

/** The store on other machines at the moment of the cut. */
async function storeAt(
  { script, events, storeChanges }: Recording,
  cut: number,
): Promise<KeyValueStore | undefined> {
  if (!script.distant) return undefined
  let count = 0
  for (const { seq, kind, data } of events) {
    if (seq > cut) break
    if (kind === 'mark' && data.subarray(0, 6).toString() === 'store ') count += 1
  }
  const memory = count === 0 ? new MemoryStore() : await replay(storeChanges.slice(0, count))
  return new DistantStore(
    memory,
    () => undefined,
    () => turns(1),
  )
}

/** What applications had asked for, and been told, when the power went. */
export function momentOf({ events }: Recording, cut: number): Moment {
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

async function check(
  { script, history }: Recording,
  moment: Moment,
  { root, store }: { root: string; store: KeyValueStore | undefined },
): Promise<Checked> {
  let daemon: Daemon
  try {
    daemon = await Daemon.start({ root, mode: undefined, inlineLimit: script.inlineLimit, store })
  } catch (error) {
    return { problems: [{ kind: 'start', path: '/', detail: reasonOf(error) }], log: [] }
  }
  const log = (): string[] =>
    daemon.logged
      .filter(({ level }) => level !== 'info')
      .map(({ level, msg, err }) => `${level} ${msg}${err ? ` (${err.message})` : ''}`)
  try {
    const problems = await checkServing(daemon, root, (seen) => compare(seen, history, moment))
    return { problems, log: log() }
  } catch (error) {
    const detail = error instanceof Error ? `${error.name}: ${reasonOf(error)}` : String(error)
    return { problems: [{ kind: 'request', path: '/', detail }], log: log() }
  } finally {
    await daemon.stop()
  }
}
