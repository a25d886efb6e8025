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

/**
 * Of a process that goes through a whole tree. What lives in it is 20 to 40 MiB. Left to itself, Node keeps as much garbage as a large
 * machine has room for: 128 MiB of what died young, and twice of what is old.
 */
export const HEAP_FLAGS: readonly string[] = ['--max-semi-space-size=8', '--heap-growing-percent=25']

/** With an arena for every thread of the pool, glibc keeps hundreds of MiB of freed chunk buffers (mallopt(3)). */
export const HEAP_ENVIRONMENT: Readonly<NodeJS.ProcessEnv> = { MALLOC_ARENA_MAX: '2' }
