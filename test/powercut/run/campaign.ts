import fc from 'fast-check'
import { type Case, type Script, scriptsOf, type Variant } from '../app/script.ts'
import { type Problem, show } from '../check/compare.ts'
import { type PromiseName, promiseOf } from '../check/promises.ts'
import { momentOf, mountAndCheck, recover, recoverAndCheck } from '../check/recover.ts'
import type { CrashState } from '../disk/draw.ts'
import { Machine } from '../machine/machine.ts'
import { EndedFirst, type Kill, type Recording, record } from '../recording/record.ts'
import { Coverage } from './coverage.ts'
import { behind, destructionsOf } from './destructions.ts'
import { type Options, showKill } from './options.ts'
import { ROWS, type Row, scriptsOfRow } from './rows.ts'
import {
  describeCut,
  describeKill,
  drawKill,
  drawStates,
  drawStatesAfterKill,
  lastPassage,
  statesBehind,
} from './states.ts'

export interface Violation {
  /** Options of the harness with which it is tried again; nothing where there are none. */
  readonly replay: string
  readonly kind: string
  readonly promise: PromiseName
  readonly problems: readonly string[]
  /** What was done up to the cut. */
  readonly steps: readonly string[]
  readonly behind: string | undefined
  readonly log: readonly string[]
}

/** What a lane tells its parent. */
export type Line =
  /** The state that it is about to try. */
  | { readonly type: 'trying'; readonly replay: string }
  | { readonly type: 'violation'; readonly violation: Violation }
  | { readonly type: 'shrunk'; readonly violation: Violation }
  | { readonly type: 'fault'; readonly message: string }
  | {
      readonly type: 'done'
      readonly states: Record<string, Record<string, number>>
      readonly steps: Record<string, Record<string, number>>
      readonly coverage: Record<string, Record<string, number>>
      readonly kills: Record<string, Record<string, number>>
    }

type Say = (line: Line) => void

// What a script may cost where a violation's script is made shorter.
const SHRINK_STATES = 60

// After every so many crash states the daemon's start from one is recorded, too, and the power is cut so often in that.
const AGAIN_EVERY = 8
const AGAIN_STATES = 4

// After so many the daemon is killed once, and the power is cut so often behind that.
const KILL_EVERY = 16
const KILL_STATES = 4
// One kill in so many is followed by another one while the daemon starts.
const KILLED_TWICE = 4
// A kill near the end of a recording may find the next one shorter; the step keeps the seeds of neighbours apart.
const KILL_ATTEMPTS = 5
const KILL_STEP = 1_000_003
const WHOSE = ['worker', 'both'] as const

// For each place in which a row's step is tried, so many starts after a power cut are looked at, if not fewer are wanted.
const STARTS = 3

/**
 * What one process does before another one goes on: some scripts of a run, one state again, or the scenario of a row.
 */
export type Work =
  | { readonly kind: 'scripts'; readonly first: number; readonly count: number }
  | { readonly kind: 'replay' }
  | { readonly kind: 'row'; readonly row: string }

/** `known`: violations of which a script was made shorter already. */
export async function runWork(
  options: Options,
  work: Work,
  known: readonly string[],
  say: Say,
): Promise<void> {
  const machine = new Machine()
  const run = new Run(options, machine, known, say)
  try {
    if (work.kind === 'scripts') await run.scripts(work.first, work.count)
    else if (work.kind === 'row') await run.row(work.row)
    else if (options.replay) await run.replay(options.replay)
  } catch (error) {
    say({ type: 'fault', message: errorText(error) })
  } finally {
    run.end()
    machine.close()
  }
}

const errorText = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : String(error)

class Run {
  readonly #options: Options
  readonly #machine: Machine
  readonly #say: Say
  readonly #states = new Coverage()
  readonly #steps = new Coverage()
  readonly #coverage = new Coverage()
  readonly #kills = new Coverage()
  readonly #shrunk: Set<string>

  constructor(options: Options, machine: Machine, known: readonly string[], say: Say) {
    this.#shrunk = new Set(known)
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
      kills: this.#kills.toJSON(),
    })
  }

  async scripts(first: number, count: number): Promise<void> {
    const { states, statesPerScript, cases, seed } = this.#options
    for (let number = first; number < first + count; number += 1) {
      const name = cases[number % cases.length] ?? 'drain'
      const own = (seed * 10_007 + number) % 2 ** 31
      try {
        await this.#script(name, own, Math.min(states - number * statesPerScript, statesPerScript))
      } catch (error) {
        this.#say({ type: 'fault', message: `${name}/${own}: ${errorText(error)}` })
      }
    }
  }

  /** Cuts the power right behind what the row's scripts destroy, each time in the ways that are worst. */
  async row(name: string): Promise<void> {
    const row = ROWS[name]
    if (!row) throw new Error(`${name}: not in the table`)
    for (const way of [...(row.also ?? []), row]) await this.#way(name, way)
  }

  async #way(name: string, row: Omit<Row, 'also'>): Promise<void> {
    const { cases } = this.#options
    for (const script of scriptsOfRow(row).filter(({ mode }) => cases.includes(mode))) {
      const met = new Set<string>()
      for await (const recording of this.#recordingsOf(row, script)) {
        for (const state of statesBehind(recording, row.steps, this.#options.places)) {
          this.#states.add(name, script.mode)
          met.add(destructionsOf(recording).get(state.gone) ?? '')
          const violation = await this.#try(recording, state, this.#withBroken(`--row "${name}"`))
          if (violation) this.#say({ type: 'violation', violation })
        }
      }
      for (const step of row.steps) {
        const store = script.distant ? 'on other machines' : 'embedded'
        const message = `${name} (${script.mode}, store ${store}): the script brings about no "${step}"`
        if (!met.has(step)) this.#say({ type: 'fault', message })
      }
    }
  }

  /** The script's own, or starts after kills within it, or after power cuts at its end. */
  async *#recordingsOf(row: Omit<Row, 'also'>, script: Script): AsyncIterable<Recording> {
    const { places } = this.#options
    const recording = await record(script, this.#machine)
    for (const [index, point] of (row.killedAt ?? []).entries()) {
      for (const whose of places > 1 ? WHOSE : [index % 2 === 0 ? WHOSE[0] : WHOSE[1]]) {
        const at = lastPassage(recording, point)
        yield await record(script, this.#machine, [{ at, whose }])
      }
    }
    if (row.atStart === undefined && !row.killedAt) yield recording
    const cut = recording.events.length - 1
    for (let seed = 0; seed < Math.min(row.atStart ?? 0, places * STARTS); seed += 1)
      yield await recover(recording, { cut, seed }, this.#machine)
  }

  async #script(name: Case, seed: number, count: number): Promise<void> {
    const recording = await record(await drawScript(name, seed, this.#options.variant), this.#machine)
    this.#steps.add(`mounted ${recording.script.variant}`, name)
    for (const text of recording.steps.values()) this.#steps.add(text.split('(')[0] ?? text, name)
    const killed = Math.floor(count / KILL_EVERY)
    let left = count - killed * KILL_STATES
    for (const [index, state] of drawStates(recording, seed, count).entries()) {
      if (left <= 0) break
      left -= 1
      if (await this.#violates(recording, state, { name, seed, path: '' })) return
      if (index % AGAIN_EVERY !== AGAIN_EVERY - 1 || left < AGAIN_STATES) continue
      left -= AGAIN_STATES
      const again = await recover(recording, state, this.#machine)
      for (const second of drawStates(again, seed, AGAIN_STATES)) {
        const path = `/${state.cut}/${state.seed}`
        if (await this.#violates(again, second, { name, seed, path })) return
      }
    }
    // Last: a recording with a kill takes the recorded machine's place.
    for (let number = 0; number < killed; number += 1) {
      if (await this.#violatesKilled(recording, name, seed, number)) return
    }
  }

  /** The daemon is killed and starts again, and while it does or later the power is cut. */
  async #violatesKilled(plain: Recording, name: Case, seed: number, number: number): Promise<boolean> {
    const recording = await this.#killed(plain, seed + number)
    this.#kills.add(describeKill(recording), name)
    for (const state of drawStatesAfterKill(recording, seed + number, KILL_STATES)) {
      const path = `/${recording.kills.map(showKill).join('/')}`
      this.#kills.add(describeCut(recording, state.cut), name)
      if (await this.#violates(recording, state, { name, seed, path })) return true
      // What a kill alone has cost is the same in each state.
      if (recording.problems.length > 0) return false
    }
    return false
  }

  async #killed(plain: Recording, seed: number): Promise<Recording> {
    const once = await this.#killedAgain(plain, [], seed)
    if (seed % KILLED_TWICE !== 0) return once
    return this.#killedAgain(once, once.kills, seed)
  }

  /** Another kill is drawn where a recording ended before it; @throws Error if each did. */
  async #killedAgain(last: Recording, kills: readonly Kill[], seed: number): Promise<Recording> {
    let ended: unknown
    for (let attempt = 0; attempt < KILL_ATTEMPTS; attempt += 1) {
      const kill = drawKill(last, seed + attempt * KILL_STEP)
      try {
        return await record(last.script, this.#machine, [...kills, kill])
      } catch (error) {
        if (!(error instanceof EndedFirst)) throw error
        ended = error
      }
    }
    throw ended
  }

  /** True if it does, and the recording's place on the machine was taken. */
  async #violates(
    recording: Recording,
    state: CrashState,
    { name, seed, path }: { name: Case; seed: number; path: string },
  ): Promise<boolean> {
    const kind = recording.before ? ' of a second cut' : recording.kills.length > 0 ? ' behind a kill' : ''
    this.#states.add(`states${kind}`, name)
    const what = behind(destructionsOf(recording), state.cut)
    if (what !== undefined) this.#coverage.add(what, name)
    const violation = await this.#try(recording, state, this.#replayOf(`${name}/${seed}${path}`, state))
    if (!violation) return false
    this.#states.add('violations', name)
    this.#say({ type: 'violation', violation })
    const key = `${violation.kind} ${what}`
    if (this.#options.shrink === 0 || this.#shrunk.has(key)) return false
    this.#shrunk.add(key)
    await this.#shrink(name, seed, violation.kind, recording.kills.length > 0)
    return true
  }

  async replay({ name, script, kills, cut, state, second }: NonNullable<Options['replay']>): Promise<void> {
    const drawn = await drawScript(name, script, this.#options.variant)
    let recording = await record(drawn, this.#machine, kills)
    let last: CrashState = { cut, seed: state }
    let path = kills.map((kill) => `/${showKill(kill)}`).join('')
    if (second) {
      recording = await recover(recording, last, this.#machine)
      path += `/${cut}/${state}`
      last = second
    }
    const violation = await this.#try(recording, last, this.#replayOf(`${name}/${script}${path}`, last))
    this.#states.add('states', name)
    if (violation) this.#say({ type: 'violation', violation })
  }

  async #try(recording: Recording, state: CrashState, replay: string): Promise<Violation | undefined> {
    this.#say({ type: 'trying', replay })
    const [own] = recording.problems
    if (own)
      return describe(recording, state, { replay, problems: recording.problems, log: [], kind: own.kind })
    let checked = await recoverAndCheck(recording, state, this.#machine)
    if (checked.problems.length === 0 && this.#isMounted(recording, state)) {
      this.#states.add('of these through the command and a real mount', recording.script.mode)
      checked = mountAndCheck(recording, state, this.#machine)
    }
    const { problems, log } = checked
    const [first] = problems
    return first && describe(recording, state, { replay, problems, log, kind: first.kind })
  }

  /** Some of the states, where the processes of the command can reach the store. */
  #isMounted({ script }: Recording, { seed }: CrashState): boolean {
    const { mounted, replay, broken } = this.#options
    if (script.distant || mounted === 0 || broken !== undefined) return false
    return replay !== undefined || seed % mounted === 0
  }

  #replayOf(script: string, { cut, seed }: CrashState): string {
    const { variant } = this.#options
    const more = variant === undefined ? '' : ` --variant ${variant}`
    return this.#withBroken(`--replay ${script}/${cut}/${seed}${more}`)
  }

  #withBroken(replay: string): string {
    const { broken } = this.#options
    return broken === undefined ? replay : `${replay} --broken ${broken}`
  }

  /** A shorter script that ends in the same kind of violation, for as long as the options allow. */
  async #shrink(name: Case, seed: number, kind: string, isKilled: boolean): Promise<void> {
    let shortest: Violation | undefined
    const property = fc.asyncProperty(scriptsOf(name, this.#options.variant), async (script) => {
      const plain = await record(script, this.#machine)
      const recording = isKilled ? await this.#killed(plain, seed) : plain
      const states = isKilled ? drawStatesAfterKill : drawStates
      for (const state of states(recording, seed, SHRINK_STATES)) {
        const violation = await this.#try(recording, state, '')
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
async function drawScript(name: Case, seed: number, variant: Variant | undefined): Promise<Script> {
  let drawn: Script | undefined
  await fc.check(
    fc.asyncProperty(scriptsOf(name, variant), async (script) => {
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
  found: { replay: string; kind: string; problems: readonly Problem[]; log: readonly string[] },
): Violation {
  const moment = momentOf(recording, state.cut)
  const { distant, inlineLimit, variant } = recording.script
  return {
    replay: found.replay,
    kind: found.kind,
    promise: promiseOf(found.kind),
    problems: found.problems.map(show),
    steps: [
      `${variant}, store ${distant ? 'on other machines' : 'embedded'}, inline limit ${inlineLimit}`,
      ...[...recording.steps]
        .filter(([number]) => number <= moment.begun)
        .map(([number, text]) => `${number} ${text}`),
      ...recording.kills.map(({ at, whose }) => {
        const { begun } = momentOf(recording, at)
        return `kill -9 of ${whose === 'worker' ? 'the worker' : 'both processes'} within or behind step ${begun}`
      }),
      ...(recording.before ? ['power cut, and another one while the daemon came back'] : []),
      moment.done < moment.begun ? `power cut within step ${moment.begun}` : 'power cut',
    ],
    behind: behind(destructionsOf(recording), state.cut),
    log: found.log,
  }
}
