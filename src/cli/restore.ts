import { UsageError } from '../base/errors.ts'
import { wrongName } from '../catalog/index.ts'
import { loadSettings } from '../config/load.ts'
import { flagOf } from '../config/options.ts'
import { formatBytes } from '../config/units.ts'
import { callDaemon, DaemonError, DaemonGone } from '../daemon/control-client.ts'
import type { Progress, StatusReport } from '../daemon/engine.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { realPathOfNew } from '../daemon/locate.ts'
import type { Registration } from '../daemon/registry.ts'
import { DaemonTree } from '../daemon/tree-client.ts'
import {
  Destination,
  type Finding,
  Restore,
  type RestoreOptions,
  type RestoreResult,
  type SourceTree,
  selectionOf,
} from '../migration/index.ts'
import { createLog } from '../observe/log.ts'
import type { Context, ExitStatus } from './context.ts'
import { counted } from './lists.ts'
import { ProgressView } from './progress.ts'
import { destinationOf, type Elsewhere } from './restore-destination.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

interface RestoreFlags {
  readonly stateDir?: string
  readonly store?: string
  readonly namespace?: string
  readonly config?: string
  readonly acceptMissing?: true
}

/** Where the tree is read. */
interface Source {
  readonly tree: SourceTree
  readonly namespace: string
  readonly elsewhere: readonly Elsewhere[]
  /** What of it is known before to be missing. */
  readonly known: readonly Finding[]
  close(): Promise<void>
}

// Calls on DEST that wait for its disk, at once; libuv looks for the number when the first of them is made.
const THREADS = '32'

export const addRestore: AddCommand = (program, context, finish) => {
  program
    .command('restore')
    .description(
      'write the tree, or the PATHs of it, to DEST as plain files: through its daemon, or without one from its state ' +
        'directory or from the store alone. Run again it goes on',
    )
    .usage(
      'TARGET DEST [PATH...] | --state-dir DIR DEST [PATH...] | --store URL --namespace NS DEST [PATH...]',
    )
    .argument(
      '[places...]',
      'where it is mounted, unless read without a daemon; an empty directory, one that is not there yet, or one with a ' +
        'restore under way; what to write, relative to the root of the tree, all of it unless given',
    )
    .option(`${flagOf('stateDir')} <dir>`, 'a state directory that no daemon uses')
    .option(`${flagOf('store')} <url>`, 'the store, where there is no state directory')
    .option(`${flagOf('namespace')} <name>`, 'its namespace there')
    .option('--config <file>', 'settings as one JSON object')
    .option('--accept-missing', 'open DEST to others though something is missing')
    .action((places: string[], flags: RestoreFlags) => finish(restore(places, flags, context)))
}

async function restore(
  places: readonly string[],
  flags: RestoreFlags,
  context: Context,
): Promise<ExitStatus> {
  process.env.UV_THREADPOOL_SIZE ??= THREADS
  const isOffline = isWithoutDaemon(flags)
  const [target = '', dest, ...paths] = isOffline ? ['', ...places] : places
  if (dest === undefined) throw new UsageError(`${isOffline ? 'DEST is' : 'TARGET or DEST is'} missing`)
  if (dest === '') throw new UsageError('DEST is empty; give "." for the working directory')
  const selection = selectionOf(paths.map(namesOf))
  const source = isOffline ? await offline(flags, context) : await mounted(target, context)
  try {
    const path = await destinationOf(dest, source.elsewhere)
    const destination = await openDestination(path, source)
    try {
      const { known } = source
      const what = { selection, known, acceptMissing: flags.acceptMissing === true }
      return await write(source.tree, destination, what, context)
    } finally {
      destination.close()
    }
  } finally {
    await source.close()
  }
}

/** @throws UsageError where the flags name no one source */
function isWithoutDaemon({ stateDir, store, namespace }: RestoreFlags): boolean {
  if (stateDir !== undefined && (store !== undefined || namespace !== undefined)) {
    throw new UsageError(
      `a state directory knows its store and namespace: give ${flagOf('stateDir')} alone, or the other two`,
    )
  }
  if ((store === undefined) !== (namespace === undefined))
    throw new UsageError(`${flagOf('store')} and ${flagOf('namespace')} go together`)
  return stateDir !== undefined || store !== undefined
}

async function mounted(target: string, context: Context): Promise<Source> {
  const registration = await mountAt(target, context)
  const { namespace, store } = await statusOf(registration)
  const inStore = directoryOf(store.url)
  const tree = new DaemonTree(registration)
  return {
    tree,
    namespace,
    elsewhere: [
      { what: 'the mount', path: registration.target },
      { what: 'its source', path: registration.source },
      { what: 'its state directory', path: registration.stateDir },
      ...(inStore === undefined ? [] : [{ what: 'its store', path: inStore }]),
    ],
    known: [],
    close: () => tree.close(),
  }
}

/** @throws DaemonError, with what to do where the daemon is dead */
async function statusOf(registration: Registration): Promise<StatusReport> {
  try {
    return await callDaemon(registration, { command: 'status' })
  } catch (error) {
    if (!(error instanceof DaemonGone)) throw error
    const { message, exitStatus } = error
    const line = `"ferryfs restore ${flagOf('stateDir')} ${registration.stateDir} DEST" restores without it`
    throw new DaemonError(`${message}, ${line}`, exitStatus)
  }
}

async function offline(flags: RestoreFlags, context: Context): Promise<Source> {
  const settings = loadSettings({
    flags: { store: flags.store, namespace: flags.namespace },
    environment: context.environment,
    file: flags.config,
  })
  // What is lost is told of by file, in the report; a log has lines for programs.
  const log = createLog({ level: 'error', name: 'restore', write: () => undefined })
  const { treeOfState, treeOfStore } = await import('../daemon/offline-tree.ts')
  const elsewhere: Elsewhere[] = []
  const add = (what: string, path: string | null | undefined): void => {
    if (path) elsewhere.push({ what, path })
  }
  if (flags.stateDir !== undefined) {
    const stateDir = await realPathOfNew(flags.stateDir)
    const state = await treeOfState(stateDir, { settings, log })
    add('its source', state.source)
    add('its state directory', stateDir)
    add('its store', directoryOf(state.store))
    return { ...state, elsewhere }
  }
  const view = new ProgressView(context)
  const { signal } = new AbortController()
  try {
    const run = { onProgress: (now: Progress) => view.show(now), signal }
    const state = await treeOfStore({ settings, log }, run)
    add('its store', directoryOf(state.store))
    return { ...state, elsewhere }
  } finally {
    view.end()
  }
}

/** Of an embedded store that is not in the state directory. */
const directoryOf = (url: string): string | undefined => /^embedded:(\/.+)$/.exec(url)?.[1]

async function openDestination(path: string, { tree, namespace }: Source): Promise<Destination> {
  const root = await tree.root()
  const isTaken = async (name: Buffer): Promise<boolean> => (await tree.look(root, name))?.file !== undefined
  return Destination.open(path, namespace, isTaken)
}

async function write(
  tree: SourceTree,
  destination: Destination,
  what: Pick<RestoreOptions, 'selection' | 'acceptMissing' | 'known'>,
  context: Context,
): Promise<ExitStatus> {
  const view = new ProgressView(context)
  let older = 0
  const onFinding = ({ kind, path, reason }: Finding): void => {
    // Of an older copy of a state directory it is all of them.
    if (kind === 'older' && ++older > MOST_OLDER) return
    view.end()
    context.print(`${kind.padEnd(7)}  ${path}: ${reason}`)
  }
  try {
    const { signal } = new AbortController()
    const run = new Restore(tree, destination, {
      ...what,
      onFinding,
      onProgress: (now) => view.show(now),
      signal,
    })
    const result = await run.run()
    const { files, bytes, missing, extra, lacking, doubtful, finished } = result
    view.end()
    context.print(`restored ${counted(files, 'file')}, ${formatBytes(bytes)}, to ${destination.path}`)
    if (missing > 0) context.print(`${missing} missing: ${finished ? 'accepted' : GO_ON}`)
    if (extra > 0)
      context.print(`${extra} in DEST that the tree does not have: ${finished ? 'accepted' : CLOSED}`)
    if (lacking > 0) context.print(`${lacking} lacking something that DEST cannot hold`)
    if (doubtful > 0) context.print(`${doubtful} of which the store's records do not agree on where they are`)
    if (result.losses > 0) context.print(olderLine(result))
    return missing + extra + lacking + doubtful + result.losses === 0 ? EXIT.done : EXIT.incomplete
  } finally {
    view.end()
  }
}

// So many are listed.
const MOST_OLDER = 1000

function olderLine({ older, finished }: RestoreResult): string {
  const what = older > 0 ? `${older} files and directories` : 'what is there'
  return `${what} may be older than what was acknowledged, and names may be missing: ${finished ? 'accepted' : COMPARE}`
}

const COMPARE =
  'DEST stays closed to others (0700) until what the first lines ("older  .") say is done; the same command with --accept-missing opens it as it is'

const CLOSED =
  'DEST stays closed to others (0700) until they are removed; the same command with --accept-missing opens it as it is'

const GO_ON =
  'DEST stays closed to others (0700). The same command again tries those again; with --accept-missing it opens DEST as it is'

/** The names of a path relative to the root of the tree. @throws UsageError */
function namesOf(path: string): Buffer[] {
  // What a script makes of a variable that is not set is no wish for everything.
  if (path === '') throw new UsageError('PATH is empty; give "." for the whole tree, or no PATH')
  const names = path.split('/').filter((name) => name !== '' && name !== '.')
  for (const name of names) {
    const wrong = wrongName(Buffer.from(name))
    if (wrong !== undefined)
      throw new UsageError(`PATH ${path}: ${wrong}; give it relative to the root of the tree`)
  }
  return names.map((name) => Buffer.from(name))
}
