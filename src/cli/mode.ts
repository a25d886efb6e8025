import { UsageError } from '../base/errors.ts'
import { isMode, MODES } from '../base/modes.ts'
import { callDaemon } from '../daemon/control-client.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Registration } from '../daemon/registry.ts'
import { writersBelow } from '../legacy/index.ts'
import { printable } from '../sys/index.ts'
import type { Context, ExitStatus } from './context.ts'
import { callShown } from './progress.ts'
import type { AddCommand } from './run.ts'
import { mountAt } from './target.ts'

/** Files of which `mode drain` names the writer. */
const MOST_SHOWN = 10

export const addMode: AddCommand = (program, context, finish) => {
  program
    .command('mode')
    .description('show the mode of a mount, or change it under running applications')
    .argument('<target>', 'where it is mounted')
    .argument('[mode]', `the new mode: ${MODES.join(', ')}`)
    .option('--wait', 'move everything and stay until the mode can be had; interrupted, the mode stays')
    .action((target: string, mode: string | undefined, flags: ModeFlags) =>
      finish(changeMode(target, mode, flags, context)),
    )
}

interface ModeFlags {
  readonly wait?: true
}

async function changeMode(
  target: string,
  wanted: string | undefined,
  { wait = false }: { readonly wait?: boolean },
  context: Context,
): Promise<ExitStatus> {
  if (wait && wanted === undefined) throw new UsageError('--wait waits for a mode; say which')
  if (wanted !== undefined && !isMode(wanted)) {
    throw new UsageError(`mode is "${wanted}"; allowed: ${MODES.join(', ')}`)
  }
  const registration = await mountAt(target, context)
  const request = { command: 'mode', ...(wanted === undefined ? {} : { mode: wanted, wait }) } as const
  const { mode } = await callShown(context, registration, request)
  context.print(mode)
  if (wanted === 'drain') await printWriters(registration, context)
  return EXIT.done
}

/** Files that will not leave the volume soon: somebody writes to them past the mount. */
async function printWriters(registration: Registration, context: Context): Promise<void> {
  const { source, supervisorPid } = registration
  const { pid } = await callDaemon(registration, { command: 'status' })
  const writers = await writersBelow(source, new Set([pid, supervisorPid, process.pid]))
  if (writers.length === 0) return
  const files = writers.length === 1 ? '1 file is' : `${writers.length} files are`
  context.print(
    `${files} open for writing past the mount; what is open stays on the volume until that has ended:`,
  )
  for (const { pid: writer, name, path } of writers.slice(0, MOST_SHOWN))
    context.print(`  ${printable(Buffer.from(path))}: process ${writer} (${printable(Buffer.from(name))})`)
  if (writers.length > MOST_SHOWN) context.print(`  and ${writers.length - MOST_SHOWN} more`)
}
