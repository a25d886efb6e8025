import { BROKEN, type Broken } from '../broken/mutations.ts'
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
    const began = performance.now()
    const own = { ...options, broken: name, cases: broken.cases, shrink: 0 }
    const found =
      (broken.rows && (await violationOf({ ...own, rows: broken.rows }, broken, shim))) ??
      (await violationOf(own, broken, shim))
    const took = `${((performance.now() - began) / 1000).toFixed(0)} s`
    if (found)
      log(`caught  ${name} (${took}): ${found.promise} ${found.problems[0]}\n        ${found.replay}`)
    else {
      log(`MISSED  ${name} (${took}, ${options.states} states)`)
      missed += 1
    }
  }
  log(`caught ${names.length - missed} of ${names.length}`)
  return missed === 0
}

/** The first violation of a promise that is broken on purpose. */
async function violationOf(options: Options, broken: Broken, shim: string): Promise<Violation | undefined> {
  let found: Violation | undefined
  await runLanes(options, shim, {
    violation: (violation) => {
      if (broken.breaks.includes(violation.promise)) found ??= violation
      return found === undefined
    },
    shortest: () => undefined,
    // That a broken product cannot be recorded says nothing.
    fault: () => undefined,
  })
  return found
}
