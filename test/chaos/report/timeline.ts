import { SLICE_MS, type Slice, type Span } from './collector.ts'
import { escaped } from './escape.ts'

const WIDTH = 1150
const LEFT = 70
const PANEL = 90
const GAP = 26
const BAR = 13
// A bar narrower than its name shows it only when pointed at.
const LETTER = 6

type Measure = (slice: Slice) => number

/** Faults over time, and under them throughput, failures and latency: inline SVG. */
export function timeline(spans: readonly Span[], slices: readonly Slice[]): string {
  const lanes = Math.max(1, ...spans.map(({ lane }) => lane + 1))
  const total = Math.max(SLICE_MS, slices.length * SLICE_MS, ...spans.map(({ toMs }) => toMs))
  const x = (ms: number): number => LEFT + (ms / total) * (WIDTH - LEFT - 10)
  const faultsHeight = lanes * (BAR + 4) + GAP
  const panels: readonly [title: string, kind: string, unit: string, measure: Measure][] = [
    ['operations', 'ops', '/s', ({ operations }) => (operations * 1000) / SLICE_MS],
    ['failures', 'errors', '/s', ({ failures }) => (failures * 1000) / SLICE_MS],
    ['slowest', 'slow', ' ms', ({ slowestMs }) => slowestMs],
  ]
  const height = faultsHeight + panels.length * (PANEL + GAP) + 20
  const bars = spans.map((span) => faultBar(span, x))
  const curves = panels.map(([title, kind, unit, measure], index) => {
    const top = faultsHeight + index * (PANEL + GAP)
    return curve({ title, kind, unit, values: slices.map(measure), top, x })
  })
  const seconds = ticks(total).map(
    (ms) =>
      `<line class="axis" x1="${x(ms)}" x2="${x(ms)}" y1="0" y2="${height - 18}"/><text x="${x(ms) + 2}" y="${height - 4}">${ms / 1000} s</text>`,
  )
  return (
    `<svg viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="faults, throughput, failures and latency over time">` +
    `${seconds.join('')}<text x="0" y="12">faults</text>${bars.join('')}${curves.join('')}</svg>`
  )
}

function faultBar({ lane, mode, fault, fromMs, toMs }: Span, x: (ms: number) => number): string {
  const [left, top] = [x(fromMs), 2 + lane * (BAR + 4)]
  const width = Math.max(1.5, x(toMs) - left)
  const seconds = ((toMs - fromMs) / 1000).toFixed(1)
  const title = `<title>${escaped(`${fault} in ${mode}, ${seconds} s`)}</title>`
  const name =
    width > fault.length * LETTER ? `<text x="${left + 2}" y="${top + 10}">${escaped(fault)}</text>` : ''
  const kind = fault === 'none' ? 'calm' : 'span'
  return `<g>${title}<rect class="${kind}" x="${left}" y="${top}" width="${width}" height="${BAR}"/>${name}</g>`
}

interface Curve {
  readonly title: string
  readonly kind: string
  readonly unit: string
  readonly values: readonly number[]
  readonly top: number
  readonly x: (ms: number) => number
}

function curve({ title, kind, unit, values, top, x }: Curve): string {
  const most = Math.max(1, ...values)
  const points = values.map((value, index) => {
    const y = top + PANEL - (value / most) * (PANEL - 14)
    return `${x((index + 0.5) * SLICE_MS).toFixed(1)},${y.toFixed(1)}`
  })
  return (
    `<line class="axis" x1="${LEFT}" x2="${WIDTH - 10}" y1="${top + PANEL}" y2="${top + PANEL}"/>` +
    `<text x="0" y="${top + PANEL}">${title}</text><text x="0" y="${top + 14}">${Math.round(most)}${unit}</text>` +
    `<polyline class="${kind}" points="${points.join(' ')}"/>`
  )
}

/** Round times for the axis, a dozen at most. */
function ticks(total: number): number[] {
  const step =
    [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600].find((s) => total / (s * 1000) <= 12) ?? 7200
  return Array.from({ length: Math.floor(total / (step * 1000)) + 1 }, (_, index) => index * step * 1000)
}
