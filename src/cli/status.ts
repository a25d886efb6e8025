import { setTimeout as delay } from 'node:timers/promises'
import { formatBytes, formatDuration } from '../config/units.ts'
import { callDaemon, DaemonGone } from '../daemon/control-client.ts'
import type { StatusReport } from '../daemon/engine.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Registration } from '../daemon/registry.ts'
import { watchForHangingDisk } from '../daemon/stuck.ts'
import { type Context, type ExitStatus, printJson } from './context.ts'
import { failureLines } from './lists.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

interface StatusFlags {
  readonly json?: true
  readonly watch?: true
}

const WATCH_MS = 1_000

export const addStatus: AddCommand = (program, context, finish) => {
  program
    .command('status')
    .description('show what a mount is doing')
    .argument('<target>', 'where it is mounted')
    .option('--json', 'everything, for programs, the list of failed files included')
    .option('--watch', 'again every second, until interrupted or unmounted')
    .action((target: string, flags: StatusFlags) => finish(status(target, flags, context)))
}

async function status(target: string, flags: StatusFlags, context: Context): Promise<ExitStatus> {
  const registration = await mountAt(target, context)
  const show = (report: StatusReport): void => {
    if (flags.json) printJson(context, report, flags.watch)
    else for (const line of statusLines(report)) context.print(line)
  }
  show(await ask(registration))
  while (flags.watch) {
    await delay(WATCH_MS)
    try {
      const report = await ask(registration)
      // Home and clear, so that the table stays in place; a file or pipe gets one block after the other.
      if (!flags.json && process.stdout.isTTY) process.stdout.write('\u001b[H\u001b[2J')
      show(report)
    } catch (error) {
      if (!(error instanceof DaemonGone)) throw error
      context.note(`ferryfs: ${registration.target} is not served any more`)
      return EXIT.done
    }
  }
  return EXIT.done
}

async function ask(registration: Registration): Promise<StatusReport> {
  const { signal, stop } = watchForHangingDisk(registration)
  try {
    return await callDaemon(registration, { command: 'status' }, { signal })
  } finally {
    stop()
  }
}

/** The report as people read it. */
export function statusLines(report: StatusReport): string[] {
  const { files, bytes, outbox, staging, reads, migration, store } = report
  const health = store.healthy ? 'answers' : `does not answer${store.error ? `: ${store.error}` : ''}`
  const percent = bytes.total > 0 ? ` (${Math.floor((100 * bytes.stored) / bytes.total)}%)` : ''
  const overtaken = reads.overtaken > 0 ? ` (${reads.overtaken} because the store was slow)` : ''
  // Not all that is listed is of a file that failed, and the list may be shortened.
  const failed = Math.max(files.failed, report.failures.length)
  const rows: [string, string][] = [
    ['mount', `${report.source} on ${report.target}${report.sourceReadonly ? ' (source untouched)' : ''}`],
    ['mode', report.mode],
    ['store', `${store.url} ${health}`],
    [
      'files',
      `${files.total} known, ${files.stored} stored, ${files.pending} pending, ${files.dirty} changed`,
    ],
    ['bytes', `${formatBytes(bytes.stored)} of ${formatBytes(bytes.total)} stored${percent}`],
    ['removed', `${files.drained} from the source, each after its stored copy was verified`],
    ['queue', queueOf(outbox)],
    ['staging', `${formatBytes(staging.bytes)} of ${formatBytes(staging.limit)}`],
    [
      'reads',
      `${reads.legacy} from the source${overtaken}, ${reads.store} from the store, ${reads.staging + reads.cache} local`,
    ],
    ['migration', migrationOf(migration)],
    [
      'daemon',
      `worker ${report.pid} (start ${report.workerStarts}), supervisor ${report.supervisorPid}, since ${report.startedAt}`,
    ],
    ['state', report.stateDir],
    ['failures', failed === 0 ? 'none' : `${failed}`],
  ]
  return [
    ...rows.map(([name, value]) => `${name.padEnd(10)} ${value}`),
    ...failureLines(report.failures, `ferryfs status ${report.target} --json`),
  ]
}

function queueOf({ length, oldestSeconds }: StatusReport['outbox']): string {
  return length === 0
    ? 'empty'
    : `${length} waiting for the store, the oldest for ${formatDuration(oldestSeconds)}`
}

function migrationOf({ state, bytesPerSecond, etaSeconds }: StatusReport['migration']): string {
  if (state !== 'running') return state
  const left = etaSeconds === null ? '' : `, ${formatDuration(etaSeconds)} left`
  return `running at ${formatBytes(Math.round(bytesPerSecond))}/s${left}`
}
