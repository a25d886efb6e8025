/** Time of a simulated cluster: the machine's own, or one that only `advance` moves. */
export interface Clock {
  /** Microseconds since the epoch; no two calls give the same, as no two writes of a test shall look alike. */
  now(): number
  after(milliseconds: number, action: () => void): void
  /** Only with a manual clock: everything due within this time happens now, in order. */
  advance(milliseconds: number): void
  /** Forgets everything that is still due. */
  stop(): void
}

export function realClock(): Clock {
  let last = 0
  const timers = new Set<NodeJS.Timeout>()
  return {
    now() {
      last = Math.max(last + 1, Date.now() * 1000)
      return last
    },
    after(milliseconds, action) {
      const timer = setTimeout(() => {
        timers.delete(timer)
        action()
      }, milliseconds)
      timer.unref()
      timers.add(timer)
    },
    advance() {
      throw new Error("advance() needs a cluster with clock: 'manual'")
    },
    stop() {
      for (const timer of timers) clearTimeout(timer)
      timers.clear()
    },
  }
}

export function manualClock(): Clock {
  // Any fixed instant does; the same in every run, so that answers are the same in every run.
  let current = Date.UTC(2026, 0, 1) * 1000
  let due: { at: number; action: () => void }[] = []
  return {
    now() {
      return current++
    },
    after(milliseconds, action) {
      due.push({ at: current + milliseconds * 1000, action })
    },
    advance(milliseconds) {
      const end = current + milliseconds * 1000
      for (;;) {
        const [first] = due.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (first === undefined) break
        due = due.filter((timer) => timer !== first)
        current = Math.max(current, first.at)
        first.action()
      }
      current = Math.max(current, end)
    },
    stop() {
      due = []
    },
  }
}
