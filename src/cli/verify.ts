import { formatBytes } from '../config/units.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { type Context, type ExitStatus, printJson } from './context.ts'
import { counted, shortened } from './lists.ts'
import { callShown } from './progress.ts'
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
      'what is listed as doubtful or lost is as it should be; what is lost is left out',
    )
    .action((target: string, flags: VerifyFlags) => finish(verify(target, flags, context)))
}

async function verify(target: string, flags: VerifyFlags, context: Context): Promise<ExitStatus> {
  const registration = await mountAt(target, context)
  const request = { command: 'verify', ...(flags.acceptLosses && { acceptLosses: true }) } as const
  const report = await callShown(context, registration, request)
  const { files, bytes, differences, differenceCount } = report
  if (flags.json) {
    printJson(context, report)
  } else {
    const lines = differences.map(({ kind, path, detail }) => `${kind.padEnd(10)}  ${path}: ${detail}`)
    for (const line of shortened(lines, `ferryfs verify ${target} --json`, differenceCount))
      context.print(line)
    context.print(
      `read ${counted(files, 'file')}, ${formatBytes(bytes)}: ` +
        (differenceCount === 0 ? 'all as they should be' : counted(differenceCount, 'difference')),
    )
  }
  return differenceCount === 0 ? EXIT.done : EXIT.incomplete
}
