import { existsSync, rmSync, writeFileSync } from 'node:fs'
import type { Action } from '../actions.ts'
import { until } from '../world/daemon.ts'
import type { Conductor, Fault } from './fault.ts'
import { FAULT_POINTS } from './points.ts'

// Deaths in a row that the supervisor takes without making the next worker wait; a hand-over begins the count anew.
const KILLS_AT_ONCE = 3
const FIRE_MS = 60_000

const killWorker: Fault = {
  name: 'kill-worker',
  groups: ['processes'],
  strikes: 3,
  strike: ({ world }) => world.daemon.killWorker(),
}

const handOver: Fault = {
  name: 'hand-over',
  groups: ['processes'],
  strikes: 1,
  strike: ({ world }) => world.daemon.handOver(),
}

/** What passes every fault point that the mode has; all of it on names of its own. */
function recipe(round: number): Action[] {
  const [one, two, three, dir] = [`p${round}`, `p${round}-2`, `p${round}-3`, `p${round}-d`]
  return [
    { do: 'write', path: one, offset: 0, length: 30_000, seed: round + 1, exclusive: true },
    { do: 'chmod', path: one, mode: 0o640 },
    { do: 'xattr', path: one, value: `round ${round}` },
    { do: 'link', from: one, to: two },
    { do: 'rename', from: two, to: three },
    { do: 'truncate', path: one, size: 12_345 },
    { do: 'unlink', path: three },
    { do: 'utimes', path: one, seconds: 1_000_000_000 + round },
    { do: 'symlink', path: three, target: one },
    { do: 'unlink', path: three },
    { do: 'mkdir', path: dir, mode: 0o750 },
    { do: 'rmdir', path: dir },
    { do: 'write', path: two, offset: 100, length: 5000, seed: round + 2, fsync: true },
    { do: 'hold', path: two, slot: 0 },
    { do: 'unlink', path: two },
    { do: 'readHeld', slot: 0, offset: 0, length: 8000 },
    { do: 'release', slot: 0 },
    { do: 'read', path: one, offset: 0, length: 40_000, direct: true },
    { do: 'list', path: '' },
  ]
}

/** One point after the other, half of them (each takes a second or two, and there are dozens): armed, passed by what a client does, and the kill waited for. */
const killAtPoints: Fault = {
  name: 'kill-at-points',
  groups: ['processes'],
  strikes: 1,
  async strike(conductor) {
    let kills = 0
    const { half } = conductor.world.settings
    for (const [round, point] of FAULT_POINTS.entries()) {
      if (round % 2 !== half) continue
      if (!(await killAt(conductor, point, round))) continue
      conductor.note(point)
      kills += 1
      if (kills % KILLS_AT_ONCE === 0) await conductor.world.daemon.handOver()
    }
  },
  end: async ({ world }) => rmSync(world.faultFile, { force: true }),
}

async function killAt(conductor: Conductor, point: string, round: number): Promise<boolean> {
  const { world, mode } = conductor
  const { daemon, faultFile } = world
  const { workerStarts } = await daemon.status()
  writeFileSync(faultFile, point)
  for (const action of recipe(round)) await conductor.perform(action)
  // A legacy file of this phase: what reads and drains it passes the points of copying and removing.
  if (!point.startsWith('overlay.')) await conductor.readPast(`seed/points/${round}`).catch(() => undefined)
  const quiet = await until(`the fault point ${point}, or nothing left to do`, FIRE_MS, async () => {
    if (!existsSync(faultFile)) return 'fired'
    const { outbox, files } = await daemon.status()
    const waits = mode === 'observe' ? 0 : outbox.length + files.dirty
    return waits === 0 && !(await mayStillReap(conductor, point, round)) ? 'not reached' : undefined
  })
  if (quiet === 'fired') {
    await daemon.until('the next worker', FIRE_MS, (report) => report.workerStarts > workerStarts)
    return true
  }
  rmSync(faultFile, { force: true })
  return false
}

/** The reaper comes round by itself: while the legacy copy that was read is there, and may go, it has yet to pass. */
async function mayStillReap({ world, policy }: Conductor, point: string, round: number): Promise<boolean> {
  return (
    policy.removesLegacy &&
    point.startsWith('migration.') &&
    existsSync(`${world.legacy}/seed/points/${round}`)
  )
}

const killBoth: Fault = {
  name: 'kill-both',
  groups: ['processes'],
  strikes: 1,
  strike: (conductor) =>
    conductor.remounting(async () => {
      await conductor.world.daemon.killBoth()
      await conductor.world.daemon.mount(undefined)
    }),
}

const terminate: Fault = {
  name: 'terminate',
  groups: ['processes'],
  strikes: 1,
  strike: (conductor) =>
    conductor.remounting(async () => {
      await conductor.world.daemon.terminate()
      await conductor.world.daemon.mount(undefined)
    }),
}

/** Another daemon that claims the namespace has to be turned away, and the one that has it must not notice. */
const secondDaemon: Fault = {
  name: 'second-daemon',
  groups: ['processes'],
  strikes: 1,
  async strike({ world }) {
    const intruder = world.intruder()
    let refused = false
    try {
      await intruder.mount('drain')
    } catch {
      refused = true
    }
    if (!refused) throw new Error('P2: a second daemon was let into the namespace')
  },
}

export const PROCESS_FAULTS: readonly Fault[] = [
  killWorker,
  handOver,
  killBoth,
  terminate,
  secondDaemon,
  killAtPoints,
]
