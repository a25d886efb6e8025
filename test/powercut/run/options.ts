import { parseArgs } from 'node:util'
import { MODES } from '../../../src/base/modes.ts'
import { CASES, type Case, isCase, VARIANTS, type Variant } from '../app/script.ts'
import type { CrashState } from '../disk/draw.ts'
import type { Kill } from '../recording/record.ts'
import { ROWS } from './rows.ts'

/** One crash state, by name: what a violation is printed with. */
interface Replay {
  readonly name: Case
  readonly script: number
  /** The daemon is killed before the power is cut. */
  readonly kills: readonly Kill[]
  readonly cut: number
  readonly state: number
  /** The power is cut once more, while the daemon starts after the first cut. */
  readonly second: CrashState | undefined
}

export interface Options {
  readonly states: number
  readonly seed: number
  readonly cases: readonly Case[]
  readonly replay: Replay | undefined
  /** Undefined: drawn, mostly `plain`. */
  readonly variant: Variant | undefined
  /** Processes that try states side by side. */
  readonly lanes: number
  /** Crash states that are drawn from one recording. */
  readonly statesPerScript: number
  /** One in so many states with an embedded store is mounted by the command as well; 0 for none. */
  readonly mounted: number
  /** Seconds for making the script of a violation shorter; 0 for not at all. */
  readonly shrink: number
  readonly report: string
  readonly selfTest: boolean
  /** Rows of the table in docs/crash-points.md whose scripts are tried, and nothing else. */
  readonly rows: readonly string[] | undefined
  /** Behind how many steps of one kind, spread over a recording, a row's script is cut. */
  readonly places: number
  /** A product that is broken on purpose. */
  readonly broken: string | undefined
}

/** The command line cannot be used; one line says why. */
export class Usage extends Error {}

const HELP = `npm run test:power-cut -- [options]
  --states N      crash states to try (default 500)
  --seed N        of everything that is drawn (default: drawn, and printed)
  --mode M[,M]    only these: ${CASES.join(', ')}
  --variant V     only this: ${VARIANTS.join(', ')} (default: drawn)
  --replay R      one crash state again, as a violation was reported with it: MODE/SCRIPT[/KILL]/CUT/STATE[/CUT/STATE]
  --per-script N  crash states from one recording (default 16)
  --mounted N     one state in N (of those with an embedded store) through \`ferryfs mount\`, too (default 40, 0 for none)
  --lanes N       processes side by side (default 2)
  --shrink S      seconds to make the script of a violation shorter (default 60, 0 for not at all)
  --report DIR    default reports/power-cut
  --rows          cut the power behind every row of the table in docs/crash-points.md
  --row TEXT      behind this one, by its first column
  --places N      with a row: cut behind so many steps of each kind of a recording (default 2)
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
    variant: variantOf(values.variant),
    lanes: number('lanes', values.lanes, 2, 1),
    statesPerScript: number('per-script', values['per-script'], 16, 1),
    mounted: number('mounted', values.mounted, 40),
    shrink: number('shrink', values.shrink, 60),
    report: values.report ?? 'reports/power-cut',
    selfTest: values['self-test'] ?? false,
    rows: rowsOf(values.rows, values.row),
    places: number('places', values.places, 2, 1),
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
    variant: text,
    lanes: text,
    'per-script': text,
    mounted: text,
    shrink: text,
    report: text,
    broken: text,
    row: text,
    places: text,
    rows: flag,
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
  const [name = '', ...parts] = text.split('/')
  const kills = parts.flatMap(killOf)
  const rest = parts.filter((part) => killOf(part).length === 0)
  const numbers = rest.map(Number)
  const isLong = rest.length === 5
  if (!isCase(name) || (rest.length !== 3 && !isLong) || !numbers.every(Number.isInteger)) {
    throw new Usage(
      `--replay ${text}: MODE/SCRIPT[/KILL]/CUT/STATE[/CUT/STATE], as in ${MODES[0]}/17/300/12345`,
    )
  }
  const [script = 0, cut = 0, state = 0, again = 0, seed = 0] = numbers
  return { name, script, kills, cut, state, second: isLong ? { cut: again, seed } : undefined }
}

/** As a replay has it. */
export const showKill = ({ at, whose }: Kill): string => `${whose}-${at}`

function killOf(text: string): Kill[] {
  const [, whose, at] = /^(worker|both)-(\d+)$/.exec(text) ?? []
  return whose === 'worker' || whose === 'both' ? [{ whose, at: Number(at) }] : []
}

function rowsOf(all: boolean | undefined, row: string | undefined): readonly string[] | undefined {
  if (all) return Object.keys(ROWS)
  if (row === undefined) return undefined
  if (!(row in ROWS)) throw new Usage(`--row ${row}: one of\n${Object.keys(ROWS).join('\n')}`)
  return [row]
}

function variantOf(text: string | undefined): Variant | undefined {
  const variant = VARIANTS.find((each) => each === text)
  if (text !== undefined && !variant) throw new Usage(`--variant ${text}: one of ${VARIANTS.join(', ')}`)
  return variant
}

function number(name: string, text: string | undefined, fallback: number, least = 0): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (text.trim() !== '' && Number.isInteger(value) && value >= least && value < 2 ** 31) return value
  throw new Usage(`--${name} ${text}: a whole number, ${least} or more`)
}
