import { parseArgs } from 'node:util'
import { isMode, MODES, type Mode } from '../../src/base/modes.ts'
import { VARIANTS, type Variant } from './world/world.ts'

export interface Options {
  readonly minutes: number
  readonly seed: number
  /** Replays one case: the path that a violation was reported with. */
  readonly path: string | undefined
  readonly modes: readonly Mode[]
  /** Only these faults. */
  readonly faults: readonly string[] | undefined
  /** Of every mount; undefined where they take turns. */
  readonly variant: Variant | undefined
  readonly store: 'riak' | 'embedded'
  readonly report: string
  /** Mounts under test at once. */
  readonly lanes: number
  /** How long a violation is shrunk, in seconds. */
  readonly shrink: number
  readonly selfTest: boolean
  /** A deliberately broken overlay instead of the product (self-test). */
  readonly broken: string | undefined
}

/** The command line cannot be used; one line says why. */
export class Usage extends Error {}

const HELP = `npm run test:chaos -- [options]
  --minutes N     how long to go on, at least until every cell was covered once (default 5)
  --seed N        of everything that is drawn (default: drawn, and printed)
  --path P        replay one case of --seed, with the --mode and --fault it was reported with
  --mode M[,M]    only these modes
  --fault F[,F]   only these faults, in this order; F+F is two at once
  --variant V     plain, ack-store (--ack store) or source-readonly (--source-readonly); default: they take turns
  --store S       riak (FERRYFS_RIAK, else the simulator) or embedded
  --report DIR    default reports/chaos
  --lanes N       mounts under test at once (default 2)
  --shrink S      how many seconds to make a case that fails smaller (default 60, 0 for not at all)
  --self-test     run the deliberately broken overlays: each has to be caught
  --broken NAME   with --self-test: only this one`

/** @throws Usage */
export function readOptions(args: readonly string[]): Options {
  const values = parsed(args)
  if (values.help) throw new Usage(HELP)
  const modes = list(values.mode) ?? MODES
  const store = values.store ?? 'riak'
  if (store !== 'riak' && store !== 'embedded') throw new Usage(`--store ${store}: riak or embedded`)
  if (values.path !== undefined && (values.seed === undefined || values.fault === undefined)) {
    throw new Usage('--path replays a case: give --seed, --mode and --fault as they were reported, too')
  }
  const { variant } = values
  if (variant !== undefined && !isVariant(variant)) {
    throw new Usage(`--variant ${variant}: one of ${VARIANTS.join(', ')}`)
  }
  return {
    minutes: number('minutes', values.minutes, 5, [0, 10_000]),
    seed: number('seed', values.seed, Math.trunc(Math.random() * 2 ** 31), [0, 2 ** 31]),
    path: values.path,
    modes: modes.map((mode) => {
      if (!isMode(mode)) throw new Usage(`--mode ${mode}: one of ${MODES.join(', ')}`)
      return mode
    }),
    faults: list(values.fault),
    variant,
    store,
    report: values.report ?? 'reports/chaos',
    lanes: number('lanes', values.lanes, 2, [1, 16]),
    shrink: number('shrink', values.shrink, 60, [0, 86_400]),
    selfTest: values['self-test'] ?? false,
    broken: values.broken,
  }
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const
  try {
    return parseArgs({
      args: [...args],
      options: {
        minutes: text,
        seed: text,
        path: text,
        mode: text,
        fault: text,
        variant: text,
        store: text,
        report: text,
        lanes: text,
        shrink: text,
        broken: text,
        'self-test': { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values
  } catch (error) {
    throw new Usage(`${error instanceof Error ? error.message : String(error)}\n${HELP}`)
  }
}

function isVariant(text: string): text is Variant {
  return (VARIANTS as readonly string[]).includes(text)
}

function list(value: string | undefined): string[] | undefined {
  return value === undefined || value === '' ? undefined : value.split(',')
}

function number(
  name: string,
  text: string | undefined,
  fallback: number,
  [least, most]: readonly [number, number],
): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (text.trim() !== '' && value >= least && value <= most) return value
  throw new Usage(`--${name} ${text}: a number from ${least} to ${most}`)
}
