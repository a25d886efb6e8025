import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Outcome } from '../campaign.ts'
import { FAULT_POINTS } from '../faults/points.ts'
import { type CellResult, shownMode } from './collector.ts'
import { htmlReport } from './html.ts'

/** What the three forms of the report say. */
export interface Report {
  readonly startedAt: string
  readonly seconds: number
  readonly store: string
  readonly seed: number
  readonly passed: boolean
  readonly sessions: number
  readonly operations: number
  readonly readsChecked: number
  readonly cells: readonly ReportedCell[]
  readonly uncovered: readonly { readonly mode: string; readonly fault: string; readonly why: string }[]
  readonly violations: Outcome['collector']['violations']
}

interface ReportedCell extends Omit<CellResult, 'remarks' | 'notes'> {
  readonly remarks: readonly string[]
  readonly notes: readonly string[]
}

/** Prints the report and leaves it in the directory as report.txt, report.json and report.html. */
export function writeReport(outcome: Outcome, directory: string, log: (line: string) => void): void {
  const report = reportOf(outcome)
  const lines = textReport(report)
  for (const line of lines) log(line)
  writeFileSync(join(directory, 'report.txt'), `${lines.join('\n')}\n`)
  writeFileSync(join(directory, 'report.json'), `${JSON.stringify(report, undefined, 2)}\n`)
  writeFileSync(join(directory, 'report.html'), htmlReport(report, outcome.collector))
  log(`report: ${directory}/report.html, report.json, report.txt`)
}

function reportOf({ collector, options, store, modes, faults }: Outcome): Report {
  const cells = [...collector.cells.values()]
    .filter(({ runs }) => runs > 0)
    .map((cell) => ({ ...cell, remarks: [...cell.remarks], notes: [...cell.notes] }))
  const missing = modes.flatMap((mode) =>
    faults
      .filter(({ name }) => !cells.some((cell) => cell.mode === mode && cell.fault === name))
      .map(({ name }) => ({ mode, fault: name, why: 'the time was up' })),
  )
  const without = cells
    .filter(({ injected, remarks }) => injected === 0 && remarks.length > 0)
    .map(({ mode, variant, fault, remarks }) => ({
      mode: shownMode(mode, variant),
      fault,
      why: remarks.join('; '),
    }))
  return {
    startedAt: collector.startedAt.toISOString(),
    seconds: Math.round(collector.elapsedMs / 1000),
    store,
    seed: options.seed,
    passed: collector.violations.length === 0,
    sessions: collector.sessions,
    operations: cells.reduce((sum, { operations }) => sum + operations, 0),
    readsChecked: cells.reduce((sum, { reads }) => sum + reads, 0),
    cells,
    uncovered: [...missing, ...without],
    violations: collector.violations,
  }
}

function textReport(report: Report): string[] {
  const isPair = ({ fault }: ReportedCell): boolean => fault.includes('+')
  const pairs = report.cells.filter(isPair)
  return [
    '',
    ...columns([HEAD, ...report.cells.filter((cell) => !isPair(cell)).map(rowOf)]),
    ...(pairs.length === 0 ? [] : ['', 'two faults at once:', ...columns([HEAD, ...pairs.map(rowOf)])]),
    '',
    ...report.cells.flatMap(({ mode, variant, fault, notes }) =>
      notes.length === 0
        ? []
        : [`${shownMode(mode, variant)}, ${fault}: ${notes.length} of ${FAULT_POINTS.length} points reached`],
    ),
    ...report.uncovered.map(({ mode, fault, why }) => `not covered: ${fault} in ${mode}: ${why}`),
    ...report.violations.flatMap(({ message, replay, script, log }) => [
      '',
      `VIOLATION ${message}`,
      `  again: ${replay}`,
      ...script.map((line) => `    ${line}`),
      ...log.split('\n').map((line) => `    | ${line}`),
    ]),
    '',
    `${report.passed ? 'PASSED' : 'FAILED'}: ${report.sessions} cases, ${report.operations} operations, ` +
      `${report.readsChecked} reads checked, ${report.violations.length} violations in ${report.seconds} s; seed ${report.seed}`,
    report.store,
  ]
}

const HEAD = ['mode', 'fault', 'operations', 'reads', 'faults', 'excused', 'violations', 'delayed', 'slowest']

function rowOf(cell: ReportedCell): string[] {
  return [
    shownMode(cell.mode, cell.variant),
    cell.fault,
    String(cell.operations),
    String(cell.reads),
    String(cell.injected),
    String(cell.excused),
    String(cell.violations),
    cell.delayedMs < 500 ? '' : `${(cell.delayedMs / 1000).toFixed(1)} s in all`,
    `${(cell.slowestMs / 1000).toFixed(1)} s ${cell.slowestAction}`,
  ]
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}
