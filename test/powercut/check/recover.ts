import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf } from '../../../src/base/errors.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import type { Moment, Tree } from '../app/history.ts'
import { type CrashState, drawVolume } from '../disk/draw.ts'
import type { VolumeImage } from '../disk/image.ts'
import { filesOf, materialise } from '../disk/materialise.ts'
import type { Machine } from '../machine/machine.ts'
import { Daemon, VOLUMES } from '../product/daemon.ts'
import { DistantStore, replay } from '../recording/logged-store.ts'
import type { Recording } from '../recording/record.ts'
import { compare, type Problem } from './compare.ts'
import { checkRebuilt, checkStoreAlone, copyOfEmbedded, copyOfStore } from './rebuilt.ts'
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
  const { shim } = machine
  const root = join(machine.root, 'crashed')
  rmSync(root, { recursive: true, force: true })
  mkdirSync(root)
  const images = VOLUMES.map((volume, index) => drawVolume(recording.volumes[volume], state, index))
  shim.show(machine.root, 2 * images.reduce((sum, image) => sum + filesOf(image), 0))
  machine.boot()
  clock.forgetTimers()
  try {
    const alone = await checkAlone(recording, state, machine, images[VOLUMES.indexOf('store')])
    if (alone.length > 0) return { problems: alone, log: [] }
    for (const [index, volume] of VOLUMES.entries()) {
      const image = images[index]
      if (image) materialise(image, join(root, volume), shim)
    }
    const store = await storeAt(recording, state.cut)
    const checked = await check(recording, momentOf(recording, state.cut), { root, store })
    if (checked.problems.length > 0 || !checked.settled || !isRebuilt(state, 'afterwards')) return checked
    const memory = store ? await copyOfStore(store) : await copyOfEmbedded(join(root, 'store', 'ns'))
    const place = { root: join(machine.root, 'rebuilt'), inlineLimit: recording.script.inlineLimit }
    return { problems: await checkRebuilt(memory, place, checked.settled), log: [] }
  } finally {
    clock.forgetTimers()
    shim.show(machine.root, 0)
    rmSync(root, { recursive: true, force: true })
  }
}

/** One state in five is tried without its state directory, too: from the store at the cut, and from that at the end. */
function isRebuilt({ seed }: CrashState, when: 'at once' | 'afterwards'): boolean {
  return seed % 5 === (when === 'at once' ? 0 : 1)
}

async function checkAlone(
  recording: Recording,
  state: CrashState,
  machine: Machine,
  image: VolumeImage | undefined,
): Promise<Problem[]> {
  const { script, history } = recording
  if (!isRebuilt(state, 'at once') || !image) return []
  const moment = momentOf(recording, state.cut)
  if (history.storedBefore(moment) === undefined) return []
  const place = { root: join(machine.root, 'rebuilt'), inlineLimit: script.inlineLimit }
  const distant = await storeAt(recording, state.cut)
  if (distant) return checkStoreAlone(await copyOfStore(distant), place, history, moment)
  const own = join(machine.root, 'store-alone')
  rmSync(own, { recursive: true, force: true })
  materialise(image, own, machine.shim)
  try {
    return await checkStoreAlone(await copyOfEmbedded(join(own, 'ns')), place, history, moment)
  } catch (error) {
    return [{ kind: 'store alone', path: '/', detail: reasonOf(error) }]
  } finally {
    rmSync(own, { recursive: true, force: true })
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
): Promise<Checked & { readonly settled?: Tree | undefined }> {
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
    const served = await checkServing(daemon, root, (seen) => compare(seen, history, moment))
    return { ...served, log: log() }
  } catch (error) {
    const detail = error instanceof Error ? `${error.name}: ${reasonOf(error)}` : String(error)
    return { problems: [{ kind: 'request', path: '/', detail: `${daemon.asked}: ${detail}` }], log: log() }
  } finally {
    await daemon.stop()
  }
}
