import { type Collector, SLICE_MS, shownMode } from './collector.ts'
import { escaped } from './escape.ts'
import { timeline } from './timeline.ts'
import type { Report } from './write.ts'

/** One page with everything in it: no script, no request to anywhere, readable in light and dark. */
export function htmlReport(report: Report, { spans, slices }: Pick<Collector, 'spans' | 'slices'>): string {
  const verdict = report.passed ? 'every promise held' : `violations: ${report.violations.length}`
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>ferryfs chaos run: ${escaped(verdict)}</title>
<style>${STYLE}</style>
<h1>ferryfs chaos run: <span class="${report.passed ? 'good' : 'bad'}">${escaped(verdict)}</span></h1>
<p>${escaped(report.store)}<br>
${escaped(report.startedAt)}, ${report.seconds} s, seed ${report.seed}: ${report.sessions} cases,
${report.operations} operations, ${report.readsChecked} reads checked byte for byte.</p>
<h2>Time</h2>
<p>Operations, excused failures and the slowest operation of every ${SLICE_MS} ms, over the faults in force.</p>
<div class="wide">${timeline(spans, slices)}</div>
${violations(report)}
<h2>Matrix</h2>
<div class="wide">${matrix(report)}</div>
<p>Each square: operations, reads checked, times that the fault acted, failures that it excuses, slowest operation,
and what operations took longer in all than the slowest before the fault. Two faults at once are joined by +.</p>
<h2>Not covered</h2>
<ul>${report.uncovered.map(({ mode, fault, why }) => `<li>${escaped(fault)} in ${escaped(mode)}: ${escaped(why)}</li>`).join('\n')}</ul>
</html>
`
}

function violations({ violations: found }: Report): string {
  if (found.length === 0) return ''
  const items = found.map(
    ({ message, replay, script, log }) => `<article><h3 class="bad">${escaped(message)}</h3>
<pre>${escaped(replay)}</pre>
<details open><summary>the case</summary><pre>${escaped(script.join('\n'))}</pre></details>
<details><summary>the daemon’s log</summary><pre>${escaped(log)}</pre></details></article>`,
  )
  return `<h2>Violations</h2>\n${items.join('\n')}`
}

function matrix({ cells }: Report): string {
  const labels = [...new Set(cells.map(({ mode, variant }) => shownMode(mode, variant)))]
  const faults = [...new Set(cells.map(({ fault }) => fault))].sort(
    (one, other) => Number(one.includes('+')) - Number(other.includes('+')),
  )
  const head = labels.map((label) => `<th>${escaped(label)}</th>`).join('')
  const rows = faults.map((fault) => {
    const squares = labels.map((label) => {
      const cell = cells.find((one) => shownMode(one.mode, one.variant) === label && one.fault === fault)
      if (!cell) return '<td class="none">–</td>'
      const { operations, reads, injected, excused, slowestMs, slowestAction, delayedMs, remarks, notes } =
        cell
      const slowest = `${(slowestMs / 1000).toFixed(1)} s ${slowestAction}`
      const delayed = delayedMs < 500 ? '' : `<br>delayed ${(delayedMs / 1000).toFixed(1)} s in all`
      const points = notes.length === 0 ? '' : `<br>${notes.length} points reached`
      const title = escaped([...remarks, ...notes].join('\n'))
      const kind = cell.violations > 0 ? 'broken' : injected === 0 && remarks.length > 0 ? 'none' : 'held'
      return `<td class="${kind}" title="${title}">${operations} ops, ${reads} reads<br>${injected} faults, ${excused} excused<br>${escaped(slowest)}${delayed}${points}</td>`
    })
    return `<tr><th>${escaped(fault)}</th>${squares.join('')}</tr>`
  })
  return `<table><tr><th></th>${head}</tr>\n${rows.join('\n')}</table>`
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #ccc; --good: #14773d; --bad: #b3261e;
  --held: #e3f3e8; --broken: #fbe0dd; --ops: #2463b8; --errors: #c2410c; --slow: #7c4db3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #151515; --line: #444; --good: #5fcf8a;
  --bad: #ff8a80; --held: #173522; --broken: #4a1c19; --ops: #7fb2ff; --errors: #ffa36b; --slow: #c7a4f5; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } h3 { font-size: 1rem }
.good { color: var(--good) } .bad { color: var(--bad) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 12px } th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top }
td.held { background: var(--held) } td.broken { background: var(--broken) } td.none { opacity: .6 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); padding: .5rem; font-size: 12px }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif } svg .axis { stroke: var(--line) }
svg .ops { fill: none; stroke: var(--ops); stroke-width: 1.5 } svg .errors { fill: none; stroke: var(--errors); stroke-width: 1.5 }
svg .slow { fill: none; stroke: var(--slow); stroke-width: 1.5 } svg .span { fill: var(--errors); fill-opacity: .28; stroke: var(--errors) }
svg .calm { fill: var(--good); fill-opacity: .2; stroke: var(--good) }
`
