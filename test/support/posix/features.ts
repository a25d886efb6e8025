import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { aclEntries, encodeAcl } from './acl.ts'
import { Agent } from './agent.ts'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_CREAT,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_WHITEOUT,
  S_IFCHR,
  SEEK_HOLE,
} from './constants.ts'
import { SyscallError } from './libc.ts'

/** What the reference (a plain directory) can do, and so what a file system that stands for it has to do. */
export interface Features {
  /** The tests run as root: other users, devices, trusted attributes. */
  root: boolean
  /** Device nodes can be made (no user namespace in the way). */
  devices: boolean
  acl: boolean
  userXattrs: boolean
  trustedXattrs: boolean
  fileCapabilities: boolean
  fallocate: boolean
  punchHole: boolean
  zeroRange: boolean
  /** A hole takes no blocks. */
  sparse: boolean
  /** SEEK_HOLE reports a hole where one is. */
  seekHole: boolean
  renameFlags: boolean
  /** rename leaves a device for overlayfs under the old name. */
  whiteouts: boolean
  /** The link count of a directory is 2 and one for each subdirectory. */
  directoryLinkCounts: boolean
  directIo: boolean
  copyFileRange: boolean
  /** Times keep every nanosecond, and years from 1902 to 2400. */
  nanoseconds: boolean
  farTimes: boolean
}

export const FAR_PAST_NS = -2_140_000_000_123_456_789n
export const FAR_FUTURE_NS = 13_569_465_600_123_456_789n

async function works(call: () => Promise<unknown>): Promise<boolean> {
  try {
    return (await call()) !== false
  } catch (error) {
    if (error instanceof SyscallError) return false
    throw error
  }
}

/** Tries each feature out in a directory. */
async function detectFeatures(scratch: string, agent: Agent): Promise<Features> {
  const { call } = agent
  const at = (name: string) => `${scratch}/${name}`
  await call.writeFile(at('file'), 'x'.repeat(100_000))
  const fd = await call.open(at('file'), O_RDWR)
  const root = process.getuid?.() === 0
  const features: Features = {
    root,
    devices: root && (await works(() => call.mknod(at('device'), S_IFCHR | 0o600, 0x103n))),
    acl: await works(() =>
      call.setxattr(
        at('file'),
        'system.posix_acl_access',
        encodeAcl(aclEntries('rw-', 'r--', '---', { users: { 12: 'r--' }, mask: 'rw-' })),
      ),
    ),
    userXattrs: await works(() => call.setxattr(at('file'), 'user.a', 'b')),
    trustedXattrs: await works(() => call.setxattr(at('file'), 'trusted.a', 'b')),
    fileCapabilities: await works(() => call.setxattr(at('file'), 'security.capability', CAPABILITY_NET_RAW)),
    fallocate: await works(() => call.fallocate(fd, 0, 0, 200_000)),
    punchHole: await works(() => call.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192)),
    zeroRange: await works(() => call.fallocate(fd, FALLOC_FL_ZERO_RANGE, 4096, 8192)),
    sparse: await works(async () => {
      const sparse = await call.open(at('sparse'), O_CREAT | O_RDWR)
      await call.write(sparse, 'x', 64 << 20)
      await call.fsync(sparse)
      return (await call.fstat(sparse)).blocks * 512 < 16 << 20
    }),
    seekHole: await works(async () => {
      const sparse = await call.open(at('holes'), O_CREAT | O_RDWR)
      await call.write(sparse, Buffer.alloc(65_536, 1), 0)
      await call.write(sparse, Buffer.alloc(65_536, 1), 4 << 20)
      return (await call.lseek(sparse, 0, SEEK_HOLE)) === 65_536
    }),
    renameFlags: await works(async () => {
      await call.writeFile(at('other'), '')
      await call.renameat2(at('file'), at('other'), RENAME_EXCHANGE)
    }),
    whiteouts: await works(async () => {
      await call.writeFile(at('covered'), '')
      await call.renameat2(at('covered'), at('uncovered'), RENAME_WHITEOUT)
    }),
    directoryLinkCounts: await works(async () => {
      await call.mkdir(at('directory'))
      await call.mkdir(at('directory/sub'))
      return (await call.stat(at('directory'))).nlink === 3
    }),
    directIo: await works(async () => {
      await call.writeFile(at('direct'), '')
      return (await call.directWrite(at('direct'), Buffer.alloc(4096, 1), 0)) === 4096
    }),
    copyFileRange: await works(async () => {
      const to = await call.open(at('copy'), O_CREAT | O_RDWR)
      return (await call.copyFileRange(fd, 0, to, 0, 1000)) === 1000
    }),
    nanoseconds: await works(async () => {
      await call.utimens(at('file'), 1_000_000_001n, 1_123_456_789_123_456_789n)
      return (await call.stat(at('file'))).mtimeNs === 1_123_456_789_123_456_789n
    }),
    farTimes: await works(async () => {
      await call.utimens(at('file'), FAR_PAST_NS, FAR_FUTURE_NS)
      const { atimeNs, mtimeNs } = await call.stat(at('file'))
      return atimeNs === FAR_PAST_NS && mtimeNs === FAR_FUTURE_NS
    }),
  }
  await call.reset()
  return features
}

/**
 * A security.capability attribute: cap_net_raw (bit 13) permitted and effective, revision 2 (struct vfs_cap_data of
 * linux/capability.h: magic with the effective flag, then two words each of permitted and inheritable).
 */
export const CAPABILITY_NET_RAW = Buffer.from('0100000200200000000000000000000000000000', 'hex')

/** What the reference can do: a directory under the system's temporary one, made and removed for it. */
export async function featuresOfPlainDirectory(): Promise<Features> {
  const agent = new Agent('detection', null)
  const scratch = await mkdtemp(join(tmpdir(), 'posix-features-'))
  try {
    return await detectFeatures(scratch, agent)
  } finally {
    await agent.call.removeTree(scratch)
    await agent.stop()
  }
}
