import { statfsSync } from 'node:fs'

export interface VolumeSpace {
  readonly blocks: bigint
  readonly bfree: bigint
  readonly bavail: bigint
  readonly files: bigint
  readonly ffree: bigint
  readonly bsize: number
  /** f_type: magic number of the file system, statfs(2). */
  readonly type: bigint
}

/** Space of the volume that holds an open file or directory. */
export function spaceOf(descriptor: number): VolumeSpace {
  return spaceOfPath(`/proc/self/fd/${descriptor}`)
}

/** Space of the volume that holds a path. */
export function spaceOfPath(path: string): VolumeSpace {
  const space = statfsSync(path, { bigint: true })
  return {
    blocks: space.blocks,
    bfree: space.bfree,
    bavail: space.bavail,
    files: space.files,
    ffree: space.ffree,
    bsize: Number(space.bsize),
    type: space.type,
  }
}
