import { clock, turns } from '../../support/rig/clock.ts'

/** What setInterval returns here. */
class Repeated {
  #timer: NodeJS.Timeout

  constructor(run: () => void, milliseconds: number) {
    const again = (): NodeJS.Timeout =>
      setTimeout(() => {
        this.#timer = again()
        run()
      }, milliseconds)
    this.#timer = again()
  }

  cancel(): void {
    clearTimeout(this.#timer)
  }

  unref(): this {
    return this
  }

  ref(): this {
    return this
  }
}

Object.assign(globalThis, {
  setInterval: (run: () => void, milliseconds: number) => new Repeated(run, milliseconds),
  clearInterval: (timer: unknown) => {
    if (timer instanceof Repeated) timer.cancel()
  },
})
clock.stopReal(true)

// Turns of the event loop after which something that needs no passing of time is done.
const TURNS = 60
const LIMIT = 30_000

/**
 * What the promise gives; time passes only when nothing else can bring it.
 * @throws Error if no passing of time brings it (P6)
 */
export async function wait<T>(promise: Promise<T> | T, what: string): Promise<T> {
  if (!(promise instanceof Promise)) return promise
  let settled = false
  const note = (): void => {
    settled = true
  }
  promise.then(note, note)
  for (let step = 0; step < LIMIT; step += 1) {
    for (let turn = 0; turn < TURNS && !settled; turn += 1) await turns(1)
    if (settled) return promise
    clock.advance(clock.next ?? 500)
  }
  throw new Error(`P6: ${what} is never done`)
}

/** Lets virtual time pass and everything happen that it brings. */
export async function pass(milliseconds: number): Promise<void> {
  for (let left = milliseconds; ; ) {
    await turns(TURNS)
    if (left <= 0) return
    const step = Math.min(left, clock.next ?? left)
    clock.advance(step)
    left -= Math.max(step, 0.001)
  }
}
