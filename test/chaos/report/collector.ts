import type { Mode } from '../../../src/base/modes.ts'
import type { Action } from '../actions.ts'
import type { Variant } from '../world/world.ts'

/** One square of the matrix: a fault in a mode. */
export interface CellResult {
  readonly mode: Mode
  readonly variant: Variant
  readonly fault: string
  runs: number
  operations: number
  reads: number
  readBytes: number
  /** How often the fault began or struck. */
  injected: number
  /** Failures that the fault excuses: clear errors, where there is nothing else to answer with. */
  excused: number
  violations: number
  slowestMs: number
  slowestAction: string
  /** What calls took longer, all together, than the slowest before the fault. */
  delayedMs: number
  /** Why the fault did not come about, where it did not. */
  readonly remarks: Set<string>
  /** What the fault reached, e.g. points at which a worker was killed. */
  readonly notes: Set<string>
}

export interface Violation {
  readonly mode: Mode
  readonly variant: Variant
  readonly faults: readonly string[]
  readonly message: string
  /** How to run it again. */
  readonly replay: string
  /** The shrunk case, line by line. */
  readonly script: readonly string[]
  /** The end of the daemon's log. */
  readonly log: string
  readonly atMs: number
}

/** A fault in force, for the timeline. */
export interface Span {
  readonly lane: number
  readonly mode: Mode
  readonly fault: string
  readonly fromMs: number
  toMs: number
}

/** What happened in one slice of time. */
export interface Slice {
  operations: number
  failures: number
  totalMs: number
  slowestMs: number
}

export interface Operation {
  readonly action: Action
  readonly ms: number
  readonly errno: string | undefined
  readonly excused: boolean
  readonly readBytes: number | undefined
}

/** A mode with what is special about the mount. */
export function shownMode(mode: Mode, variant: Variant): string {
  return variant === 'plain' ? mode : `${mode} ${variant}`
}

export const SLICE_MS = 500

/** Everything that the report is made of. */
export class Collector {
  readonly startedAt = new Date()
  readonly cells = new Map<string, CellResult>()
  readonly violations: Violation[] = []
  readonly spans: Span[] = []
  readonly slices: Slice[] = []
  readonly #start = performance.now()
  sessions = 0

  get elapsedMs(): number {
    return performance.now() - this.#start
  }

  /** One that nothing is reported from: for cases that are only tried again. */
  aside(): Collector {
    return new Collector()
  }

  cell(mode: Mode, fault: string, variant: Variant): CellResult {
    const key = `${mode} ${fault} ${variant}`
    const known = this.cells.get(key)
    if (known) return known
    const made: CellResult = {
      mode,
      variant,
      fault,
      runs: 0,
      operations: 0,
      reads: 0,
      readBytes: 0,
      injected: 0,
      excused: 0,
      violations: 0,
      slowestMs: 0,
      slowestAction: '',
      delayedMs: 0,
      remarks: new Set(),
      notes: new Set(),
    }
    this.cells.set(key, made)
    return made
  }

  operation(cell: CellResult, operation: Operation): void {
    const { action, ms, errno, excused, readBytes } = operation
    cell.operations += 1
    if (excused) cell.excused += 1
    if (readBytes !== undefined) {
      cell.reads += 1
      cell.readBytes += readBytes
    }
    if (ms > cell.slowestMs) {
      cell.slowestMs = ms
      cell.slowestAction = action.do
    }
    const slice = this.#slice()
    slice.operations += 1
    if (errno !== undefined && excused) slice.failures += 1
    slice.totalMs += ms
    slice.slowestMs = Math.max(slice.slowestMs, ms)
  }

  begin(lane: number, mode: Mode, fault: string): Span {
    const span = { lane, mode, fault, fromMs: this.elapsedMs, toMs: this.elapsedMs }
    this.spans.push(span)
    return span
  }

  #slice(): Slice {
    const index = Math.floor(this.elapsedMs / SLICE_MS)
    while (this.slices.length <= index) {
      this.slices.push({ operations: 0, failures: 0, totalMs: 0, slowestMs: 0 })
    }
    const slice = this.slices[index]
    if (!slice) throw new Error('a slice of time is missing')
    return slice
  }
}
