import type { Stat } from '../sys/index.ts'

/** Where a legacy file is: a name in a legacy directory, which is named by the directory's inode in the overlay. */
export interface LegacyPlace {
  readonly parent: bigint
  readonly name: Buffer
}

/** What was mounted at a place: the file system's number in the catalog, and what identifies its root. */
export interface MountedThere {
  readonly device: bigint
  readonly rootIno: bigint
  readonly rootBtimeNs: bigint
}

/** Places below SOURCE where something was mounted, as the catalog keeps them. */
export interface KnownMounts {
  /** Whether there may be one. */
  readonly any: boolean
  at(place: LegacyPlace): MountedThere | undefined
  /** @throws FsError where that cannot be kept now */
  put(place: LegacyPlace, mounted: MountedThere): void
  usesDevice(device: bigint): boolean
}

/** What the catalog knows of the volume. */
export interface KnownVolume {
  /** Where a directory is: under several names where it was moved past the overlay; and its inode number there. */
  placesOf(directory: bigint): {
    readonly places: Iterable<LegacyPlace>
    readonly legacyIno: bigint | undefined
  }
  /**
   * Another directory lies in the place of one. Where the catalog has the authority on that, it is the one with the content that the
   * catalog knows: from now on that is the directory's legacy one. False where it is not.
   * @param stat of what was found, its device as the catalog numbers those
   * @param isThere whether what was found lies at another place (too)
   */
  follow(
    directory: bigint,
    stat: Pick<Stat, 'ino' | 'dev' | 'btimeNs'>,
    isThere: (place: LegacyPlace) => boolean,
  ): boolean
  readonly mounts: KnownMounts
}

/** What the catalog knows of a file or directory of the volume. */
export interface KnownFile {
  readonly ino: bigint
  readonly mode: number
  readonly legacyIno: bigint | undefined
  readonly legacyDev: bigint
}
