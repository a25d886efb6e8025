import { z } from 'zod'
import { MODES } from '../base/modes.ts'
import { isNamespace, NAMESPACE_RULE } from '../base/namespace.ts'
import { MOUNT_FLAGS, parseMountFlags } from './mount-flags.ts'
import { parseDuration, parseSize } from './units.ts'

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB

/** One setting, wherever it is given: its key in the file, and from that its flag and its variable. */
export interface Option<T> {
  /** Turns what a flag, the environment or the file holds into the value. */
  readonly schema: z.ZodType<T>
  /** Completes the sentence "… is X; allowed: …". */
  readonly allowed: string
  readonly fallback: T
}

function option<T>(schema: z.ZodType<T>, allowed: string, fallback: T): Option<T> {
  return { schema, allowed, fallback }
}

function oneOf<const T extends readonly string[]>(values: T, fallback: T[number]): Option<T[number]> {
  return option(z.enum(values), values.join(', '), fallback)
}

/** A text or number that `parse` understands, within bounds. */
function measured(
  parse: (text: string) => number | undefined,
  [min, max]: readonly [number, number],
): z.ZodType<number> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const parsed = parse(String(value))
    if (parsed !== undefined && parsed >= min && parsed <= max) return parsed
    context.addIssue({ code: 'custom', message: 'out of bounds' })
    return z.NEVER
  })
}

const size = (min: number, max: number, bounds: string, fallback: number): Option<number> =>
  option(measured(parseSize, [min, max]), `a size such as 64MiB or 10GiB, ${bounds}`, fallback)

const absolutePath = z.string().regex(/^\/[^\0]*$/)

/** A store URL by its shape; the adapter checks the rest when it opens it. A password never comes this way. */
const STORE_URL = /^(embedded:(\/[^\0]*)?|memory:|riak:\/\/[^/?#\s]+(\/[^\s]*)?)$/
const URL_PASSWORD = /^[a-z]+:\/\/[^/?#]*:[^/?#@]*@/

export interface ListenAddress {
  readonly host: string
  readonly port: number
}

const LOOPBACK = /^(127(?:\.\d{1,3}){3}|::1|localhost)$/

const listenAddress: z.ZodType<ListenAddress | undefined> = z
  .union([z.string(), z.number()])
  .transform((value, context) => {
    const text = String(value)
    if (text === 'off' || text === '') return undefined
    const match = /^(?:\[?([^\]]+)\]?:)?(\d{1,5})$/.exec(text)
    const host = match?.[1] ?? '127.0.0.1'
    const port = Number(match?.[2] ?? -1)
    if (LOOPBACK.test(host) && port >= 0 && port <= 65_535) return { host, port }
    context.addIssue({ code: 'custom', message: 'not a loopback address' })
    return z.NEVER
  })

const flag: z.ZodType<boolean> = z.union([
  z.boolean(),
  z.enum(['true', '1', 'yes']).transform(() => true),
  z.enum(['false', '0', 'no']).transform(() => false),
])

/**
 * Every setting but SOURCE and TARGET. The key is the name in the configuration file; the variable is FERRYFS_ and
 * the key in capitals with underscores; the flag, where there is one, is the key with hyphens.
 */
export const OPTIONS = {
  store: option(
    z.string().refine((url) => STORE_URL.test(url) && !URL_PASSWORD.test(url)),
    'embedded:, embedded:/absolute/path, riak://host:8087,host2:8087/?… or memory:; a password comes from ' +
      'passwordFile=… or FERRYFS_RIAK_PASSWORD, never in the URL',
    'embedded:',
  ),
  mode: option<(typeof MODES)[number] | undefined>(z.enum(MODES), MODES.join(', '), undefined),
  stateDir: option<string | undefined>(absolutePath, 'an absolute path', undefined),
  namespace: option(z.string().refine(isNamespace), NAMESPACE_RULE, 'ferryfs'),
  transport: oneOf(['kernel', 'fuse-native'], 'kernel'),
  sourceReadonly: option(flag, 'true or false', false),
  options: option<string | undefined>(
    z.string().refine((text) => parseMountFlags(text) !== undefined),
    `a list with commas of ${MOUNT_FLAGS.join(', ')}`,
    undefined,
  ),
  ack: oneOf(['local', 'store'], 'local'),
  // A wait shorter than a round trip would fail everything; longer than ten minutes is a hang to an application (P6).
  opTimeout: option(
    measured(parseDuration, [100, 600_000]),
    'a duration with a unit such as 500ms, 30s or 2m, from 100ms to 10m',
    30_000,
  ),
  stagingLimit: size(MiB, Number.MAX_SAFE_INTEGER, 'at least 1MiB', 10 * GiB),
  cacheLimit: size(0, Number.MAX_SAFE_INTEGER, '0 for no cache on disk', GiB),
  memoryCacheLimit: size(0, 64 * GiB, 'at most 64GiB, 0 for none', 64 * MiB),
  // No object carries more than one chunk of payload (1 MiB): what is larger is chunked.
  inlineLimit: size(0, MiB, 'at most 1MiB', MiB),
  concurrency: option(
    measured((text) => (/^\d+$/.test(text) ? Number(text) : undefined), [1, 256]),
    'a whole number from 1 to 256',
    8,
  ),
  metricsListen: option<ListenAddress | undefined>(
    listenAddress,
    'off, a port, or a loopback address such as 127.0.0.1:9095',
    undefined,
  ),
  logLevel: oneOf(['debug', 'info', 'warn', 'error'], 'info'),
} as const

export type OptionKey = keyof typeof OPTIONS

/** All settings with their defaults applied; plain JSON, so that it travels from process to process. */
export type Settings = {
  readonly [K in OptionKey]: (typeof OPTIONS)[K] extends Option<infer T> ? T : never
}

export const OPTION_KEYS = Object.keys(OPTIONS) as OptionKey[]

/** `opTimeout` → `op-timeout`, `--op-timeout` or `FERRYFS_OP_TIMEOUT`. */
export function flagOf(key: OptionKey): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

export function variableOf(key: OptionKey): string {
  return `FERRYFS_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}
