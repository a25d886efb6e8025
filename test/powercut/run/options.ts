import { parseArgs } from 'node:util'
import { MODES } from '../../../src/base/modes.ts'
import { CASES, type Case, isCase } from '../app/script.ts'

/** One crash state, by name: what a violation is printed with. */
interface Replay {
  readonly name: Case
  readonly script: number
  readonly cut: number
  readonly state: number
}

export interface Options {
  readonly states: number
  readonly seed: number
  readonly cases: readonly Case[]
  readonly replay: Replay | undefined
  /** Processes that try states side by side. */
  readonly lanes: number
  /** Crash states that are drawn from one recording. */
  readonly statesPerScript: number
  /** Seconds for making the script of a violation shorter; 0 for not at all. */
  readonly shrink: number
  readonly report: string
  readonly selfTest: boolean
  /** A product that is broken on purpose. */
  readonly broken: string | undefined
}

/** The command line cannot be used; one line says why. */
export class Usage extends Error {}

const HELP = `npm run test:power-cut -- [options]
  --states N      crash states to try (default 500)
  --seed N        of everything that is drawn (default: drawn, and printed)
  --mode M[,M]    only these: ${CASES.join(', ')}
  --replay R      one crash state again, as a violation was reported with it: MODE/SCRIPT/CUT/STATE
  --per-script N  crash states from one recording (default 25)
  --lanes N       processes side by side (default 2)
  --shrink S      seconds to make the script of a violation shorter (default 60, 0 for not at all)
  --report DIR    default reports/power-cut
  --self-test     run the deliberately broken products: each has to be caught
  --broken NAME   this broken product in the place of the real one`

/** @throws Usage */
export function readOptions(args: readonly string[]): Options {
  const values = parsed(args)
  if (values.help) throw new Usage(HELP)
  const cases = values.mode === undefined ? CASES : values.mode.split(',')
  return {
    states: number('states', values.states, 500),
    seed: number('seed', values.seed, Math.trunc(Math.random() * 2 ** 30)),
    cases: cases.map((name) => {
      if (!isCase(name)) throw new Usage(`--mode ${name}: one of ${CASES.join(', ')}`)
      return name
    }),
    replay: values.replay === undefined ? undefined : replayOf(values.replay),
    lanes: number('lanes', values.lanes, 2, 1),
    statesPerScript: number('per-script', values['per-script'], 25, 1),
    shrink: number('shrink', values.shrink, 60),
    report: values.report ?? 'reports/power-cut',
    selfTest: values['self-test'] ?? false,
    broken: values.broken,
  }
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const options = {
    states: text,
    seed: text,
    mode: text,
    replay: text,
    lanes: text,
    'per-script': text,
    shrink: text,
    report: text,
    broken: text,
    'self-test': flag,
    help: flag,
  }
  try {
    return parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new Usage(`${error instanceof Error ? error.message : String(error)}\n${HELP}`)
  }
}

function replayOf(text: string): Replay {
  const [name = '', ...rest] = text.split('/')
  const [script, cut, state] = rest.map(Number)
  if (!isCase(name) || rest.length !== 3 || [script, cut, state].some((value) => !Number.isInteger(value))) {
    throw new Usage(`--replay ${text}: MODE/SCRIPT/CUT/STATE, as in ${MODES[0]}/17/300/12345`)
  }
  return { name, script: script ?? 0, cut: cut ?? 0, state: state ?? 0 }
}

function number(name: string, text: string | undefined, fallback: number, least = 0): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (text.trim() !== '' && Number.isInteger(value) && value >= least && value < 2 ** 31) return value
  throw new Usage(`--${name} ${text}: a whole number, ${least} or more`)
}
