import type { Failure } from '../daemon/engine.ts'

// A list longer than this on a terminal helps nobody; the rest is one command away.
const SHOWN = 50

/** The lines of a list, cut at a length that people read. `rest` says where the whole list is, `count` how long that is. */
export function shortened(lines: readonly string[], rest: string, count = lines.length): string[] {
  if (count <= SHOWN) return [...lines]
  return [...lines.slice(0, SHOWN), `… and ${count - SHOWN} more: ${rest}`]
}

export function failureLines(failures: readonly Failure[], rest: string): string[] {
  return shortened(
    failures.map(({ path, reason }) => `failed  ${path}: ${reason}`),
    rest,
  )
}

/** `1 file`, `2 files` */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
