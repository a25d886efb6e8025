import type { Stat } from '../sys/index.ts'
import type { KnownMounts, LegacyPlace, MountedThere } from './places.ts'

// Above all device numbers of the kernel, which have 32 bits.
const FIRST_FREE_NUMBER = 1n << 40n

/**
 * The file systems that are mounted below SOURCE. A kernel numbers devices anew at each boot (sdb and sdc change places; btrfs, NFS and
 * tmpfs get whatever is free), so the catalog's numbers are its own: a file system is the one of before where the same
 * root, by inode number and birth, is mounted at the same place. SOURCE's own number is 0.
 */
export class FileSystems {
  readonly #mounts: KnownMounts
  /** Numbers in the catalog by the kernel's. */
  readonly #numbers: Map<bigint, bigint>

  constructor(root: Stat, mounts: KnownMounts) {
    this.#mounts = mounts
    this.#numbers = new Map([[root.dev, 0n]])
  }

  /** The catalog's number of the device that the file is on. */
  deviceOf({ dev }: Pick<Stat, 'dev'>): bigint {
    return this.#numbers.get(dev) ?? dev
  }

  /** Whether something was mounted there, when that was looked at last. */
  wasMounted(place: LegacyPlace): boolean {
    return this.#mounts.any && this.#mounts.at(place) !== undefined
  }

  /** Whoever sees a file of the volume tells: where something is mounted, that is noted. @throws FsError as the catalog has it */
  seen(place: LegacyPlace, stat: Stat): void {
    if (!stat.isMountRoot && this.#numbers.has(stat.dev)) return
    const known = this.#mounts.at(place)
    const number = this.#numbers.get(stat.dev) ?? this.#numberFor(stat, known)
    this.#numbers.set(stat.dev, number)
    const isNoted =
      known?.device === number && known.rootIno === stat.ino && known.rootBtimeNs === stat.btimeNs
    if (isNoted) return
    this.#mounts.put(place, { device: number, rootIno: stat.ino, rootBtimeNs: stat.btimeNs })
  }

  #numberFor(stat: Stat, known: MountedThere | undefined): bigint {
    const taken = new Set(this.#numbers.values())
    if (known && isSameRoot(known, stat) && !taken.has(known.device)) return known.device
    let number = stat.dev
    for (let free = FIRST_FREE_NUMBER; taken.has(number) || this.#mounts.usesDevice(number); free += 1n)
      number = free
    return number
  }
}

/** Where there is no time of birth, or none was noted, the kernel's number of the device has to do. */
function isSameRoot({ device, rootIno, rootBtimeNs }: MountedThere, { dev, ino, btimeNs }: Stat): boolean {
  if (rootBtimeNs === 0n || btimeNs === 0n) return device === dev
  return rootIno === ino && rootBtimeNs === btimeNs
}
