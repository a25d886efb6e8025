import { UsageError } from '../base/errors.ts'
import { isMode, MODES } from '../base/modes.ts'
import { callDaemon } from '../daemon/control-client.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Context, ExitStatus } from './context.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

export const addMode: AddCommand = (program, context, finish) => {
  program
    .command('mode')
    .description('show the mode of a mount, or change it under running applications')
    .argument('<target>', 'where it is mounted')
    .argument('[mode]', `the new mode: ${MODES.join(', ')}`)
    .action((target: string, mode: string | undefined) => finish(changeMode(target, mode, context)))
}

async function changeMode(target: string, wanted: string | undefined, context: Context): Promise<ExitStatus> {
  if (wanted !== undefined && !isMode(wanted)) {
    throw new UsageError(`mode is "${wanted}"; allowed: ${MODES.join(', ')}`)
  }
  const registration = await mountAt(target, context)
  const { mode } = await callDaemon(registration, {
    command: 'mode',
    ...(wanted === undefined ? {} : { mode: wanted }),
  })
  context.print(mode)
  return EXIT.done
}
