import { UsageError } from '../base/errors.ts'
import { isWithin } from '../base/paths.ts'
import { formatBytes } from '../config/units.ts'
import { callDaemon } from '../daemon/control-client.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { realPathOfNew } from '../daemon/locate.ts'
import type { Context, ExitStatus } from './context.ts'
import { counted, failureLines } from './lists.ts'
import { ProgressView } from './progress.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

export const addRestore: AddCommand = (program, context, finish) => {
  program
    .command('restore')
    .description('write the whole tree out of the store as plain files')
    .argument('<target>', 'where it is mounted')
    .argument('<dest>', 'an empty directory, or one that is not there yet, outside the mount')
    .action((target: string, dest: string) => finish(restore(target, dest, context)))
}

async function restore(target: string, dest: string, context: Context): Promise<ExitStatus> {
  const registration = await mountAt(target, context)
  const destination = await realPathOfNew(dest)
  for (const [name, directory] of [
    ['the mount', registration.target],
    ['its source', registration.source],
    ['its state directory', registration.stateDir],
  ] as const) {
    if (isWithin(destination, directory) || isWithin(directory, destination)) {
      throw new UsageError(
        `DEST ${destination} and ${name} ${directory} lie one in the other; give a directory elsewhere`,
      )
    }
  }
  const view = new ProgressView(context)
  try {
    const report = await callDaemon(
      registration,
      { command: 'restore', destination },
      // Begun anew it would find the directory full.
      { again: false, onProgress: (progress) => view.show(progress) },
    )
    view.end()
    context.print(
      `restored ${counted(report.files, 'file')}, ${formatBytes(report.bytes)}, to ${destination}`,
    )
    for (const line of failureLines(report.failures, `see the log in ${registration.stateDir}`)) {
      context.print(line)
    }
    return report.failures.length === 0 ? EXIT.done : EXIT.incomplete
  } finally {
    view.end()
  }
}
