import { DISK_FAULTS } from './disks.ts'
import type { Fault } from './fault.ts'
import { NETWORK_FAULTS } from './network.ts'
import { PROCESS_FAULTS } from './processes.ts'

export const FAULTS: readonly Fault[] = [...NETWORK_FAULTS, ...PROCESS_FAULTS, ...DISK_FAULTS]

/** What the report has to say was left out, and why. */
export const NOT_COVERED: readonly { readonly fault: string; readonly why: string }[] = [
  {
    fault: 'legacy-eio',
    why: 'needs a block device that fails on demand (device mapper)',
  },
  {
    fault: 'clock-step',
    why: 'the wall clock belongs to the whole machine; a step would hit everything else that runs there',
  },
]

export function faultNamed(name: string): Fault | undefined {
  return FAULTS.find((fault) => fault.name === name)
}
