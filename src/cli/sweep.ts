import { EXIT } from '../daemon/exit-status.ts'
import { type Context, type ExitStatus, printJson } from './context.ts'
import { counted, shortened } from './lists.ts'
import { callShown } from './progress.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

interface SweepFlags {
  readonly dryRun?: true
  readonly all?: true
  readonly json?: true
}

export const addSweep: AddCommand = (program, context, finish) => {
  program
    .command('sweep')
    .description('find objects in the store that no path names any more, and delete them')
    .argument('<target>', 'where it is mounted')
    .option('--dry-run', 'list them and delete nothing')
    .option('--all', 'also where the state directory has not known the namespace from its beginning')
    .option('--json', 'the whole report, for programs')
    .action((target: string, flags: SweepFlags) => finish(sweep(target, flags, context)))
}

async function sweep(target: string, flags: SweepFlags, context: Context): Promise<ExitStatus> {
  const registration = await mountAt(target, context)
  const request = { command: 'sweep', dryRun: flags.dryRun === true, all: flags.all === true } as const
  const report = await callShown(context, registration, request)
  const { objects, found, swept, strays, refused } = report
  if (flags.json) {
    printJson(context, report)
  } else {
    const lines = strays.map(({ space, key, reason }) => {
      return `${space.padEnd(6)}  ${key}${reason === undefined ? '' : `: ${reason}`}`
    })
    for (const line of shortened(lines, `ferryfs sweep ${target} --json`)) context.print(line)
    const unnamed = found === 0 ? 'each has its path' : `${counted(found, 'object')} without a path`
    const gone = found === 0 || flags.dryRun ? '' : `, ${swept} swept`
    context.print(`looked at ${counted(objects, 'object')}: ${unnamed}${gone}`)
    if (refused !== undefined) context.note(`nothing was swept: ${refused}`)
  }
  return found === swept ? EXIT.done : EXIT.incomplete
}
