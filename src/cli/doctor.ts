import { UsageError } from '../base/errors.ts'
import { OPTIONS } from '../config/options.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Context, ExitStatus } from './context.ts'
import { type Finding, inspectMachine } from './machine.ts'
import type { AddCommand } from './run.ts'
import { inspectStore } from './store-inspection.ts'

export const addDoctor: AddCommand = (program, context, finish) => {
  program
    .command('doctor')
    .description('is this machine, is this store, fit for it? what to do if not')
    .option('--store <url>', 'a store to look at too')
    .action((flags: { readonly store?: string }) => finish(doctor(flags.store, context)))
}

async function doctor(store: string | undefined, context: Context): Promise<ExitStatus> {
  if (store !== undefined && !OPTIONS.store.schema.safeParse(store).success) {
    throw new UsageError(`--store is not a store; allowed: ${OPTIONS.store.allowed}`)
  }
  const show = (findings: readonly Finding[]): void => {
    for (const { level, what, advice } of findings) {
      context.print(`${level.padEnd(4)}  ${what}`)
      for (const line of advice) context.print(`      ${line}`)
    }
  }
  const machine = await inspectMachine(context.environment)
  show(machine)
  if (store === undefined) return statusOf(machine)
  const { reachable, findings } = await inspectStore(store)
  show(findings)
  return reachable ? statusOf([...machine, ...findings]) : EXIT.storeUnreachable
}

function statusOf(findings: readonly Finding[]): ExitStatus {
  return findings.some(({ level }) => level === 'fail') ? EXIT.incomplete : EXIT.done
}
