import { join } from 'node:path'
import fc from 'fast-check'
import { describeAction } from './actions.ts'
import { keepEvidence } from './evidence.ts'
import type { Plan } from './matrix.ts'
import { type Collector, shownMode, type Violation } from './report/collector.ts'
import { type Script, scripts } from './script.ts'
import { Session } from './session.ts'
import { Violation as Broken } from './violation.ts'
import type { Program } from './world/daemon.ts'
import type { StoreUnderTest } from './world/store.ts'
import { World } from './world/world.ts'

export interface Run {
  readonly program: Program
  readonly collector: Collector
  /** How long a violation may be shrunk, in milliseconds; 0 for not at all. */
  readonly shrinkMs: number
  readonly storeName: string
  /** Where to leave what a violation leaves behind. */
  readonly evidence: string | undefined
  readonly log: (line: string) => void
}

/** Runs one case, and shrinks it if it breaks a promise. True if it holds. */
export async function runPlan(
  run: Run,
  plan: Plan,
  store: StoreUnderTest,
  lane: number,
  path?: string,
): Promise<boolean> {
  const { collector, shrinkMs, log } = run
  let firstFailure: number | undefined
  const property = fc.asyncProperty(casesOf(plan, path), async (script) => {
    if (firstFailure !== undefined && performance.now() - firstFailure > shrinkMs) fc.pre(false)
    // Cases tried while shrinking say nothing about the matrix.
    const counted = firstFailure === undefined
    try {
      await runScript(run, plan, script, store, lane, counted)
    } catch (error) {
      if (firstFailure === undefined)
        log(`  ${shownMode(plan.mode, plan.settings.variant)}: ${messageOf(error)}`)
      firstFailure ??= performance.now()
      throw error
    }
  })
  const parameters = { seed: plan.seed, numRuns: 1, endOnFailure: shrinkMs === 0 }
  const details = await fc.check(property, path && !isShrunk(path) ? { ...parameters, path } : parameters)
  collector.sessions += 1
  if (!details.failed) return true
  const script = details.counterexample?.[0]
  const violation: Violation = {
    mode: plan.mode,
    variant: plan.settings.variant,
    faults: plan.faults,
    message: messageOf(details.errorInstance),
    replay:
      `npm run test:chaos -- --store ${run.storeName} --mode ${plan.mode} --variant ${plan.settings.variant} --fault ${plan.faults.join(',')} ` +
      `--seed ${plan.seed} --path ${isShrunk(path) ? path : (details.counterexamplePath ?? '0')}`,
    script: script ? describeScript(script) : [],
    log: details.errorInstance instanceof Broken ? details.errorInstance.log : '',
    atMs: collector.elapsedMs,
  }
  collector.violations.push(violation)
  return false
}

const isShrunk = (path: string | undefined): path is string => path?.includes(':') ?? false

/**
 * What a case is drawn from. Of a path that was shrunk the one case at its end: fast-check goes on from there through
 * every other way to shrink, for hours if they all hold.
 */
function casesOf({ faults, seed }: Plan, path: string | undefined): fc.Arbitrary<Script> {
  const cases = scripts(faults)
  if (!isShrunk(path)) return cases
  return fc.constantFrom(...fc.sample(cases, { seed, path, numRuns: 1 }))
}

async function runScript(
  run: Run,
  plan: Plan,
  script: Script,
  store: StoreUnderTest,
  lane: number,
  counted: boolean,
): Promise<void> {
  const world = await World.make(run.program, store, plan.settings)
  try {
    const collector = counted ? run.collector : run.collector.aside()
    await new Session(world, plan.mode, script, collector, lane).run()
  } catch (error) {
    if (counted && run.evidence !== undefined) {
      keepEvidence(world, join(run.evidence, `case-${plan.seed}`))
    }
    throw error
  } finally {
    try {
      await store.heal()
    } finally {
      await world.clear()
    }
  }
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.name === 'Error' ? error.message : `${error.message} ${error.stack ?? ''}`
}

function describeScript({ phases }: Script): string[] {
  return phases.flatMap(({ fault, excursion, before, during, after }) => {
    const part = (title: string, turns: readonly (readonly Parameters<typeof describeAction>[0][])[]) =>
      turns.flatMap((turn, client) =>
        turn.map((action) => `  ${title} c${client}: ${describeAction(action)}`),
      )
    const lines = [...part('before', before), ...part('during', during), ...part('after', after)]
    const title = `fault ${fault ?? '-'}${excursion === undefined ? '' : `, mode ${excursion} and back`}`
    return lines.length === 0 && fault === undefined ? [] : [title, ...lines]
  })
}
