import fc from 'fast-check'
import { type Case, type Script, scriptsOf } from '../app/script.ts'
import { type Problem, show } from '../check/compare.ts'
import { momentOf, recoverAndCheck } from '../check/recover.ts'
import type { CrashState } from '../disk/draw.ts'
import { Machine } from '../machine/machine.ts'
import { type Recording, record } from '../recording/record.ts'
import { behind, Coverage, destructions } from './coverage.ts'
import type { Options } from './options.ts'
import { drawStates } from './states.ts'

export interface Violation {
  readonly replay: string
  readonly kind: string
  readonly problems: readonly string[]
  /** What was done up to the cut. */
  readonly steps: readonly string[]
  readonly behind: string | undefined
  readonly log: readonly string[]
}

/** What a lane tells its parent. */
export type Line =
  | { readonly type: 'violation'; readonly violation: Violation }
  | { readonly type: 'shrunk'; readonly violation: Violation }
  | { readonly type: 'fault'; readonly message: string }
  | {
      readonly type: 'done'
      readonly states: Record<string, Record<string, number>>
      readonly steps: Record<string, Record<string, number>>
      readonly coverage: Record<string, Record<string, number>>
    }

type Say = (line: Line) => void

// What a script may cost where a violation's script is made shorter.
const SHRINK_STATES = 60

/** The scripts of one lane: every `lanes`-th. */
export async function runLane(options: Options, lane: number, say: Say): Promise<void> {
  const machine = new Machine()
  const run = new Run(options, machine, say)
  try {
    if (options.replay) await run.replay(options.replay)
    else {
      const scripts = Math.ceil(options.states / options.statesPerScript)
      for (let number = lane; number < scripts; number += options.lanes) {
        const name = options.cases[number % options.cases.length] ?? 'drain'
        const left = options.states - number * options.statesPerScript
        await run.script(
          name,
          (options.seed * 10_007 + number) % 2 ** 31,
          Math.min(left, options.statesPerScript),
        )
      }
    }
  } catch (error) {
    say({ type: 'fault', message: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  } finally {
    run.end()
    machine.close()
  }
}

class Run {
  readonly #options: Options
  readonly #machine: Machine
  readonly #say: Say
  readonly #states = new Coverage()
  readonly #steps = new Coverage()
  readonly #coverage = new Coverage()
  readonly #shrunk = new Set<string>()

  constructor(options: Options, machine: Machine, say: Say) {
    this.#options = options
    this.#machine = machine
    this.#say = say
  }

  end(): void {
    this.#say({
      type: 'done',
      states: this.#states.toJSON(),
      steps: this.#steps.toJSON(),
      coverage: this.#coverage.toJSON(),
    })
  }

  async script(name: Case, seed: number, count: number): Promise<void> {
    const recording = await record(await drawScript(name, seed), this.#machine)
    for (const text of recording.steps.values()) this.#steps.add(text.split('(')[0] ?? text, name)
    const found = destructions(recording)
    for (const state of drawStates(recording, seed, count)) {
      this.#states.add('states', name)
      const what = behind(found, state.cut)
      if (what !== undefined) this.#coverage.add(what, name)
      const violation = await this.#try(recording, state, `${name}/${seed}`)
      if (!violation) continue
      this.#states.add('violations', name)
      this.#say({ type: 'violation', violation })
      if (this.#options.shrink === 0 || this.#shrunk.has(`${violation.kind} ${what}`)) continue
      this.#shrunk.add(`${violation.kind} ${what}`)
      await this.#shrink(name, seed, violation.kind)
      // The shortest one took the place of the recording on the machine.
      return
    }
  }

  async replay({ name, script, cut, state }: NonNullable<Options['replay']>): Promise<void> {
    const recording = await record(await drawScript(name, script), this.#machine)
    const violation = await this.#try(recording, { cut, seed: state }, `${name}/${script}`)
    this.#states.add('states', name)
    if (violation) this.#say({ type: 'violation', violation })
  }

  async #try(recording: Recording, state: CrashState, name: string): Promise<Violation | undefined> {
    const { problems, log } = await recoverAndCheck(recording, state, this.#machine)
    const [first] = problems
    return first && describe(recording, state, { name, problems, log, kind: first.kind })
  }

  /** A shorter script that ends in the same kind of violation, for as long as the options allow. */
  async #shrink(name: Case, seed: number, kind: string): Promise<void> {
    let shortest: Violation | undefined
    const property = fc.asyncProperty(scriptsOf(name), async (script) => {
      const recording = await record(script, this.#machine)
      for (const state of drawStates(recording, seed, SHRINK_STATES)) {
        const violation = await this.#try(recording, state, `shrunk ${name}/${seed}`)
        if (violation?.kind !== kind) continue
        shortest = violation
        throw new Error(violation.problems[0])
      }
    })
    await fc.check(property, {
      seed,
      numRuns: 1,
      unbiased: true,
      interruptAfterTimeLimit: this.#options.shrink * 1000,
    })
    if (shortest) this.#say({ type: 'shrunk', violation: shortest })
  }
}

/** The script of a seed, the same that shrinking begins with. */
async function drawScript(name: Case, seed: number): Promise<Script> {
  let drawn: Script | undefined
  await fc.check(
    fc.asyncProperty(scriptsOf(name), async (script) => {
      drawn = script
    }),
    { seed, numRuns: 1, unbiased: true },
  )
  if (!drawn) throw new Error('no script was drawn')
  return drawn
}

function describe(
  recording: Recording,
  state: CrashState,
  found: { name: string; kind: string; problems: readonly Problem[]; log: readonly string[] },
): Violation {
  const moment = momentOf(recording, state.cut)
  const { distant, inlineLimit } = recording.script
  return {
    replay: `${found.name}/${state.cut}/${state.seed}`,
    kind: found.kind,
    problems: found.problems.map(show),
    steps: [
      `store ${distant ? 'on other machines' : 'embedded'}, inline limit ${inlineLimit}`,
      ...[...recording.steps]
        .filter(([number]) => number <= moment.begun)
        .map(([number, text]) => `${number} ${text}`),
      moment.done < moment.begun ? `power cut within step ${moment.begun}` : 'power cut',
    ],
    behind: behind(destructions(recording), state.cut),
    log: found.log,
  }
}
