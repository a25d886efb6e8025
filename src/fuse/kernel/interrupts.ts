import { readFileSync } from 'node:fs'
import { type Request, withoutResend } from './request.ts'

/** How often a caller whose call was interrupted once is looked at again, in milliseconds. */
const LOOK_AGAIN_MS = 200
/** Interrupts that came before their request, kept at most. */
const MAX_EARLY = 1024
/** SIGKILL in the hexadecimal signal sets of /proc: bit 9 - 1. */
const SIGKILL_BIT = 1n << 8n

/**
 * Whether the thread has SIGKILL pending, which the kernel also gives to every thread of a process that dies of another
 * signal (complete_signal() in kernel/signal.c). A thread that cannot be seen (0, or of a foreign namespace) is not.
 */
export function isDying(pid: number): boolean {
  if (pid === 0) return false
  let status: string
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1')
  } catch {
    return false
  }
  const pending = /^SigPnd:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  return pending !== undefined && (BigInt(`0x${pending}`) & SIGKILL_BIT) !== 0n
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
