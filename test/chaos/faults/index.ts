import { CLOCK_FAULTS } from './clock.ts'
import { combined } from './combined.ts'
import { DISK_FAULTS } from './disks.ts'
import type { Fault } from './fault.ts'
import { HOSTILE_FAULTS } from './hostile.ts'
import { NETWORK_FAULTS } from './network.ts'
import { POWER_FAULTS } from './power.ts'
import { PROCESS_FAULTS } from './processes.ts'
import { VOLUME_FAULTS } from './volume.ts'

export const FAULTS: readonly Fault[] = [
  ...NETWORK_FAULTS,
  ...PROCESS_FAULTS,
  ...HOSTILE_FAULTS,
  ...DISK_FAULTS,
  ...VOLUME_FAULTS,
  ...CLOCK_FAULTS,
  ...POWER_FAULTS,
]

const byName = new Map(FAULTS.map((fault) => [fault.name, fault]))

/** A fault by its name, or several at once by theirs with `+` between them. */
export function faultNamed(name: string): Fault | undefined {
  const known = byName.get(name)
  if (known) return known
  const parts = name.split('+').map((part) => byName.get(part))
  if (parts.length < 2 || !parts.every((part) => part !== undefined)) return undefined
  const made = combined(parts)
  byName.set(name, made)
  return made
}
