import { resolve } from 'node:path'
import { UsageError } from '../base/errors.ts'
import { MODES } from '../base/modes.ts'
import { shellWord } from '../config/mount-command.ts'
import { flagOf, OPTION_KEYS, OPTIONS, type OptionKey } from '../config/options.ts'
import { runDirectory } from '../config/paths.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { launchDaemon } from '../daemon/launch.ts'
import { namesOf } from '../daemon/locate.ts'
import { recall } from '../daemon/machine.ts'
import type { SupervisorOrder } from '../daemon/messages.ts'
import { readableLine } from '../observe/console.ts'
import { liftFileSizeLimit } from '../sys/index.ts'
import { checkMount, type MountToCheck } from './check-mount.ts'
import type { Context, ExitStatus } from './context.ts'
import type { AddCommand } from './run.ts'

/** Every setting has a flag, so that what a mount was told can be printed as one command. */
const FLAGS: readonly (readonly [key: OptionKey, argument: string, words: string])[] = [
  ['store', '<url>', 'where to: embedded:, embedded:/path, riak://host:8087,host2:8087/?…, memory:'],
  ['mode', '<mode>', `${MODES.join(', ')}; else the last one, at first mirror`],
  ['stateDir', '<dir>', 'catalog, queue and staging; a directory of its own'],
  ['namespace', '<name>', 'keeps several trees in one store apart'],
  ['transport', '<name>', 'kernel, or fuse-native for a mount without root'],
  ['sourceReadonly', '', 'never touch SOURCE: changes go to the store only'],
  [
    'options',
    '<list>',
    'of mount(8): ro, nosuid, nodev, noexec, noatime …; those of SOURCE are in force anyway',
  ],
  ['ack', '<where>', 'close and fsync return when the bytes are safe here (local) or in the store (store)'],
  ['opTimeout', '<duration>', 'how long one operation may wait for the store'],
  ['stagingLimit', '<size>', 'disk for changes that are not in the store yet'],
  ['cacheLimit', '<size>', 'disk for copies of what was read from the store'],
  ['inlineLimit', '<size>', 'larger files are stored in chunks'],
  ['concurrency', '<n>', 'store requests at once'],
  ['memoryCacheLimit', '<size>', 'memory for copies of what was read from the store'],
  ['metricsListen', '<address>', 'where metrics are served: a port, or a loopback address with one'],
  ['logLevel', '<level>', 'debug, info, warn or error'],
]

const SHARES_VOLUME =
  "the state directory is on SOURCE's own volume: room for the catalog is kept there, and what is changed before the store has it " +
  'needs more; a --state-dir on another disk has neither limit'

interface WantedMount {
  readonly source?: string
  readonly target: string
}

interface MountFlags extends Readonly<Partial<Record<OptionKey, unknown>>> {
  readonly config?: string
  readonly foreground?: true
  readonly takeOver?: true
}

export const addMount: AddCommand = (program, context, finish) => {
  const command = program
    .command('mount')
    .description('serve SOURCE at TARGET, and copy or move it to the store as the mode says')
    .argument('<source>', 'the legacy directory; left out, the last mount at TARGET is taken up as it was')
    .argument('[target]', 'the directory that applications use')
    .usage('[options] <source> <target> | <target>')
  for (const [key, argument, words] of FLAGS) {
    const { fallback } = OPTIONS[key]
    const standard = typeof fallback === 'string' ? ` (default: ${fallback})` : ''
    command.option(`${flagOf(key)} ${argument}`.trimEnd(), `${words}${standard}`)
  }
  command
    .option('--config <file>', 'settings as one JSON object')
    .option('--foreground', 'stay, and log here; SIGTERM and Ctrl-C unmount')
    .option(
      '--take-over',
      'although SOURCE belongs to another state directory, or may be newer than the store',
    )
    .action((first: string, second: string | undefined, flags: MountFlags) =>
      finish(
        mount(second === undefined ? { target: first } : { source: first, target: second }, flags, context),
      ),
    )
}

async function mount(wanted: WantedMount, flags: MountFlags, context: Context): Promise<ExitStatus> {
  const config = await checkMount(await completed(wanted, context), {
    flags: {
      ...Object.fromEntries(OPTION_KEYS.map((key) => [key, flags[key]])),
      ...stateDirOf(flags.stateDir),
    },
    environment: context.environment,
    file: flags.config,
    takeOver: flags.takeOver ?? false,
  })
  requireFilesOfAnySize()
  const order = { config, runDir: runDirectory(context.environment), workerFile: context.workerFile }
  if (flags.foreground) return mountHere(order, context)
  const pid = await launchDaemon(order)
  context.print(
    `${config.source} is served at ${config.target} by process ${pid}; state and log in ${config.stateDir}`,
  )
  if (config.sharesVolume) context.print(SHARES_VOLUME)
  return EXIT.done
}

/** The daemon has the limits of the process that starts it. @throws UsageError */
function requireFilesOfAnySize(): void {
  const limit = liftFileSizeLimit()
  if (limit === undefined) return
  throw new UsageError(
    `no file may get larger than ${limit} bytes here (ulimit -f), and the daemon would be held to that; ` +
      'raise the limit (ulimit -Hf unlimited, LimitFSIZE=infinity), and mount again',
    EXIT.failed,
  )
}

/** With what the machine remembers of the last mount at TARGET, if that is all that was given. */
async function completed({ source, target }: WantedMount, { environment }: Context): Promise<MountToCheck> {
  if (source !== undefined) return { source, target }
  for await (const name of namesOf(target)) {
    const remembered = recall(name, environment)
    if (remembered) return { ...remembered, remembered: remembered.settings }
  }
  throw new UsageError(
    `missing required argument 'target': nothing is remembered of a mount at ${target}; "ferryfs mount SOURCE ${shellWord(target)}" makes one`,
  )
}

/** A path typed by a person is relative to where they are; in a file or the environment it has to be absolute. */
function stateDirOf(typed: unknown): { stateDir?: string } {
  return typeof typed === 'string' && typed !== '' ? { stateDir: resolve(typed) } : {}
}

async function mountHere(order: SupervisorOrder, context: Context): Promise<ExitStatus> {
  const { config } = order
  // A working directory on some volume would keep that busy as long as the mount lasts.
  process.chdir('/')
  // Only what stays loads this: the command that starts a daemon is gone in a moment.
  const { runSupervisor } = await import('../daemon/run-supervisor.ts')
  const write = context.terminal
    ? (line: string): void => context.note(readableLine(line).trimEnd())
    : (line: string): void => context.note(line.trimEnd())
  const { ended } = await runSupervisor(order, write)
  context.print(`${config.source} is served at ${config.target}; state in ${config.stateDir}`)
  await ended
  return EXIT.done
}
