import { readdirSync, readFileSync } from 'node:fs'
import { isSystemError } from '../../../src/base/errors.ts'

// proc(5): stopped by a signal, waiting for a disk in a system call, gone.
const AT_REST = new Set(['T', 't', 'D', 'Z', 'X'])
const POLL_MS = 2

/**
 * Has processes do nothing more. What a thread of theirs has the kernel do is done, perhaps, but nobody learns of it: nothing
 * that comes after it is begun, and nobody is told.
 */
export async function stop(pids: readonly number[]): Promise<void> {
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  while (!pids.every(isAtRest)) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
}

function isAtRest(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) => AT_REST.has(stateOf(pid, thread)))
}

function stateOf(pid: number, thread: string): string {
  try {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
  } catch (error) {
    // The thread has ended meanwhile.
    if (isSystemError(error)) return 'X'
    throw error
  }
}
