/**
 * Named places between two durable steps. With FERRYFS_FAULT=<name> the process kills itself there (SIGKILL, as a crash
 * would), once; `name:3` at the third passage. Tests of crash points stop exactly where they mean to, with no timer.
 */
const [armed, nth] = (process.env.FERRYFS_FAULT ?? '').split(':')
let left = Number(nth ?? 1)

/** Where a handler wants to act instead of a kill (deterministic tests without processes). */
let handler: ((name: string) => void) | undefined

export function onFaultPoint(listen: ((name: string) => void) | undefined): void {
  handler = listen
}

/** Does nothing unless this very point is armed. */
export function faultPoint(name: string): void {
  handler?.(name)
  if (armed !== name) return
  left -= 1
  if (left === 0) process.kill(process.pid, 'SIGKILL')
}
