import { join, resolve } from 'node:path'
import { loadSettings } from '../config/load.ts'
import { flagOf } from '../config/options.ts'
import { formatBytes } from '../config/units.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { realPathOfNew } from '../daemon/locate.ts'
import { refuseNoStorage } from '../daemon/not-storage.ts'
import { claimStateDir, LOG_FILE } from '../daemon/state-dir.ts'
import { createLog } from '../observe/log.ts'
import { LogFile } from '../observe/log-file.ts'
import type { Context, ExitStatus } from './context.ts'
import { counted, shortened } from './lists.ts'
import { ProgressView } from './progress.ts'
import type { AddCommand } from './run.ts'

interface RebuildFlags {
  readonly store: string
  readonly namespace: string
  readonly stateDir: string
  readonly config?: string
  readonly acceptLosses?: true
}

export const addRebuild: AddCommand = (program, context, finish) => {
  program
    .command('rebuild')
    .description('make a lost catalog anew from what lies in the store')
    .requiredOption(`${flagOf('store')} <url>`, 'the store that holds the tree')
    .requiredOption(`${flagOf('namespace')} <name>`, 'its namespace there')
    .requiredOption(`${flagOf('stateDir')} <dir>`, 'where the catalog goes; for the next mount')
    .option('--config <file>', 'settings as one JSON object')
    .option(
      '--accept-losses',
      'go on without what the store has lost; unless given, its names stay, and answer EIO',
    )
    .action((flags: RebuildFlags) => finish(rebuild(flags, context)))
}

const LOST =
  'what is lost answers EIO by its name; should its objects come back, rebuild again, or leave it out for good with --accept-losses (once it is mounted: "ferryfs verify --accept-losses TARGET")'

async function rebuild(flags: RebuildFlags, context: Context): Promise<ExitStatus> {
  const typed = flags.stateDir && resolve(flags.stateDir)
  const settings = loadSettings({
    flags: { store: flags.store, namespace: flags.namespace, stateDir: typed },
    environment: context.environment,
    file: flags.config,
  })
  const { store, namespace, opTimeout, concurrency } = settings
  const stateDir = await realPathOfNew(flags.stateDir)
  refuseNoStorage('the state directory', stateDir)
  if (store.startsWith('embedded:/')) refuseNoStorage('the store', store.slice('embedded:'.length))
  const identity = { source: null, target: null, namespace, store }
  const lock = claimStateDir(stateDir, identity)
  const logFile = new LogFile(join(stateDir, LOG_FILE))
  const view = new ProgressView(context)
  const interrupted = new AbortController()
  const interrupt = (): void => interrupted.abort(new Error('interrupted'))
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  try {
    const rebuildState = await context.loadRebuild()
    const log = createLog({ level: settings.logLevel, name: 'rebuild', write: (line) => logFile.write(line) })
    const report = await rebuildState(
      { store, namespace, stateDir, opTimeout, concurrency, log, acceptLosses: flags.acceptLosses === true },
      { onProgress: (progress) => view.show(progress), signal: interrupted.signal },
    )
    view.end()
    context.print(
      `rebuilt ${counted(report.files, 'file')} in ${report.directories} directories, ${formatBytes(report.bytes)}, ` +
        `in ${stateDir}; "ferryfs mount SOURCE TARGET --state-dir ${stateDir}" with the same store uses it`,
    )
    const lines = report.failures.map(({ kind, path, reason }) => `${kind.padEnd(8)}  ${path}: ${reason}`)
    for (const line of shortened(lines, `see ${logFile.path}`, report.failureCount)) context.print(line)
    if (report.failures.some(({ kind }) => kind === 'lost')) context.print(LOST)
    return report.failureCount === 0 ? EXIT.done : EXIT.incomplete
  } finally {
    view.end()
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
    await logFile.close()
    lock.release()
  }
}
