import { Command, CommanderError } from 'commander'
import { reasonOf } from '../base/errors.ts'
import { EXIT, exitStatusOf } from '../daemon/exit-status.ts'
import { withoutPasswords } from '../observe/redact.ts'
import { type Context, type ExitStatus, onLines, printText } from './context.ts'
import { addDoctor } from './doctor.ts'
import { addForget } from './forget.ts'
import { addMigrate } from './migrate.ts'
import { addMode } from './mode.ts'
import { addMount } from './mount.ts'
import { helperCall, isRemount, mountArguments, remount } from './mount-helper.ts'
import { addRebuild } from './rebuild.ts'
import { addRestore } from './restore.ts'
import { addStatus } from './status.ts'
import { addUnmount } from './unmount.ts'
import { addSweep } from './sweep.ts'
import { addVerify } from './verify.ts'

/** Adds a command to the program; its action's result becomes the exit status. */
export type AddCommand = (
  program: Command,
  context: Context,
  finish: (status: ExitStatus | Promise<ExitStatus>) => Promise<void>,
) => void

const COMMANDS: readonly AddCommand[] = [
  addMount,
  addUnmount,
  addStatus,
  addMode,
  addMigrate,
  addVerify,
  addSweep,
  addRestore,
  addRebuild,
  addForget,
  addDoctor,
]

/** Runs one command line (without the program's name). Every failure is one line on standard error and a status. */
export async function runCli(args: readonly string[], outside: Context): Promise<ExitStatus> {
  const context = onLines(outside)
  let status: ExitStatus = EXIT.done
  const program = new Command('ferryfs')
    .description(
      'Moves a live file tree into a key-value store while the applications that use it keep running.',
    )
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => printText(context, text.trimEnd()),
      // Said once, by the catch below.
      writeErr: () => undefined,
    })
    .exitOverride()
  for (const add of COMMANDS) {
    add(program, context, async (result) => {
      status = await result
    })
  }
  if (args.length === 0) {
    for (const line of program.helpInformation().trimEnd().split('\n')) context.note(line)
    return EXIT.usage
  }
  try {
    const call = helperCall(args)
    if (call && isRemount(call.options)) return await remount(call, context)
    await program.parseAsync(call ? mountArguments(call) : [...args], { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.done
      context.note(`ferryfs: ${error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ')}`)
      return EXIT.usage
    }
    context.note(`ferryfs: ${withoutPasswords(reasonOf(error)).replace(/\s*\n\s*/g, ' ')}`)
    return exitStatusOf(error)
  }
}
