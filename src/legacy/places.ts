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

/** A directory that lies in the place of another. */
export interface FoundDirectory extends Stat {
  isEmpty(): boolean
}

/**
 * What came of it. `here`: it is the directory's legacy one from now on; `moved`: the places that the catalog knows have changed;
 * `nothing`: it is another one, with nothing in it; `other`: with something in it that is hidden.
 */
export type Followed = 'here' | 'moved' | 'nothing' | 'other'

/** What the catalog knows of the volume. */
export interface KnownVolume {
  /** Where a directory is: under several names where it was moved past the overlay; and its inode number there. */
  placesOf(directory: bigint): {
    readonly places: Iterable<LegacyPlace>
    readonly legacyIno: bigint | undefined
  }
  /**
   * Another directory lies in the place of one. What the catalog makes of it is told in overlay/moved-directories.ts.
   * @param found its device as the catalog numbers those, as that of what `find` finds
   * @throws FsError where the volume does not say what lies elsewhere
   */
  follow(
    directory: bigint,
    place: LegacyPlace,
    found: FoundDirectory,
    find: (place: LegacyPlace) => Stat | undefined,
  ): Followed
  readonly mounts: KnownMounts
}

/** What the catalog knows of a file or directory of the volume. */
export interface KnownFile {
  readonly ino: bigint
  readonly mode: number
  readonly legacyIno: bigint | undefined
  readonly legacyDev: bigint
}
