import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Violation } from './campaign.ts'
import type { Outcome } from './lanes.ts'
import type { Options } from './options.ts'

const STEPS_SHOWN = 60
const PROBLEMS_SHOWN = 4
const LOG_SHOWN = 5

type Log = (line: string) => void

/** A violation with all that is needed to have it again. */
export function printViolation(title: string, violation: Violation, log: Log): void {
  const { replay, kind, promise, problems, steps, behind } = violation
  log(`${title} of ${promise}: ${kind}${behind === undefined ? '' : `, right behind: ${behind}`}`)
  if (replay !== '') log(`    npm run test:power-cut -- ${replay}`)
  for (const problem of problems.slice(0, PROBLEMS_SHOWN)) log(`    ${problem}`)
  for (const step of steps.slice(-STEPS_SHOWN)) log(`      ${step}`)
  for (const line of violation.log.slice(-LOG_SHOWN)) log(`      log: ${line.slice(0, 300)}`)
}

/** The figures of a run, as text and as JSON in the directory of the options. */
export function report(outcome: Outcome, options: Options, log: Log): void {
  log('crash states by mode')
  log(outcome.states.table(options.cases))
  log('steps of applications and operators by mode')
  log(outcome.steps.table(options.cases))
  log('crash states whose cut is right behind a step that destroys something, by mode')
  log(outcome.coverage.table(options.cases))
  if (outcome.kills.total > 0) {
    log('kills, and power cuts behind one, by mode')
    log(outcome.kills.table(options.cases))
  }
  const kinds = new Map<string, number>()
  for (const { kind } of outcome.violations) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  for (const [kind, count] of kinds) log(`${count} x ${kind}`)
  // Once more where the log ends: a run that could not try something has not held.
  for (const fault of outcome.faults) log(`the harness failed: ${fault}`)
  log(`${outcome.violations.length} violations, seed ${options.seed}, ${outcome.seconds.toFixed(0)} s`)
  const directory = resolve(options.report)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'report.json'), JSON.stringify({ options, ...outcome }, undefined, 2))
}
