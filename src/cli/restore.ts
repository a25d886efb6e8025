import { UsageError } from '../base/errors.ts'
import { formatBytes } from '../config/units.ts'
import { callDaemon } from '../daemon/control-client.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { DaemonTree } from '../daemon/tree-client.ts'
import {
  Destination,
  type Finding,
  Restore,
  type SourceTree,
  selectionOf,
  wrongName,
} from '../migration/index.ts'
import type { Context, ExitStatus } from './context.ts'
import { counted } from './lists.ts'
import { ProgressView } from './progress.ts'
import { destinationOf, type Elsewhere } from './restore-destination.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

interface RestoreFlags {
  readonly acceptMissing?: true
}

/** Where the tree is read. */
interface Source {
  readonly tree: SourceTree
  readonly namespace: string
  readonly elsewhere: readonly Elsewhere[]
  close(): Promise<void>
}

// Calls on DEST that wait for its disk, at once; libuv looks for the number when the first of them is made.
const THREADS = '32'

export const addRestore: AddCommand = (program, context, finish) => {
  program
    .command('restore')
    .description('write the tree, or a part of it, out of the store as plain files; run again it goes on')
    .argument('<target>', 'where it is mounted')
    .argument('<dest>', 'an empty directory, one that is not there yet, or one with a restore under way')
    .argument('[paths...]', 'what to write out, relative to the root of the tree; all of it unless given')
    .option('--accept-missing', 'open DEST to others though something is missing')
    .action((target: string, dest: string, paths: string[], flags: RestoreFlags) =>
      finish(restore({ target, dest, paths, flags }, context)),
    )
}

interface Request {
  readonly target: string
  readonly dest: string
  readonly paths: readonly string[]
  readonly flags: RestoreFlags
}

async function restore({ target, dest, paths, flags }: Request, context: Context): Promise<ExitStatus> {
  process.env.UV_THREADPOOL_SIZE ??= THREADS
  const selection = selectionOf(paths.map(namesOf))
  const source = await mounted(target, context)
  try {
    const path = await destinationOf(dest, source.elsewhere)
    const destination = await openDestination(path, source)
    try {
      return await write(
        source.tree,
        destination,
        { selection, acceptMissing: flags.acceptMissing === true },
        context,
      )
    } finally {
      destination.close()
    }
  } finally {
    await source.close()
  }
}

async function mounted(target: string, context: Context): Promise<Source> {
  const registration = await mountAt(target, context)
  const { namespace } = await callDaemon(registration, { command: 'status' })
  const tree = new DaemonTree(registration)
  return {
    tree,
    namespace,
    elsewhere: [
      { what: 'the mount', path: registration.target },
      { what: 'its source', path: registration.source },
      { what: 'its state directory', path: registration.stateDir },
    ],
    close: () => tree.close(),
  }
}

async function openDestination(path: string, { tree, namespace }: Source): Promise<Destination> {
  const root = await tree.root()
  const isTaken = async (name: Buffer): Promise<boolean> => (await tree.look(root, name)) !== undefined
  return Destination.open(path, namespace, isTaken)
}

async function write(
  tree: SourceTree,
  destination: Destination,
  what: Pick<ConstructorParameters<typeof Restore>[2], 'selection' | 'acceptMissing'>,
  context: Context,
): Promise<ExitStatus> {
  const view = new ProgressView(context)
  const onFinding = ({ kind, path, reason }: Finding): void => {
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
    const { files, bytes, missing, lacking, finished } = await run.run()
    view.end()
    context.print(`restored ${counted(files, 'file')}, ${formatBytes(bytes)}, to ${destination.path}`)
    if (missing > 0) context.print(`${missing} missing: ${finished ? 'accepted' : GO_ON}`)
    if (lacking > 0) context.print(`${lacking} lacking something that DEST cannot hold`)
    return missing + lacking === 0 ? EXIT.done : EXIT.incomplete
  } finally {
    view.end()
  }
}

const GO_ON =
  'DEST stays closed to others (0700). The same command again tries those again; with --accept-missing it opens DEST as it is'

/** The names of a path relative to the root of the tree. @throws UsageError */
function namesOf(path: string): Buffer[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.')
  for (const name of names) {
    const wrong = wrongName(Buffer.from(name))
    if (wrong !== undefined)
      throw new UsageError(`PATH ${path}: ${wrong}; give it relative to the root of the tree`)
  }
  return names.map((name) => Buffer.from(name))
}
