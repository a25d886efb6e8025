import { readFileSync } from 'node:fs'

/**
 * Identifies a process beyond its number, which the kernel uses again: its start in clock ticks since boot (field 22 of
 * /proc/<pid>/stat, proc(5)). Undefined if there is no such process, or only its zombie; one whose other threads are still
 * dying (field 20) has not let go of its files and locks.
 */
export function startTicks(pid: number): number | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The command in field 2 may hold spaces and parentheses; the fields after it do not.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const dead = fields[0] === 'Z' || fields[0] === 'X'
  return dead && Number(fields[17]) <= 1 ? undefined : Number(fields[19])
}

export function isRunning(pid: number, ticks: number): boolean {
  return startTicks(pid) === ticks
}

/** Node 22 announces node:sqlite and the stripping of types on standard error, where our own lines belong. */
export const NODE_FLAGS: readonly string[] = ['--disable-warning=ExperimentalWarning']
