import { readlinkSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { MOUNT_TYPE } from '../daemon/mount-drivers.ts'
import { type Registration, supervisorAlive } from '../daemon/registry.ts'
import { mountsOf } from '../fuse/kernel/mountinfo.ts'

const LOOK_EVERY_MS = 20

/** Whether the daemon runs and nothing of it is mounted: it has been unmounted and ends, or begins. */
export function isLeaving(registration: Registration): boolean {
  if (!supervisorAlive(registration) || !sharesMounts(registration.supervisorPid)) return false
  return mountsOf(registration.target).at(-1)?.type !== MOUNT_TYPE
}

/** Whether it ends in time; from then on the same directories can be mounted again. */
export async function hasEnded(
  registration: Registration,
  timeoutMs: number,
  isThere: (registration: Registration) => boolean = supervisorAlive,
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (isThere(registration)) {
    if (performance.now() > deadline) return false
    await delay(LOOK_EVERY_MS)
  }
  return true
}

/** What is mounted in another mount namespace is not seen from here. */
function sharesMounts(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`) === readlinkSync('/proc/self/ns/mnt')
  } catch {
    return false
  }
}
