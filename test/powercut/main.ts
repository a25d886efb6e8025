import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { compileShim } from './machine/shim.ts'
import type { Line, Violation } from './run/campaign.ts'
import { Coverage } from './run/coverage.ts'
import { type Options, readOptions, Usage } from './run/options.ts'

// npm run test:power-cut. Ends with 0 if every promise held, 1 if one was broken, 2 if it could not be tried.
const EXIT = { held: 0, broken: 1, cannotRun: 2 } as const
const LANE = fileURLToPath(new URL('./run/lane.ts', import.meta.url))
const STEPS_SHOWN = 60

// What the machine remembers of mounts is not this machine's business.
process.env.FERRYFS_STATE_ROOT ??= join(tmpdir(), 'ferryfs-test-machine')

const log = (line: string): void => void process.stdout.write(`${line}\n`)

interface Outcome {
  readonly violations: Violation[]
  readonly faults: string[]
  readonly states: Coverage
  readonly steps: Coverage
  readonly coverage: Coverage
}

function print(title: string, { replay, kind, problems, steps, behind, log: lines }: Violation): void {
  log(`${title} ${kind} (replay: --replay ${replay}${behind === undefined ? '' : `; behind: ${behind}`})`)
  for (const problem of problems.slice(0, 4)) log(`    ${problem}`)
  for (const step of steps.slice(-STEPS_SHOWN)) log(`      ${step}`)
  for (const line of lines.slice(-5)) log(`      log: ${line.slice(0, 300)}`)
}

function receive(line: Line, outcome: Outcome, options: Options): void {
  switch (line.type) {
    case 'violation': {
      const { violation } = line
      const isNew = !outcome.violations.some(
        (each) => each.kind === violation.kind && each.behind === violation.behind,
      )
      outcome.violations.push(violation)
      if (isNew || options.replay) print('VIOLATION', violation)
      else
        log(
          `VIOLATION again: ${violation.kind} ${violation.replay} (behind: ${violation.behind ?? 'nothing'})`,
        )
      break
    }
    case 'shrunk':
      print('shortest  ', line.violation)
      break
    case 'fault':
      outcome.faults.push(line.message)
      log(`the harness failed: ${line.message}`)
      break
    case 'done':
      outcome.states.addAll(line.states)
      outcome.steps.addAll(line.steps)
      outcome.coverage.addAll(line.coverage)
  }
}

function runLane(options: Options, lane: number, shim: string, outcome: Outcome): Promise<void> {
  const child = spawn(process.execPath, [LANE, JSON.stringify(options), String(lane)], {
    env: { ...process.env, LD_PRELOAD: shim },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })
  lines.on('line', (line) => {
    if (line.startsWith('{')) receive(JSON.parse(line) as Line, outcome, options)
    else log(line)
  })
  return new Promise((done) =>
    child.once('close', (code) => {
      if (code !== 0) outcome.faults.push(`lane ${lane} ended with ${code}`)
      done()
    }),
  )
}

async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args)
  if (process.getuid?.() !== 0) throw new Usage('the power-cut harness mounts file systems: run it as root')
  let shim: string
  try {
    shim = compileShim()
  } catch (error) {
    throw new Usage(
      `the recording shim cannot be compiled: ${error instanceof Error ? error.message : error}`,
    )
  }
  const outcome: Outcome = {
    violations: [],
    faults: [],
    states: new Coverage(),
    steps: new Coverage(),
    coverage: new Coverage(),
  }
  const began = performance.now()
  log(`power cut: seed ${options.seed}`)
  const lanes = options.replay ? 1 : options.lanes
  await Promise.all([...Array(lanes).keys()].map((lane) => runLane(options, lane, shim, outcome)))
  report(outcome, options, (performance.now() - began) / 1000)
  if (outcome.faults.length > 0) return EXIT.broken
  return outcome.violations.length === 0 ? EXIT.held : EXIT.broken
}

function report(outcome: Outcome, options: Options, seconds: number): void {
  log('crash states by mode')
  log(outcome.states.table(options.cases))
  log('steps of applications and operators by mode')
  log(outcome.steps.table(options.cases))
  log('cuts right behind a step that destroys something, by mode')
  log(outcome.coverage.table(options.cases))
  const kinds = new Map<string, number>()
  for (const { kind } of outcome.violations) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  for (const [kind, count] of kinds) log(`${count} x ${kind}`)
  log(`${outcome.violations.length} violations, seed ${options.seed}, ${seconds.toFixed(0)} s`)
  const directory = resolve(options.report)
  mkdirSync(directory, { recursive: true })
  writeFileSync(
    join(directory, 'report.json'),
    JSON.stringify({ options, seconds, ...outcome }, undefined, 2),
  )
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof Usage)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = EXIT.cannotRun
}
