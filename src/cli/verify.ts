import { formatBytes } from '../config/units.ts'
import { callDaemon } from '../daemon/control-client.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Context, ExitStatus } from './context.ts'
import { counted, shortened } from './lists.ts'
import { ProgressView } from './progress.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

interface VerifyFlags {
  readonly json?: true
  readonly acceptLosses?: true
}

export const addVerify: AddCommand = (program, context, finish) => {
  program
    .command('verify')
    .description('read every stored file back and compare it with its checksum and the legacy copy')
    .argument('<target>', 'where it is mounted')
    .option('--json', 'the whole report, for programs')
    .option(
      '--accept-losses',
      'what is listed as doubtful, since the catalog was damaged, is as it should be',
    )
    .action((target: string, flags: VerifyFlags) => finish(verify(target, flags, context)))
}

async function verify(target: string, flags: VerifyFlags, context: Context): Promise<ExitStatus> {
  const registration = await mountAt(target, context)
  const view = new ProgressView(context)
  try {
    const report = await callDaemon(
      registration,
      { command: 'verify', ...(flags.acceptLosses && { acceptLosses: true }) },
      { onProgress: (progress) => view.show(progress) },
    )
    view.end()
    const { files, bytes, differences } = report
    if (flags.json) {
      context.print(JSON.stringify(report, undefined, 2))
    } else {
      const lines = differences.map(({ kind, path, detail }) => `${kind.padEnd(10)}  ${path}: ${detail}`)
      for (const line of shortened(lines, `ferryfs verify ${target} --json`)) context.print(line)
      context.print(
        `read ${counted(files, 'file')}, ${formatBytes(bytes)}: ` +
          (differences.length === 0 ? 'all as they should be' : counted(differences.length, 'difference')),
      )
    }
    return differences.length === 0 ? EXIT.done : EXIT.incomplete
  } finally {
    view.end()
  }
}
