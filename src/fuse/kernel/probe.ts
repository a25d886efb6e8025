import { spawn } from 'node:child_process'
import { mountsOf } from './mountinfo.ts'

/** What a mount point does when it is asked something. */
type ProbeResult =
  /** It answers. */
  | 'answers'
  /** Its server is dead: ENOTCONN. To be detached. */
  | 'stale'
  /** No answer in time: its server hangs, or is being replaced. */
  | 'silent'
  /** Nothing is mounted there. */
  | 'absent'

const DEFAULT_DEADLINE_MS = 5000

// Prints the error code, or nothing. Not stat(2): the kernel answers that for a dead server too, out of its cache, as long
// as the attributes of the root are good for; statfs(2) it always asks the server.
const PROBE = 'try{require("fs").statfsSync(process.argv[1])}catch(e){process.stdout.write(String(e.code))}'

/**
 * Asks a mount point for its space, from a child process: this one may be the one that serves it, and a call that
 * hangs could not be taken back. The child that hangs is killed, and not waited for.
 */
export function probeMount(target: string, deadlineMs: number = DEFAULT_DEADLINE_MS): Promise<ProbeResult> {
  if (mountsOf(target).length === 0) return Promise.resolve('absent')
  const { promise, resolve } = Promise.withResolvers<ProbeResult>()
  const child = spawn(process.execPath, ['-e', PROBE, target], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: {},
  })
  const deadline = setTimeout(() => {
    child.kill('SIGKILL')
    child.stdout.destroy()
    child.unref()
    resolve('silent')
  }, deadlineMs)
  let code = ''
  child.stdout.on('data', (chunk: Buffer) => {
    code += chunk.toString()
  })
  child.on('error', () => {
    clearTimeout(deadline)
    resolve('silent')
  })
  child.on('close', () => {
    clearTimeout(deadline)
    resolve(code === 'ENOTCONN' ? 'stale' : 'answers')
  })
  return promise
}

/** Whether a mount is there whose server is dead. Never blocks; says no where nothing answers in time. */
export async function isStale(target: string, deadlineMs?: number): Promise<boolean> {
  return (await probeMount(target, deadlineMs)) === 'stale'
}
