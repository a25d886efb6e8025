import { readFileSync } from 'node:fs'
import { DaemonError } from './control-client.ts'
import { EXIT } from './exit-status.ts'
import type { Registration } from './registry.ts'

const LOOK_MS = 500
// A disk that is only busy lets a process go on in between.
const LOOKS = 10

/** A watch over a daemon that has been asked something. */
interface Watch {
  /** Aborted with a DaemonError once the worker can answer nobody, because it waits for a disk. */
  readonly signal: AbortSignal
  stop(): void
}

/**
 * Sees where nothing else can tell: the worker commits to its state directory on the thread that answers, so a state disk that hangs
 * keeps it in a system call. So does a worker that is killed meanwhile and cannot end.
 */
export function watchForHangingDisk({ supervisorPid, stateDir }: Registration): Watch {
  const stuck = new AbortController()
  const seen = new Map<number, number>()
  const timer = setInterval(() => {
    for (const pid of childrenOf(supervisorPid)) {
      const times = waitsForDisk(pid) ? (seen.get(pid) ?? 0) + 1 : 0
      seen.set(pid, times)
      if (times < LOOKS) continue
      const seconds = (LOOKS * LOOK_MS) / 1000
      const what = `process ${pid}, which serves it, has been waiting for a disk for ${seconds} s`
      const message = `${what}: the one with the state directory ${stateDir} does not answer; it goes on by itself when that does`
      stuck.abort(new DaemonError(message, EXIT.failed))
    }
  }, LOOK_MS)
  return { signal: stuck.signal, stop: () => clearInterval(timer) }
}

function childrenOf(pid: number): number[] {
  return textOf(`/proc/${pid}/task/${pid}/children`).split(' ').map(Number).filter(Boolean)
}

/** The main thread is in an uninterruptible wait (proc_pid_stat(5)); the name before the state may have anything in it. */
function waitsForDisk(pid: number): boolean {
  const stat = textOf(`/proc/${pid}/stat`)
  return stat.slice(stat.lastIndexOf(')') + 1).startsWith(' D')
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // It has ended, or is somebody else's.
    return ''
  }
}
