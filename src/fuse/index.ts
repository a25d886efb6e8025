export type { SessionState } from './kernel/init.ts'
export {
  type KernelMount,
  MountError,
  type MountFailure,
  type MountOptions,
  mountKernel,
  unmountKernel,
} from './kernel/mount.ts'
export { type MountEntry, mountsOf } from './kernel/mountinfo.ts'
export { isStale, type ProbeResult, probeMount } from './kernel/probe.ts'
export { KernelSession, type SessionEnd, type SessionOptions } from './kernel/session.ts'
