import koffi from 'koffi'

// linux/prctl.h
const PR_SET_PDEATHSIG = 1
const SIGKILL = 9

/**
 * Has the kernel kill this process when its parent dies, whatever the event loop is busy with: a worker without its
 * supervisor must not serve on. Only a second net under the closed IPC channel, so a libc without prctl(2) is no error.
 */
export function dieWithParent(): void {
  try {
    const prctl: (option: number, signal: bigint, a: bigint, b: bigint, c: bigint) => number = koffi
      .load(null)
      .func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)')
    prctl(PR_SET_PDEATHSIG, BigInt(SIGKILL), 0n, 0n, 0n)
  } catch {
    // The IPC channel tells.
  }
}
