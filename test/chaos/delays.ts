import { Contradiction } from './model/subtree.ts'
import { CLIENTS } from './script.ts'

// The clients, and the process that reads what nobody changes.
const CALLERS = CLIENTS + 1
// Each may be waiting when the store goes away, and once more when a probe of it does not come back.
const WAITS = 2
// What no machine is busy enough for, and far less than any limit of the store.
export const STALL_MS = 6000

/**
 * What a fault costs the applications in time, from outside (P6): where nobody needs the store, a store that is away may cost
 * one deadline of those who wait at that moment, not one of every call.
 */
export class Delays {
  readonly #deadlineMs: number
  #part: 'before' | 'during' | 'over' = 'over'
  #slowestBeforeMs = 0
  #delayedMs = 0
  #long = 0
  #slowestMs = 0

  constructor(deadlineMs: number) {
    this.#deadlineMs = deadlineMs
  }

  before(): void {
    this.#part = 'before'
    this.#slowestBeforeMs = 0
  }

  during(): void {
    this.#part = 'during'
    this.#delayedMs = 0
    this.#long = 0
    this.#slowestMs = 0
  }

  took(ms: number): void {
    if (this.#part === 'before') this.#slowestBeforeMs = Math.max(this.#slowestBeforeMs, ms)
    if (this.#part !== 'during') return
    this.#slowestMs = Math.max(this.#slowestMs, ms)
    this.#delayedMs += Math.max(0, ms - this.#slowestBeforeMs)
    // A machine that is busy is slow, but not by half a deadline.
    if (ms > this.#deadlineMs / 2) this.#long += 1
  }

  /** The milliseconds, in all, that calls took longer than the slowest before. */
  end(): number {
    this.#part = 'over'
    return this.#delayedMs
  }

  /** What one user does keeps nobody else waiting. @throws Contradiction */
  checkBystanders(): void {
    if (this.#slowestMs <= STALL_MS) return
    throw new Contradiction(
      `P6: a call waited ${(this.#slowestMs / 1000).toFixed(1)} s while somebody else worked; ${STALL_MS / 1000} s is a stall`,
    )
  }

  /** @throws Contradiction */
  check(): void {
    const most = WAITS * CALLERS
    if (this.#long <= most) return
    throw new Contradiction(
      `P6: ${this.#long} calls waited longer than ${this.#deadlineMs / 2} ms for a store that nobody needs, ${(this.#delayedMs / 1000).toFixed(1)} s in all; ${most} may`,
    )
  }
}
