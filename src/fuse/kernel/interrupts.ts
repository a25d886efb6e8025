import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { type Request, withoutResend } from './request.ts'

/** How often a caller whose call was interrupted once is looked at again, in milliseconds. */
const LOOK_AGAIN_MS = 200
/** Interrupts that came before their request, kept at most. */
const MAX_EARLY = 1024

const bit = (signal: number): bigint => 1n << BigInt(signal - 1)
const { SIGKILL, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU } = constants.signals
/** Signals that by default do nothing, or stop a process, signal(7). */
const HARMLESS = [SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU]
  .map(bit)
  .reduce((all, one) => all | one)

/**
 * Whether a thread with this /proc/PID/status dies as soon as its call returns: SIGKILL is pending, which the kernel gives
 * to every thread of a process that another signal ends (complete_signal() in kernel/signal.c); or, where that signal came
 * behind another one and waits for its turn, one is pending that is neither blocked nor handled nor ignored. A debugger may
 * still take that away.
 */
export function diesNext(status: string): boolean {
  const set = (field: string): bigint => {
    const digits = new RegExp(`^${field}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1]
    return digits === undefined ? 0n : BigInt(`0x${digits}`)
  }
  const pending = set('SigPnd') | set('ShdPnd')
  if ((pending & bit(SIGKILL)) !== 0n) return true
  if (!/^TracerPid:\s*0$/m.test(status)) return false
  return (pending & ~(set('SigBlk') | set('SigIgn') | set('SigCgt') | HARMLESS)) !== 0n
}

/** Whether the thread is about to die. One that cannot be seen (0, or of a foreign namespace) is not. */
export function isDying(pid: number): boolean {
  if (pid === 0) return false
  try {
    return diesNext(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

/**
 * Decides what an INTERRUPT does. The kernel sends one for any signal that the caller of a waiting request gets, also for
 * SIGCHLD, timers and profilers, and only one per request. No call on a local file ends with EINTR for those, so here
 * only a caller that is about to die counts; whoever was interrupted is looked at until the request is answered.
 */
export class Interrupts {
  readonly #isDying: (pid: number) => boolean
  readonly #giveUp: (request: Request) => void
  readonly #waiting = new Map<bigint, Request>()
  readonly #interrupted = new Set<Request>()
  readonly #early = new Set<bigint>()
  #timer: NodeJS.Timeout | undefined

  /** `giveUp`: the caller of this request is being killed. */
  constructor(giveUp: (request: Request) => void, dying: (pid: number) => boolean = isDying) {
    this.#giveUp = giveUp
    this.#isDying = dying
  }

  /** Requests that wait for the file system. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** The request is not answered at once. */
  add(request: Request): void {
    this.#waiting.set(request.unique, request)
    if (this.#early.delete(request.unique)) this.#interrupt(request)
  }

  delete(request: Request): void {
    this.#waiting.delete(request.unique)
    if (this.#interrupted.delete(request) && this.#interrupted.size === 0) this.stop()
  }

  /**
   * INTERRUPT has come for this `unique`. After a hand-over it may overtake the request, which the kernel sends again
   * later; one for a request that was answered in the meantime looks the same, and is pushed out by later ones.
   */
  interrupt(id: bigint): void {
    const unique = withoutResend(id)
    const request = this.#waiting.get(unique)
    if (request) {
      this.#interrupt(request)
      return
    }
    this.#early.add(unique)
    if (this.#early.size > MAX_EARLY) {
      for (const oldest of this.#early) {
        this.#early.delete(oldest)
        break
      }
    }
  }

  #interrupt(request: Request): void {
    if (this.#isDying(request.pid)) {
      this.#giveUp(request)
      return
    }
    this.#interrupted.add(request)
    this.#timer ??= setInterval(() => this.#lookAgain(), LOOK_AGAIN_MS).unref()
  }

  #lookAgain(): void {
    for (const request of this.#interrupted) {
      if (!this.#isDying(request.pid)) continue
      this.#interrupted.delete(request)
      this.#giveUp(request)
    }
    if (this.#interrupted.size === 0) this.stop()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
