import { statfsSync } from 'node:fs'
import { check, declare } from './library.ts'

const fstatfsCall = declare('int fstatfs(int, void *)')

// struct statfs of the 64-bit architectures (asm-generic/statfs.h).
const buffer = Buffer.alloc(120)

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

/** f_fsid of statfs(2): on ext2 to ext4 made of the file system's UUID, on others of whatever the kernel likes. @throws FsError */
export function fileSystemId(descriptor: number): bigint {
  check(fstatfsCall(descriptor, buffer), 'fstatfs')
  return buffer.readBigUInt64LE(56)
}

/** Space of the volume that holds an open file or directory. @throws FsError */
export function spaceOf(descriptor: number): VolumeSpace {
  check(fstatfsCall(descriptor, buffer), 'fstatfs')
  return {
    type: buffer.readBigInt64LE(0),
    bsize: Number(buffer.readBigInt64LE(8)),
    blocks: buffer.readBigUInt64LE(16),
    bfree: buffer.readBigUInt64LE(24),
    bavail: buffer.readBigUInt64LE(32),
    files: buffer.readBigUInt64LE(40),
    ffree: buffer.readBigUInt64LE(48),
  }
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
