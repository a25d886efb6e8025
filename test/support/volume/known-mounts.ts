import type { KnownMounts, LegacyPlace, MountedThere } from '../../../src/legacy/index.ts'

/** What is known of mounts below a volume, in memory. */
export class MadeMounts implements KnownMounts {
  readonly places = new Map<string, MountedThere>()

  get any(): boolean {
    return this.places.size > 0
  }

  at(place: LegacyPlace): MountedThere | undefined {
    return this.places.get(keyOf(place))
  }

  put(place: LegacyPlace, mounted: MountedThere): void {
    this.places.set(keyOf(place), mounted)
  }

  usesDevice(device: bigint): boolean {
    return [...this.places.values()].some((mounted) => mounted.device === device)
  }
}

const keyOf = ({ parent, name }: LegacyPlace): string => `${parent}/${name.toString('latin1')}`
