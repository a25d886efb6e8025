export { MountError, mountKernel, openFuseDevice, unmountKernel } from './kernel/mount.ts'
export { mountsOf } from './kernel/mountinfo.ts'
export { isStale, probeMount } from './kernel/probe.ts'
export { KernelSession, type SessionOptions } from './kernel/session.ts'
