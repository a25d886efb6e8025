import { Command, CommanderError } from 'commander'
import { reasonOf } from '../base/errors.ts'
import { EXIT, exitStatusOf } from '../daemon/exit-status.ts'
import { withoutPasswords } from '../observe/redact.ts'
import { type Context, type ExitStatus, onLines, printText } from './context.ts'
import { helperCall, isRemount, mountArguments, remount } from './mount-helper.ts'

/** Adds a command to the program; its action's result becomes the exit status. */
export type AddCommand = (
  program: Command,
  context: Context,
  finish: (status: ExitStatus | Promise<ExitStatus>) => Promise<void>,
) => void

// Loaded where they are called: a command has no need of what the others work with, and that is most of its start.
const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  mount: async () => (await import('./mount.ts')).addMount,
  unmount: async () => (await import('./unmount.ts')).addUnmount,
  status: async () => (await import('./status.ts')).addStatus,
  mode: async () => (await import('./mode.ts')).addMode,
  migrate: async () => (await import('./migrate.ts')).addMigrate,
  verify: async () => (await import('./verify.ts')).addVerify,
  sweep: async () => (await import('./sweep.ts')).addSweep,
  restore: async () => (await import('./restore.ts')).addRestore,
  rebuild: async () => (await import('./rebuild.ts')).addRebuild,
  forget: async () => (await import('./forget.ts')).addForget,
  doctor: async () => (await import('./doctor.ts')).addDoctor,
}

/** The command that is called, as long as it has a name of ours; for help and for wrong words all of them. */
async function commandsFor(args: readonly string[]): Promise<readonly AddCommand[]> {
  const [name = ''] = args
  const called = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  return called ? [await called()] : await Promise.all(Object.values(COMMANDS).map((load) => load()))
}

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
  try {
    const call = helperCall(args)
    if (call && isRemount(call.options)) return await remount(call, context)
    const words = call ? mountArguments(call) : [...args]
    for (const add of await commandsFor(words)) {
      add(program, context, async (result) => {
        status = await result
      })
    }
    if (words.length === 0) {
      for (const line of program.helpInformation().trimEnd().split('\n')) context.note(line)
      return EXIT.usage
    }
    await program.parseAsync(words, { from: 'user' })
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
