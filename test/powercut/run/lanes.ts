import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Line, Violation, Work } from './campaign.ts'
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
  readonly kills: Coverage
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
    kills: new Coverage(),
    seconds: 0,
  }
  const began = performance.now()
  const stop = new AbortController()
  const left = worksOf(options)
  const known = new Set<string>()
  const lane = async (): Promise<void> => {
    for (let work = left.shift(); work && !stop.signal.aborted; work = left.shift()) {
      const { signal } = stop
      await runWork({ options, work, known: [...known], shim, signal }, (line) => {
        if (line.type === 'violation') known.add(keyOf(line.violation))
        if (!receive(line, outcome, listener)) stop.abort()
      })
    }
  }
  await Promise.all([...Array(options.lanes).keys()].map(lane))
  outcome.seconds = (performance.now() - began) / 1000
  return outcome
}

// A process that has started hundreds of daemons is full of what only the end of a process lets go.
const SCRIPTS_AT_ONCE = 10

function worksOf(options: Options): Work[] {
  if (options.replay) return [{ kind: 'replay' }]
  if (options.rows) return options.rows.map((row) => ({ kind: 'row', row }))
  const scripts = Math.ceil(options.states / options.statesPerScript)
  const works: Work[] = []
  // Small ones where there are few, so that no lane waits for another.
  const count = Math.max(1, Math.min(SCRIPTS_AT_ONCE, Math.ceil(scripts / options.lanes / 2)))
  for (let first = 0; first < scripts; first += count) {
    works.push({ kind: 'scripts', first, count: Math.min(count, scripts - first) })
  }
  return works
}

// A process that has said nothing for so long hangs, in a loop of the product's that no turn of the event loop ends.
const SILENCE_MS = 600_000

interface Task {
  readonly options: Options
  readonly work: Work
  readonly known: readonly string[]
  readonly shim: string
  readonly signal: AbortSignal
}

function runWork(
  { options, work, known, shim, signal }: Task,
  receiveLine: (line: Line) => void,
): Promise<void> {
  const texts = [options, work, known].map((each) => JSON.stringify(each))
  // In a mount namespace of its own: whatever ends the process ends its mounts.
  const child = spawn('unshare', ['--mount', '--propagation', 'private', process.execPath, LANE, ...texts], {
    env: { ...process.env, LD_PRELOAD: shim },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const end = (): void => void child.kill('SIGKILL')
  signal.addEventListener('abort', end, { once: true })
  process.once('exit', end)
  let last = 'nothing'
  const hangs = (): void => {
    receiveLine({ type: 'fault', message: `a process hangs, and is ended; it was at ${last}` })
    end()
  }
  let silence = setTimeout(hangs, SILENCE_MS)
  createInterface({ input: child.stdout }).on('line', (line) => {
    clearTimeout(silence)
    silence = setTimeout(hangs, SILENCE_MS)
    if (!line.startsWith('{')) {
      process.stdout.write(`${line}\n`)
      return
    }
    const said = JSON.parse(line) as Line
    if (said.type === 'trying') last = said.replay
    else receiveLine(said)
  })
  return new Promise((done) =>
    child.once('close', (code, killed) => {
      clearTimeout(silence)
      process.off('exit', end)
      signal.removeEventListener('abort', end)
      if (code !== 0 && !signal.aborted) {
        receiveLine({ type: 'fault', message: `${JSON.stringify(work)} ended with ${code ?? killed}` })
      }
      done()
    }),
  )
}

/** False: enough. */
function receive(line: Line, outcome: Outcome, listener: Listener): boolean {
  switch (line.type) {
    case 'trying':
      return true
    case 'violation': {
      const { violation } = line
      const isNew = !outcome.violations.some((each) => keyOf(each) === keyOf(violation))
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
      outcome.kills.addAll(line.kills)
      return true
  }
}

/** Equal for violations of which one tells enough. */
const keyOf = ({ kind, behind }: Violation): string => `${kind} ${behind}`
