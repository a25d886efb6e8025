import type { Disk } from './disk.ts'

// By descriptor: of the disk that a thread makes the calls on.
const guarded = new Map<number, Disk>()

/** From now on calls on this descriptor are made by the disk's thread. */
export function guard(descriptor: number, disk: Disk | undefined): void {
  if (disk) guarded.set(descriptor, disk)
  else guarded.delete(descriptor)
}

export function diskOf(descriptor: number): Disk | undefined {
  return guarded.get(descriptor)
}
