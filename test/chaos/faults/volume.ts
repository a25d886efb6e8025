import type { Policy } from '../../../src/base/modes.ts'
import type { Failing } from '../../support/volume/backed-file-system.ts'
import type { Action } from '../actions.ts'
import { until } from '../world/daemon.ts'
import type { Conductor, Fault } from './fault.ts'

const NO_VOLUME = 'the volume is detached'
const BACK_MS = 60_000
const HEALED_MS = 90_000
let probes = 0

/** Files that no client changes: before the fault begins the store has them, where it is read first. */
const isUntouched = (action: Action): boolean => action.do === 'read' && action.path.startsWith('seed/')

/** Whether an EIO may come of a volume that fails. What has moved, or is in the store where that is read first, goes on. */
function excusesVolume(policy: Policy, action: Action, errno: string): boolean {
  if (errno !== 'EIO') return false
  if (policy.readFrom === 'legacy') return true
  return !policy.removesLegacy && !isUntouched(action)
}

const ofVolume: Pick<Fault, 'groups' | 'idleIn' | 'excuses'> = {
  groups: ['volume'],
  idleIn: ({ needsLegacy }) => (needsLegacy ? undefined : NO_VOLUME),
  excuses: excusesVolume,
}

/** The volume says of a name that nobody has whether it is there; nothing else asks it in every mode. */
async function answersAgain({ ask }: Conductor): Promise<void> {
  await until('P4: the legacy volume to be taken up again', BACK_MS, async () => {
    const { errno } = await ask({ do: 'stat', path: `nobody-${probes++}` })
    return errno === 'ENOENT'
  })
}

/** What could not be copied meanwhile is copied without being asked. */
async function healed({ world, policy }: Conductor): Promise<void> {
  if (!policy.copies) return
  await world.daemon.until(
    'P4: what could not be copied to be copied',
    HEALED_MS,
    ({ files }) => files.failed === 0,
  )
}

async function fail({ world }: Conductor, failing: Failing): Promise<void> {
  await world.weakVolume?.fail(failing)
}

/** Sectors that cannot be read nor written; names and attributes can. Files are in the middle of being moved. */
const contentFails: Fault = {
  ...ofVolume,
  name: 'legacy-content-eio',
  excuses: (policy, action, errno) =>
    excusesVolume(policy, action, errno) || (policy.removesLegacy && errno === 'EIO'),
  async begin(conductor) {
    if (conductor.policy.readFrom === 'store' && !conductor.policy.removesLegacy) await conductor.moved()
    await fail(conductor, 'content')
  },
  async end(conductor) {
    await fail(conductor, 'nothing')
    await healed(conductor)
  },
}

const everythingFails: Fault = {
  ...ofVolume,
  name: 'legacy-eio',
  async begin(conductor) {
    if (conductor.policy.readFrom === 'store') await conductor.moved()
    await fail(conductor, 'everything')
  },
  async end(conductor) {
    await fail(conductor, 'nothing')
    await answersAgain(conductor)
    await healed(conductor)
  },
}

/** Its server is dead and its mount taken away, and then it is mounted again. */
const gone: Fault = {
  ...ofVolume,
  name: 'legacy-gone',
  async begin(conductor) {
    if (conductor.policy.readFrom === 'store') await conductor.moved()
    await conductor.world.weakVolume?.remove()
  },
  async end(conductor) {
    await conductor.world.weakVolume?.start()
    await answersAgain(conductor)
    await healed(conductor)
  },
}

/** Its server does not answer, and then goes on. */
const hangs: Fault = {
  ...ofVolume,
  name: 'legacy-hang',
  async begin(conductor) {
    if (conductor.policy.readFrom === 'store') await conductor.moved()
    conductor.world.weakVolume?.hang()
  },
  async end(conductor) {
    conductor.world.weakVolume?.goOn()
    await answersAgain(conductor)
    await healed(conductor)
  },
}

export const VOLUME_FAULTS: readonly Fault[] = [contentFails, everythingFails, gone, hangs]
