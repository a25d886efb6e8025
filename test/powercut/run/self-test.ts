import { BROKEN } from '../broken/mutations.ts'
import type { Violation } from './campaign.ts'
import { runLanes } from './lanes.ts'
import { type Options, Usage } from './options.ts'

/**
 * Tries the harness itself: each product that is broken on purpose has to be caught, by a promise that it
 * breaks, in the crash states that a run with the same seed begins with. True if all were.
 */
export async function selfTest(
  options: Options,
  shim: string,
  log: (line: string) => void,
): Promise<boolean> {
  const names = options.broken === undefined ? Object.keys(BROKEN) : options.broken.split(',')
  let missed = 0
  for (const name of names) {
    const broken = BROKEN[name]
    if (!broken) throw new Usage(`--broken ${name}: one of ${Object.keys(BROKEN).join(', ')}`)
    const own = { ...options, broken: name, cases: broken.cases, shrink: 0 }
    let found: Violation | undefined
    const { states, faults, seconds } = await runLanes(own, shim, {
      violation: (violation) => {
        if (broken.breaks.includes(violation.promise)) found ??= violation
        return found === undefined
      },
      shortest: () => undefined,
      fault: log,
    })
    const took = `${seconds.toFixed(0)} s`
    if (found)
      log(`caught  ${name} (${took}): ${found.promise} ${found.problems[0]}\n        ${found.replay}`)
    else log(`MISSED  ${name} (${took}, ${states.total} states)`)
    if (!found || faults.length > 0) missed += 1
  }
  log(`caught ${names.length - missed} of ${names.length}`)
  return missed === 0
}
