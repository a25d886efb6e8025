import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Line, Violation } from './campaign.ts'
import { Coverage } from './coverage.ts'
import type { Options } from './options.ts'

const LANE = fileURLToPath(new URL('./lane.ts', import.meta.url))

/** What all lanes together found. */
export interface Outcome {
  readonly violations: Violation[]
  readonly shortest: Violation[]
  readonly faults: string[]
  readonly states: Coverage
  readonly steps: Coverage
  readonly coverage: Coverage
  seconds: number
}

/** What is to be said at once. */
export interface Listener {
  /** False: enough, the lanes end. */
  violation(violation: Violation, isNew: boolean): boolean
  shortest(violation: Violation): void
  fault(message: string): void
}

/** Runs the states of the options in as many processes, each with the shim preloaded and mounts of its own. */
export async function runLanes(options: Options, shim: string, listener: Listener): Promise<Outcome> {
  const outcome: Outcome = {
    violations: [],
    shortest: [],
    faults: [],
    states: new Coverage(),
    steps: new Coverage(),
    coverage: new Coverage(),
    seconds: 0,
  }
  const began = performance.now()
  const stop = new AbortController()
  const lanes = options.replay ? 1 : options.lanes
  await Promise.all(
    [...Array(lanes).keys()].map((lane) =>
      runLane({ options, lane, shim, signal: stop.signal }, (line) => {
        if (!receive(line, outcome, listener)) stop.abort()
      }),
    ),
  )
  outcome.seconds = (performance.now() - began) / 1000
  return outcome
}

interface Lane {
  readonly options: Options
  readonly lane: number
  readonly shim: string
  readonly signal: AbortSignal
}

function runLane({ options, lane, shim, signal }: Lane, receiveLine: (line: Line) => void): Promise<void> {
  // In a mount namespace of its own: whatever ends the process ends its mounts.
  const child = spawn(
    'unshare',
    ['--mount', '--propagation', 'private', process.execPath, LANE, JSON.stringify(options), String(lane)],
    { env: { ...process.env, LD_PRELOAD: shim }, stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const end = (): void => void child.kill('SIGKILL')
  signal.addEventListener('abort', end, { once: true })
  process.once('exit', end)
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('{')) receiveLine(JSON.parse(line) as Line)
    else process.stdout.write(`${line}\n`)
  })
  return new Promise((done) =>
    child.once('close', (code, killed) => {
      process.off('exit', end)
      if (code !== 0 && !signal.aborted) {
        receiveLine({ type: 'fault', message: `lane ${lane} ended with ${code ?? killed}` })
      }
      done()
    }),
  )
}

/** False: enough. */
function receive(line: Line, outcome: Outcome, listener: Listener): boolean {
  switch (line.type) {
    case 'violation': {
      const { violation } = line
      const { kind, behind } = violation
      const isNew = !outcome.violations.some((each) => each.kind === kind && each.behind === behind)
      outcome.violations.push(violation)
      return listener.violation(violation, isNew)
    }
    case 'shrunk':
      outcome.shortest.push(line.violation)
      listener.shortest(line.violation)
      return true
    case 'fault':
      outcome.faults.push(line.message)
      listener.fault(line.message)
      return true
    case 'done':
      outcome.states.addAll(line.states)
      outcome.steps.addAll(line.steps)
      outcome.coverage.addAll(line.coverage)
      return true
  }
}
