import { clock } from './clock.ts'
import { type Disk, useDisk } from './disk.ts'
import type { Random } from './random.ts'
import type { Rig } from './rig.ts'

/** Whose step it is. */
type Kind = 'client' | 'store' | 'disk' | 'loop'

interface Step {
  readonly kind: Kind
  readonly what: string
  readonly run: () => void
}

const WEIGHTS = [1, 1, 1, 6, 0.15]
// Time that passes while steps are pending, in virtual milliseconds: never enough for a request's own deadline.
const EARLY_MS = 400
const EARLY_BUDGET_MS = 12_000
const STUCK_STEPS = 20_000

const realImmediate = globalThis.setImmediate
let active: Schedule | undefined

// setImmediate of the product and of the store in memory is a step like any other while a schedule is at work.
Object.assign(globalThis, {
  setImmediate: (run: (...args: unknown[]) => void, ...args: unknown[]) =>
    active ? active.add('loop', 'immediate', () => run(...args)) : realImmediate(run, ...args),
})

/**
 * Decides which of the pending steps is done next: answers of the store, reads and writes of local files, callbacks, requests
 * of clients. Everything asynchronous that the daemon waits for is such a step, so a run is a function of the seed.
 */
export class Schedule {
  readonly #random: Random
  readonly #weights: Record<Kind, number>
  readonly #rig: () => Rig | undefined
  #pending: Step[] = []
  readonly #whenQuiet: Array<() => void> = []
  #early = EARLY_BUDGET_MS
  /** Number of the step being done. */
  now = 0
  /** What was done, step by step. */
  readonly trace: string[] = []

  constructor(random: Random, rig: () => Rig | undefined) {
    this.#random = random
    this.#rig = rig
    const weight = (): number => WEIGHTS[random.below(WEIGHTS.length)] ?? 1
    this.#weights = { client: weight(), store: weight(), disk: weight(), loop: weight() }
  }

  add(kind: Kind, what: string, run: () => void): void {
    this.#pending.push({ kind, what, run })
  }

  /** Resolves when it is this one's turn. */
  turn(kind: Kind, what: string): Promise<void> {
    return new Promise((resolve) => this.add(kind, what, resolve))
  }

  /** Runs `body` with all of the process's asynchronous steps in the hands of this schedule. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    if (active) throw new Error('one schedule at a time')
    const random = Math.random
    active = this
    Math.random = () => this.#random.next()
    try {
      return await this.until(body())
    } finally {
      Math.random = random
      active = undefined
    }
  }

  /** The disk of a rig whose requests are steps. A request of a daemon that died meanwhile may or may not have reached it. */
  disk(verdict: Disk['verdict']): Disk {
    return {
      turn: (what, perform) => {
        const daemon = this.#rig()?.built
        this.add('disk', what, () => {
          const dead = this.#rig()?.built !== daemon || this.#rig()?.dead
          this.#lost = dead === true && this.#random.next() < 0.5
          perform()
          this.#lost = false
        })
      },
      verdict: (what, path, length) =>
        this.#lost && what === 'write' ? { errno: 'EIO' } : verdict(what, path, length),
    }
  }
  #lost = false

  attach(rig: Rig, verdict: Disk['verdict'] = () => 'ok'): void {
    useDisk(rig.root, this.disk(verdict))
    rig.world.gate = (what) => this.turn('store', what)
  }

  /** Ends it: what is pending is done, and from now on nothing is. */
  async detach(rig: Rig): Promise<void> {
    useDisk(rig.root, undefined)
    rig.world.gate = undefined
    while (this.#pending.length > 0) {
      for (const { run } of this.#pending.splice(0)) run()
      await new Promise((resolve) => realImmediate(resolve))
    }
  }

  /** Resolves when nothing is pending. */
  quiet(): Promise<void> {
    return new Promise((resolve) => this.#whenQuiet.push(resolve))
  }

  async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const note = (): void => {
      settled = true
    }
    promise.then(note, note)
    for (let steps = 0; steps < STUCK_STEPS; steps += 1) {
      // Everything that follows from a step without waiting has happened when this turn of the real event loop ends.
      await new Promise((resolve) => realImmediate(resolve))
      if (settled) return promise
      this.#step()
    }
    throw new Error(`P6: still waiting after ${STUCK_STEPS} steps`)
  }

  #step(): void {
    this.now += 1
    if (this.#pending.length === 0) {
      const waiting = this.#whenQuiet.splice(0)
      for (const go of waiting) go()
      if (waiting.length > 0) return
      const wait = clock.next
      if (wait === undefined) throw new Error('P6: something waits for what nothing will bring')
      this.#pass(wait)
      return
    }
    if (this.#early > 0 && this.#random.next() < 0.02) {
      this.#early -= EARLY_MS
      this.#pass(EARLY_MS)
      return
    }
    const at = this.#draw()
    const [step] = this.#pending.splice(at, 1)
    if (!step) return
    if (step.what !== 'immediate') this.#note(step.what)
    step.run()
  }

  #pass(milliseconds: number): void {
    this.#note(`${milliseconds.toFixed(3)} ms pass`)
    clock.advance(milliseconds)
  }

  #note(what: string): void {
    this.trace.push(`${this.now} ${what}`)
  }

  #draw(): number {
    let sum = 0
    for (const { kind } of this.#pending) sum += this.#weights[kind]
    let left = this.#random.next() * sum
    for (const [at, { kind }] of this.#pending.entries()) {
      left -= this.#weights[kind]
      if (left <= 0) return at
    }
    return this.#pending.length - 1
  }
}
