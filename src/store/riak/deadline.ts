import { TransportError } from './failures.ts'

/**
 * The end of an operation or of a part of one: its time is over, its caller gave up, or the store was closed. One timer
 * and one listener on each parent, all gone with `Symbol.dispose`; `AbortSignal.any` would leave its traces on a signal
 * that lives as long as the store.
 */
export class Deadline implements Disposable {
  readonly #controller = new AbortController()
  readonly #endsAt: number
  readonly #timer: NodeJS.Timeout
  readonly #unlisten: (() => void)[] = []

  constructor(milliseconds: number, parents: readonly (AbortSignal | undefined)[]) {
    this.#endsAt = performance.now() + milliseconds
    this.#timer = setTimeout(() => {
      const seconds = (milliseconds / 1000).toFixed(1)
      this.#controller.abort(new TransportError(`no answer within ${seconds} s`, { as: 'timeout' }))
    }, milliseconds)
    // A caller that waits holds its process alive by its socket; a timer of its own must not.
    this.#timer.unref()
    for (const parent of parents) {
      if (parent === undefined) continue
      const abort = (): void => this.#controller.abort(reasonOf(parent))
      if (parent.aborted) abort()
      parent.addEventListener('abort', abort, { once: true })
      this.#unlisten.push(() => parent.removeEventListener('abort', abort))
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get remainingMs(): number {
    return Math.max(0, this.#endsAt - performance.now())
  }

  /** An earlier end within this one. */
  part(milliseconds: number): Deadline {
    return new Deadline(Math.min(milliseconds, this.remainingMs), [this.signal])
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    for (const unlisten of this.#unlisten) unlisten()
  }
}

/** A caller that gives up tells nothing about the node; what was sent may have taken effect. */
function reasonOf(signal: AbortSignal): TransportError {
  if (signal.reason instanceof TransportError) return signal.reason
  const verdict = { as: 'timeout', nodeIsIll: false } as const
  return new TransportError('the caller gave up', verdict, { cause: signal.reason })
}

/** Waits for work that others may wait for, too, and that goes on without this caller. @throws the signal's reason */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
