import type { Outcome } from '../campaign.ts'
export function writeReport({ collector }: Outcome, _directory: string, log: (line: string) => void): void {
  for (const v of collector.violations) {
    log(`VIOLATION ${v.message}\n  ${v.replay}\n${v.log}`)
    for (const line of v.script) log(`    ${line}`)
  }
  for (const c of collector.cells.values())
    log(
      `${c.mode} ${c.fault} runs ${c.runs} ops ${c.operations} reads ${c.reads} inj ${c.injected} exc ${c.excused} viol ${c.violations} slow ${Math.round(c.slowestMs)} ${c.slowestAction} ${[...c.remarks]} ${[...c.notes]}`,
    )
}
