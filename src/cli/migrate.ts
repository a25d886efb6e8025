import { UsageError } from '../base/errors.ts'
import { formatBytes, parseRate } from '../config/units.ts'
import { callDaemon } from '../daemon/control-client.ts'
import type { MigrateReport } from '../daemon/engine.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Context, ExitStatus } from './context.ts'
import { counted, failureLines } from './lists.ts'
import { callShown } from './progress.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

interface MigrateFlags {
  readonly wait?: true
  readonly rate?: string
  readonly concurrency?: string
  readonly pause?: true
  readonly resume?: true
}

export const addMigrate: AddCommand = (program, context, finish) => {
  program
    .command('migrate')
    .description('move everything that is not in the store yet')
    .argument('<target>', 'where it is mounted')
    .option('--wait', 'stay until it is done; interrupted, the migration goes on')
    .option('--rate <bytes/s>', 'at most so much, such as 10MiB; 0 for no limit; stays in force')
    .option('--concurrency <n>', 'files in flight at once, 1 to 256; stays in force')
    .option('--pause', 'stop moving, until --resume')
    .option('--resume', 'go on after --pause')
    .action((target: string, flags: MigrateFlags) => finish(migrate(target, flags, context)))
}

async function migrate(target: string, flags: MigrateFlags, context: Context): Promise<ExitStatus> {
  const steering = flags.pause ? 'pause' : flags.resume ? 'resume' : undefined
  const others = [flags.wait, flags.rate, flags.concurrency, flags.pause && flags.resume]
  if (steering && others.some((flag) => flag !== undefined)) {
    throw new UsageError(`--${steering} goes alone; allowed with it: nothing`)
  }
  const options = { ...rateOf(flags.rate), ...concurrencyOf(flags.concurrency) }
  const registration = await mountAt(target, context)
  if (steering) {
    await callDaemon(registration, { command: steering })
    context.print(steering === 'pause' ? 'the migration is paused' : 'the migration goes on')
    return EXIT.done
  }
  const request = { command: 'migrate', wait: flags.wait ?? false, ...options } as const
  const report = await callShown(context, registration, request)
  if (!('started' in report)) return printReport(report, target, context)
  context.print(`the migration runs; follow it with "ferryfs status ${target} --watch"`)
  return EXIT.done
}

function printReport(report: MigrateReport, target: string, context: Context): ExitStatus {
  const { files, bytes, remaining, changed, failures } = report
  context.print(`moved ${counted(files, 'file')}, ${formatBytes(bytes)}`)
  for (const line of failureLines(failures, `ferryfs status ${target} --json`)) context.print(line)
  if (changed > 0) {
    const many = changed === 1 ? 'file was' : 'files were'
    context.print(`${changed} ${many} made or changed meanwhile and will follow without being asked for`)
  }
  if (remaining === 0 && failures.length === 0) return EXIT.done
  context.print(`not done: ${counted(remaining, 'file')} not in the store, ${failures.length} failed`)
  return EXIT.incomplete
}

function rateOf(text: string | undefined): { rate?: number } {
  if (text === undefined) return {}
  const rate = parseRate(text)
  if (rate !== undefined) return { rate }
  throw new UsageError(
    `--rate is "${text}"; allowed: bytes per second such as 500KiB or 10MiB, 0 for no limit`,
  )
}

function concurrencyOf(text: string | undefined): { concurrency?: number } {
  if (text === undefined) return {}
  const concurrency = /^\d{1,3}$/.test(text) ? Number(text) : 0
  if (concurrency >= 1 && concurrency <= 256) return { concurrency }
  throw new UsageError(`--concurrency is "${text}"; allowed: a whole number from 1 to 256`)
}
