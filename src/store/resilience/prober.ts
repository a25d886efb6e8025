import { ExponentialBackoff, type IBackoff } from 'cockatiel'

/** How the store is asked whether it is there. */
export interface Probe {
  /** Ask again soon: something has failed, or a circuit is open. */
  wantsProbe(): boolean
  /** Milliseconds since anything was heard of the store. */
  silence(): number
  /** Asks once. Never rejects. */
  probe(): Promise<void>
}

// From a short blip to a long outage; jitter keeps many daemons from asking a restarted cluster in step.
const BACKOFF = { initialDelay: 200, maxDelay: 10_000 }

/** Asks now and then while nothing else is heard of the store, and soon and more and more rarely while it fails. */
export class Prober {
  readonly #probe: Probe
  readonly #everyMs: number
  #timer: NodeJS.Timeout | undefined
  #backoff: IBackoff<unknown> | undefined
  #probing = false
  #stopped = false

  constructor(probe: Probe, everyMs: number) {
    this.#probe = probe
    this.#everyMs = everyMs
    this.#schedule(everyMs)
  }

  /** Asks at once, unless a sequence of probes is under way already. */
  hurry(): void {
    if (this.#backoff || this.#probing) return
    this.#schedule(0)
  }

  /** Asks at once, whatever went before. */
  restart(): void {
    this.#backoff = undefined
    this.hurry()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  #schedule(milliseconds: number): void {
    clearTimeout(this.#timer)
    if (this.#stopped) return
    this.#timer = setTimeout(() => void this.#tick(), milliseconds)
    // Asking is no reason to keep a process alive.
    this.#timer.unref()
  }

  async #tick(): Promise<void> {
    if (!this.#probe.wantsProbe()) {
      // The next trouble begins with short delays again.
      this.#backoff = undefined
      const quiet = this.#everyMs - this.#probe.silence()
      if (quiet > 0) return this.#schedule(quiet)
    }
    this.#probing = true
    await this.#probe.probe()
    this.#probing = false
    if (!this.#probe.wantsProbe()) return this.#schedule(this.#everyMs)
    this.#backoff = this.#backoff ? this.#backoff.next(undefined) : new ExponentialBackoff(BACKOFF).next()
    this.#schedule(this.#backoff.duration)
  }
}
