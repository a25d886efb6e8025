/** Where a long run is. */
export interface RunProgress {
  readonly phase: string
  readonly files: number
  readonly filesTotal: number
  readonly bytes: number
  readonly bytesTotal: number
  readonly bytesPerSecond: number
  readonly etaSeconds: number | null
}

const WINDOW_MS = 10_000
const REPORT_MS = 250

/** Counts, measures the rate over the last seconds and reports a few times a second. */
export class ProgressMeter {
  readonly #report: (progress: RunProgress) => void
  readonly #samples: Array<{ at: number; bytes: number }> = []
  #last = 0
  phase: string
  files = 0
  filesTotal = 0
  bytes = 0
  bytesTotal = 0

  constructor(phase: string, report: (progress: RunProgress) => void) {
    this.phase = phase
    this.#report = report
  }

  get bytesPerSecond(): number {
    const first = this.#samples[0]
    const last = this.#samples[this.#samples.length - 1]
    if (!first || !last || last.at === first.at) return 0
    return Math.round(((last.bytes - first.bytes) / (last.at - first.at)) * 1000)
  }

  now(): RunProgress {
    const rate = this.bytesPerSecond
    const left = Math.max(0, this.bytesTotal - this.bytes)
    return {
      phase: this.phase,
      files: this.files,
      filesTotal: Math.max(this.filesTotal, this.files),
      bytes: this.bytes,
      bytesTotal: Math.max(this.bytesTotal, this.bytes),
      bytesPerSecond: rate,
      etaSeconds: rate > 0 ? Math.round(left / rate) : null,
    }
  }

  /** To be called often; reports when it is time, or at once with `force`. */
  tick(force = false): void {
    const at = performance.now()
    if (!force && at - this.#last < REPORT_MS) return
    this.#last = at
    this.#samples.push({ at, bytes: this.bytes })
    while (this.#samples.length > 2 && at - (this.#samples[0]?.at ?? at) > WINDOW_MS) this.#samples.shift()
    this.#report(this.now())
  }
}
