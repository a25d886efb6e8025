import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf } from '../../../src/base/errors.ts'
import type { KeyValueStore } from '../../../src/store/contract.ts'
import { turns } from '../../support/rig/clock.ts'
import type { Moment, Tree } from '../app/history.ts'
import { type CrashState, drawVolume } from '../disk/draw.ts'
import type { VolumeImage } from '../disk/image.ts'
import { materialise } from '../disk/materialise.ts'
import type { Machine } from '../machine/machine.ts'
import { Daemon, VOLUMES } from '../product/daemon.ts'
import { DistantStore, replay } from '../recording/logged-store.ts'
import { clearAway, layOut, makeRoom } from '../recording/lay-out.ts'
import { markAt, momentAt, type Recording, recordRecovery, storedAt } from '../recording/record.ts'
import { differencesOf, snapshot } from '../recording/snapshot.ts'
import { behind, destructionsOf } from '../run/destructions.ts'
import { compare, type Problem } from './compare.ts'
import { checkMounted } from './mounted.ts'
import { checkRebuilt, checkStoreAlone, copyOfEmbedded, copyOfStore } from './rebuilt.ts'
import { checkServing, differences } from './serving.ts'

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
  const images = imagesOf(recording, state)
  begin(machine, images)
  try {
    const alone = await checkAlone(recording, state, machine, images[VOLUMES.indexOf('store')])
    if (alone.length > 0) return { problems: alone, log: [] }
    layOut(images, root, machine)
    const store = await storeAt(recording, state.cut)
    const checked = await check(recording, state.cut, { root, store })
    if (checked.problems.length > 0 || !checked.settled || !isRebuilt(recording, state, 'afterwards'))
      return checked
    const memory = store ? await copyOfStore(store) : await copyOfEmbedded(join(root, 'store', 'ns'))
    const place = { root: join(machine.root, 'rebuilt'), inlineLimit: recording.script.inlineLimit }
    return { problems: await checkRebuilt(memory, place, checked.settled), log: [] }
  } finally {
    clearAway(machine, root)
  }
}

/** The same with the product as it is shipped, in its own processes; its store is the embedded one. */
export function mountAndCheck(recording: Recording, state: CrashState, machine: Machine): Checked {
  const { script } = recording
  const root = join(machine.root, 'recorded')
  begin(machine, imagesOf(recording, state))
  try {
    layOut(imagesOf(recording, state), root, machine)
    const place = { root, machine }
    const problems = checkMounted(script, place, (seen) => compareSeen(seen, recording, state.cut))
    const isReadonly = script.variant === 'source-readonly' && problems.length === 0
    return { problems: isReadonly ? sourceTouched(recording, root) : problems, log: [] }
  } finally {
    clearAway(machine, root)
  }
}

/** The start of the product on a crash state that it serves from, recorded: the power can be cut once more. */
export async function recover(recording: Recording, state: CrashState, machine: Machine): Promise<Recording> {
  const root = join(machine.root, 'recorded')
  const images = imagesOf(recording, state)
  begin(machine, images)
  try {
    layOut(images, root, machine)
    const stored = storedAt(recording, state.cut)
    return await recordRecovery(recording, machine, momentOf(recording, state.cut), stored)
  } finally {
    clearAway(machine, root)
  }
}

const imagesOf = ({ volumes }: Recording, state: CrashState): VolumeImage[] =>
  VOLUMES.map((volume, index) => drawVolume(volumes[volume], state, index, VOLUMES.length))

function begin(machine: Machine, images: readonly VolumeImage[]): void {
  makeRoom(machine, images)
  machine.boot()
}

/**
 * One state in five is tried without its state directory, too, from the store at the cut and from that at the end; and each one
 * behind a change of what leads to files.
 */
function isRebuilt(recording: Recording, { cut, seed }: CrashState, when: 'at once' | 'afterwards'): boolean {
  const what = behind(destructionsOf(recording), cut)
  const isRecord = what === 'record replaced' || what === 'name left its record'
  return when === 'at once' ? isRecord || seed % 5 === 0 : seed % 5 === 1
}

async function checkAlone(
  recording: Recording,
  state: CrashState,
  machine: Machine,
  image: VolumeImage | undefined,
): Promise<Problem[]> {
  const { script, history, before } = recording
  if (!isRebuilt(recording, state, 'at once') || !image) return []
  const moment = momentOf(recording, state.cut)
  if (history.storedBefore(moment) === undefined) return []
  const place = { root: join(machine.root, 'rebuilt'), inlineLimit: script.inlineLimit }
  const known = { history, moment, seen: before?.seen }
  const distant = await storeAt(recording, state.cut)
  if (distant) return checkStoreAlone(await copyOfStore(distant), place, known)
  const own = join(machine.root, 'store-alone')
  rmSync(own, { recursive: true, force: true })
  materialise(image, own, machine.shim)
  try {
    return await checkStoreAlone(await copyOfEmbedded(join(own, 'ns')), place, known)
  } catch (error) {
    return [{ kind: 'store alone', path: '/', detail: reasonOf(error) }]
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}

/** The store on other machines at the moment of the cut. */
async function storeAt(recording: Recording, cut: number): Promise<KeyValueStore | undefined> {
  if (!recording.script.distant) return undefined
  const memory = await replay(recording.storeChanges.slice(0, storedAt(recording, cut)))
  return new DistantStore(
    memory,
    () => undefined,
    () => turns(1),
  )
}

/** What applications had asked for, and been told, when the power went. */
export const momentOf = ({ events, before }: Recording, cut: number): Moment =>
  before?.moment ?? momentAt(events, cut)

async function check(
  recording: Recording,
  cut: number,
  { root, store }: { root: string; store: KeyValueStore | undefined },
): Promise<Checked & { readonly settled?: Tree | undefined }> {
  const { inlineLimit, variant } = recording.script
  let daemon: Daemon
  try {
    daemon = await Daemon.start({ root, mode: undefined, inlineLimit, variant, store })
  } catch (error) {
    return { problems: [{ kind: 'start', path: '/', detail: reasonOf(error) }], log: [] }
  }
  const log = (): string[] =>
    daemon.logged
      .filter(({ level }) => level !== 'info')
      .map(({ level, msg, err }) => `${level} ${msg}${err ? ` (${err.message})` : ''}`)
  try {
    const place = { root, isReadonly: variant === 'source-readonly' }
    const served = await checkServing(daemon, place, (seen) => compareSeen(seen, recording, cut))
    const touched = served.problems.length === 0 && place.isReadonly ? sourceTouched(recording, root) : []
    return { ...served, problems: [...served.problems, ...touched], log: log() }
  } catch (error) {
    const detail = error instanceof Error ? `${error.name}: ${reasonOf(error)}` : String(error)
    return { problems: [{ kind: 'request', path: '/', detail: `${daemon.asked}: ${detail}` }], log: log() }
  } finally {
    await daemon.stop()
  }
}

/** After a second cut it is also what was shown before that. */
function compareSeen(seen: Tree, recording: Recording, cut: number): Problem[] {
  const { history, before } = recording
  const problems = compare(seen, history, momentOf(recording, cut))
  if (problems.length > 0 || !before || cut < markAt(recording, 'seen')) return problems
  return differences(before.seen, seen).map((problem) => ({ ...problem, kind: 'shown otherwise before' }))
}

/** `--source-readonly`: nothing on the volume is other than it was. */
function sourceTouched({ volumes }: Recording, root: string): Problem[] {
  const touched = differencesOf(volumes.volume.base, snapshot(join(root, 'volume')))
  return touched.map((detail) => ({ kind: 'source touched', path: '/', detail }))
}
