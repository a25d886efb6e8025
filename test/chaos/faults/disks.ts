import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pattern } from '../actions.ts'
import { Late, until } from '../world/daemon.ts'
import { type Fault, isChange } from './fault.ts'

const NO_VOLUME = 'the volume is detached'
// How long a writer of the daemon may keep the volume from being made read-only.
const READ_ONLY_MS = 3000
// A change past the overlay is seen once the kernel's attributes have expired (a second).
const SEEN_MS = 20_000

/** No byte more for changes that are on their way to the store, nor for the catalog. */
const stateFull: Fault = {
  name: 'staging-full',
  groups: ['disks'],
  begin: async ({ world }) => world.stateDisk?.fill(),
  end: async ({ world }) => world.stateDisk?.empty(),
  // The catalog learns of a legacy file when it is first looked up, so even a look may find no room.
  excuses: (_policy, _action, errno) => errno === 'ENOSPC',
}

const volumeFull: Fault = {
  name: 'legacy-full',
  groups: ['disks'],
  idleIn: ({ needsLegacy }) => (needsLegacy ? undefined : NO_VOLUME),
  begin: async ({ world }) => world.volume?.fill(),
  end: async ({ world }) => world.volume?.empty(),
  excuses: (policy, action, errno) => policy.writeTo === 'legacy' && errno === 'ENOSPC' && isChange(action),
}

const volumeReadOnly: Fault = {
  name: 'legacy-read-only',
  groups: ['disks'],
  idleIn: ({ needsLegacy }) => (needsLegacy ? undefined : NO_VOLUME),
  async begin({ world, notInjected }) {
    // Files that the worker keeps open for writing would hold the volume; a new worker has none yet.
    await world.daemon.handOver()
    try {
      await until('no writer on the volume', READ_ONLY_MS, async () => {
        try {
          await world.volume?.setReadOnly(true)
          return true
        } catch {
          return false
        }
      })
    } catch (error) {
      if (!(error instanceof Late)) throw error
      notInjected('the volume stayed in use by a writer')
    }
  },
  end: async ({ world }) => world.volume?.setReadOnly(false),
  excuses: (policy, action, errno) =>
    policy.writeTo === 'legacy' &&
    errno === 'EROFS' &&
    // A client holds its files open for reading and writing.
    (isChange(action) || action.do === 'hold'),
}

/** Somebody writes to the volume itself: the newer file wins, and nobody sees a mixture. */
const changedPast: Fault = {
  name: 'changed-past',
  groups: ['disks'],
  idleIn: ({ needsLegacy }) => (needsLegacy ? undefined : NO_VOLUME),
  strikes: 2,
  async strike({ world, phase, changedPast: changed, readPast, notInjected }, nth) {
    const path = `seed/past/${phase}-${nth}`
    const file = join(world.legacy, path)
    if (!existsSync(file)) return notInjected(`${path} has left the volume already`)
    const before = readFileSync(file)
    // With another fault beside this one it may be refused.
    if (!(await readPast(path).catch(() => undefined))) return notInjected(`${path} could not be read before`)
    if (!existsSync(file)) return notInjected(`${path} has left the volume already`)
    const content = pattern(phase * 10 + nth + 7000, nth === 0 ? before.length : before.length + 500)
    writeFileSync(file, content)
    changed(path, content)
    await until(`P1: the change of ${path} past the overlay to be seen`, SEEN_MS, async () => {
      // A read between the two may be refused, never be wrong; the last word is the new content.
      const seen = await readPast(path).catch(() => undefined)
      return seen?.equals(content)
    })
  },
}

export const DISK_FAULTS: readonly Fault[] = [stateFull, volumeFull, volumeReadOnly, changedPast]
